//! One frame: four bytes of length, then JSON. In a blocking form for the supervisor and an async one for the rest.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{Failure, FailureKind};

/// Version of everything in this crate. Rises with each change that an older part would misread.
pub const PROTOCOL: u32 = 2;

/// Room for the largest honest message: a footprint of 6,000 services.
pub const FRAME_MAX_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("a message of {0} bytes is larger than {FRAME_MAX_BYTES}")]
    TooLarge(usize),
    #[error("the message is not understood")]
    Malformed(#[source] serde_json::Error),
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// A request with the version its sender speaks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call<R> {
    pub protocol: u32,
    pub request: R,
}

impl<R> Call<R> {
    pub const fn new(request: R) -> Self {
        Self { protocol: PROTOCOL, request }
    }
}

/// A request whose version is not looked at yet; one of another version may hold anything.
pub type AnyCall = Call<serde_json::Value>;

impl AnyCall {
    /// Returns the request when its sender speaks our version.
    pub fn understood<R: DeserializeOwned>(self) -> Result<R, Failure> {
        if self.protocol != PROTOCOL {
            return Err(Failure::version(self.protocol));
        }
        serde_json::from_value(self.request)
            .map_err(|error| Failure::new(FailureKind::Input, format!("unknown request: {error}")))
    }
}

/// Reads one frame.
pub async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<T, FrameError> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut body = vec![0; checked(length)?];
    from.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map_err(FrameError::Malformed)
}

/// Writes one frame.
pub async fn write<T: Serialize + Sync>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    to.write_all(&encode(message)?).await?;
    Ok(to.flush().await?)
}

/// Reads one frame from a blocking stream.
pub fn read_blocking<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut body = vec![0; checked(length)?];
    from.read_exact(&mut body)?;
    serde_json::from_slice(&body).map_err(FrameError::Malformed)
}

/// Writes one frame to a blocking stream.
pub fn write_blocking<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    Ok(to.flush()?)
}

/// Sends one call and reads its reply. One who is too busy may answer before hearing the question, and close.
pub async fn ask<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: impl Serialize + Sync,
) -> Result<T, FrameError> {
    let sent = write(stream, &Call::new(request)).await;
    let reply = read(stream).await;
    if reply.is_err() { sent.and(reply) } else { reply }
}

/// Sends one call to a blocking stream and reads its reply, in the same way.
pub fn ask_blocking<T: DeserializeOwned>(
    stream: &mut (impl Read + Write),
    request: impl Serialize,
) -> Result<T, FrameError> {
    let sent = write_blocking(stream, &Call::new(request));
    let reply = read_blocking(stream);
    if reply.is_err() { sent.and(reply) } else { reply }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Malformed)?;
    let body = frame.len() - 4;
    if body > FRAME_MAX_BYTES {
        return Err(FrameError::TooLarge(body));
    }
    let length = u32::try_from(body).expect("below FRAME_MAX_BYTES");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn checked(length: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_MAX_BYTES { Err(FrameError::TooLarge(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_forms_speak_the_same_bytes() {
        let mut frame = Vec::new();
        write(&mut frame, &Call::new("status")).await.expect("written");
        assert_eq!(&frame[..4], &[0, 0, 0, 33]);
        let call: Call<String> = read_blocking(&mut frame.as_slice()).expect("read");
        assert_eq!((call.protocol, call.request.as_str()), (PROTOCOL, "status"));
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_reserved() {
        let error = read_blocking::<String>(&mut [0xff; 8].as_slice()).expect_err("refused");
        assert!(matches!(error, FrameError::TooLarge(_)), "{error}");
    }

    #[test]
    fn a_call_of_another_version_is_told_so_whatever_it_asks() {
        let mut frame = Vec::new();
        let call = Call { protocol: 9, request: serde_json::json!({ "ask": "fly" }) };
        write_blocking(&mut frame, &call).expect("written");
        let call: AnyCall = read_blocking(&mut frame.as_slice()).expect("read");
        let failure = call.understood::<crate::daemon::Request>().expect_err("other version");
        assert_eq!(failure.kind, FailureKind::Version);
    }

    #[test]
    fn half_a_frame_is_a_closed_connection() {
        let error = read_blocking::<String>(&mut [0, 0, 0, 9, b'"'].as_slice()).expect_err("half");
        assert!(matches!(error, FrameError::Closed), "{error}");
    }

    #[test]
    fn an_answer_is_heard_from_one_who_did_not_wait_for_the_question() {
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().expect("pair");
        write_blocking(&mut far, &"busy").expect("written");
        drop(far);
        assert_eq!(ask_blocking::<String>(&mut near, "status").expect("heard"), "busy");
    }
}
