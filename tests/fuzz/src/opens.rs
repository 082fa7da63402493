//! What comes before and around the bytes of an application: the relay's preface with its ticket, and the wish to open
//! a stream.

use fairlead_wire::{
    open::{OpenRequest, Refused},
    preface::{Answer, PREFACE_BYTES, Preface},
    ticket::Ticket,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// The same bytes are read as each of them; whatever is accepted is written as it was read.
pub fn opens(bytes: &[u8]) {
    preface(bytes);
    open(&headers(bytes));
    refusal(bytes);
}

fn preface(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk::<PREFACE_BYTES>()
        && let Ok(preface) = Preface::parse(head)
    {
        assert_eq!(&preface.encode(), head);
    }
    if let Some(ticket) = Ticket::from_slice(bytes) {
        assert_eq!(ticket.expose().as_slice(), bytes);
    }
    for code in bytes.iter().take(1) {
        assert!(Answer::parse(*code).is_none_or(|answer| answer.code() == *code));
    }
}

fn open(headers: &HeaderMap) {
    let Ok(wish) = OpenRequest::parse(headers) else { return };
    let head = wish.to_head();
    assert_eq!(OpenRequest::parse(head.headers()), Ok(wish));
}

fn refusal(bytes: &[u8]) {
    let Some((code, reason)) = bytes.split_first_chunk::<2>() else { return };
    let mut head = Response::new(());
    *head.status_mut() =
        StatusCode::from_u16(u16::from_be_bytes(*code)).unwrap_or(StatusCode::BAD_GATEWAY);
    if let Ok(value) = HeaderValue::from_bytes(reason) {
        head.headers_mut().insert("fairlead-reason", value);
    }
    let refused = Refused::from_head(&head);
    assert_eq!(Refused::from_head(&refused.to_head()).refusal, refused.refusal);
}

/// Lines `name: value`, as many as make a head.
fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}
