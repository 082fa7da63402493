//! The connection under a carrier's HTTP/2: TLS 1.3 over whatever was dialled.

use std::{io, sync::Arc, time::Duration};

use fairlead_model::timers::HANDSHAKE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy, sink},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    carrier::{HandshakeError, READ_BUFFER_BYTES, TLS_BUFFER_BYTES},
    connection::Io,
    heard::Secured,
    tls::{ALPN, PeerExpectation, TlsIdentity, acceptor_config, opener_config},
};

/// After a refusal the connection is closed within this time, or when so much more has come.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_MAX_BYTES: u64 = READ_BUFFER_BYTES as u64;

/// Begins TLS as the end that opens streams.
pub(crate) async fn secure_opener(
    io: impl Io,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<Secured, HandshakeError> {
    if cfg!(feature = "plain-for-tests") {
        return Ok(Secured::new(io));
    }
    let config = Arc::new(opener_config(identity, expected)?);
    let handshake =
        TlsConnector::from(config).connect_with(expected.server_name(), buffered(io), |tls| {
            tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        });
    let tls = in_time(handshake).await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok(Secured::new(tls))
}

/// Begins TLS as the end that takes streams.
pub(crate) async fn secure_acceptor(
    io: impl Io,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<Secured, HandshakeError> {
    if cfg!(feature = "plain-for-tests") {
        return Ok(Secured::new(io));
    }
    let config = Arc::new(acceptor_config(identity, expected)?);
    let handshake = TlsAcceptor::from(config)
        .accept_with(buffered(io), |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)))
        .into_fallible();
    let tls = in_time(async {
        match handshake.await {
            Ok(tls) => Ok(tls),
            Err((error, io)) => {
                let_go(io).await;
                Err(error)
            }
        }
    })
    .await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok(Secured::new(tls))
}

/// Gives whoever was refused the time to read why: closed with bytes unread, a connection is reset, and the alert that
/// says it is lost on the way.
async fn let_go(mut io: impl Io) {
    let farewell = async {
        io.shutdown().await?;
        copy(&mut io.take(FAREWELL_MAX_BYTES), &mut sink()).await
    };
    // They may be gone, or never go; both are their affair.
    drop(timeout(FAREWELL, farewell).await);
}

fn buffered(io: impl Io) -> BufReader<impl Io> {
    BufReader::with_capacity(READ_BUFFER_BYTES, io)
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, HandshakeError> {
    timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| HandshakeError::TimedOut)?
        .map_err(HandshakeError::of)
}

fn spoke(protocol: Option<&[u8]>) -> Result<(), HandshakeError> {
    if protocol == Some(ALPN) { Ok(()) } else { Err(HandshakeError::OtherProtocol) }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fairlead_model::{DeviceId, OrgId, UserId};
    use fairlead_wire::{
        authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority},
        identity::DeviceName,
        key::Key,
    };
    use tokio::{
        io::duplex,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn a_laptop_that_still_speaks_when_it_is_refused_reads_why() {
        let (near, far) = connection().await;
        let (near, heard) = twice(near);
        let (laptop, agent) = (Laptop::new(), Agent::new());
        let expected = agent.expected();
        tokio::spawn(async move { agent.refuses(far).await });
        let mut opener = laptop.begins(near, &expected).await;
        // More than is read together with the certificate.
        opener.write_all(&[0; READ_BUFFER_BYTES]).await.expect("sent");
        heard.peek(&mut [0]).await.expect("an alert");
        // It writes before it reads, as HTTP/2 does.
        opener.write_all(&[0]).await.expect("nobody has hung up");
        let refused = HandshakeError::of(opener.read_u8().await.expect_err("refused"));
        assert!(matches!(refused, HandshakeError::NotAccepted(_)), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_laptop_that_never_hangs_up_is_not_waited_for() {
        let (near, far) = duplex(READ_BUFFER_BYTES);
        let (laptop, agent) = (Laptop::new(), Agent::new());
        let expected = agent.expected();
        let refused = tokio::spawn(async move { agent.refuses(far).await });
        let _opener = laptop.begins(near, &expected).await;
        let refused = refused.await.expect("no panic");
        assert!(matches!(refused, HandshakeError::NotTrusted(_)), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_laptop_that_never_falls_silent_is_not_listened_to() {
        let (near, far) = duplex(READ_BUFFER_BYTES);
        let (laptop, agent) = (Laptop::new(), Agent::new());
        let expected = agent.expected();
        tokio::spawn(async move { agent.refuses(far).await });
        let mut opener = laptop.begins(near, &expected).await;
        let mut said = Ok(());
        for _ in 0..64 {
            said = said.and(opener.write_all(&[0; READ_BUFFER_BYTES]).await);
        }
        said.expect_err("the connection is closed");
    }

    struct Laptop(TlsIdentity);

    impl Laptop {
        fn new() -> Self {
            let key = Key::generate().expect("made");
            let request = DeviceRequest::make_pem(&key).expect("made");
            let request = DeviceRequest::parse_pem(&request).expect("its own");
            let name = DeviceName {
                organization: OrgId::generate(),
                user: UserId::generate(),
                device: DeviceId::generate(),
            };
            let signed = organization().sign_device(&request, name, SystemTime::now());
            let chain = vec![signed.expect("signed").certificate];
            Self(TlsIdentity::new(chain, &key).expect("fits"))
        }

        /// Says the last word of the handshake; whether it is refused it does not know yet.
        async fn begins(&self, io: impl Io, expected: &PeerExpectation) -> Secured {
            let Ok(secured) = secure_opener(io, &self.0, expected).await else {
                panic!("a laptop is refused only after that")
            };
            secured
        }
    }

    /// Expects a laptop of an organization of its own, which nobody belongs to.
    struct Agent {
        identity: TlsIdentity,
        teamspace: TeamspaceAuthority,
    }

    impl Agent {
        fn new() -> Self {
            let key = Key::generate().expect("made");
            let teamspace = TeamspaceAuthority::create(key, SystemTime::now()).expect("made");
            let key = Key::generate().expect("made");
            let leaf = teamspace.sign_replica(&key, "agent-1", SystemTime::now()).expect("signed");
            let identity = TlsIdentity::new(vec![leaf], &key).expect("fits");
            Self { identity, teamspace }
        }

        fn expected(&self) -> PeerExpectation {
            PeerExpectation::Replica { teamspace: self.teamspace.certificate().clone() }
        }

        async fn refuses(&self, io: impl Io) -> HandshakeError {
            let nobody = Key::generate().expect("made").thumbprint();
            let expected = PeerExpectation::device(organization().certificate().clone(), nobody);
            let accepted = secure_acceptor(io, &self.identity, &expected).await;
            accepted.err().expect("a stranger")
        }
    }

    fn organization() -> OrganizationAuthority {
        let key = Key::generate().expect("made");
        OrganizationAuthority::create(OrgId::generate(), key, SystemTime::now()).expect("made")
    }

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("connected").0)
    }

    /// Returns a connection, and a second hold on it that shows what has arrived.
    fn twice(io: TcpStream) -> (TcpStream, TcpStream) {
        let io = io.into_std().expect("idle");
        let again = io.try_clone().expect("a descriptor");
        (TcpStream::from_std(io).expect("idle"), TcpStream::from_std(again).expect("idle"))
    }
}
