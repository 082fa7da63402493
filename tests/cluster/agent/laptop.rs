//! A laptop that is nothing but its end of the carriers: it takes streams and connects them to a port of its own,
//! where a role of the shop answers. Killing it cuts its sockets as the end of a process would.

use std::{process::Child, sync::Arc, thread::JoinHandle, time::SystemTime};

use anyhow::Context;
use fairlead_lab::{Host, Lab, sibling};
use fairlead_model::{DeviceId, Thumbprint, UserId};
use fairlead_tunnel::{
    Acceptor, Incoming, PeerExpectation, TlsIdentity, both_ways, connect::dial_relay,
};
use fairlead_wire::{
    authority::DeviceRequest,
    identity::{DeviceName, thumbprint_of},
    key::Key,
    link::v1::CarrierOffer,
    open::Refusal,
    preface::Side,
    ticket::Ticket,
};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::hub::TestHub;

pub(crate) const PORT: u16 = 3000;
pub(crate) const NAME: &str = "ada-laptop";

/// The key that stays when the laptop's process goes.
#[derive(Clone)]
pub(crate) struct Device {
    identity: TlsIdentity,
    pub(crate) thumbprint: Thumbprint,
}

impl Device {
    pub(crate) fn enrol(hub: &TestHub) -> anyhow::Result<Self> {
        let key = Key::generate()?;
        let request = DeviceRequest::parse_pem(&DeviceRequest::make_pem(&key)?)?;
        let name = DeviceName {
            organization: hub.shared.org,
            user: UserId::generate(),
            device: DeviceId::generate(),
        };
        let signed = hub.shared.organization.sign_device(&request, name, SystemTime::now())?;
        let identity = TlsIdentity::new(vec![signed.certificate], &key)?;
        Ok(Self { identity, thumbprint: key.thumbprint() })
    }
}

/// The process that answers in the developer's place.
pub(crate) struct OwnProcess(Child);

impl OwnProcess {
    pub(crate) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let mut command = lab.exec(Host::Laptop, sibling("shop")?);
        command.args(["cart", "--listen", &format!("127.0.0.1:{PORT}"), "--name", NAME]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

pub(crate) struct TestLaptop {
    end: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl TestLaptop {
    pub(crate) fn start(lab: &Lab, hub: &TestHub, device: &Device) -> anyhow::Result<Self> {
        let mut offers = hub.laptop_offers();
        let end = CancellationToken::new();
        let (ended, device) = (end.clone(), Arc::new(device.clone()));
        let thread = lab.on(Host::Laptop, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        Some(offer) = offers.recv() => {
                            let device = Arc::clone(&device);
                            tokio::spawn(async move {
                                if let Err(error) = carry(offer, &device).await {
                                    eprintln!("laptop: {error:#}");
                                }
                            });
                        }
                        () = ended.cancelled() => return,
                    }
                }
            });
            // Nothing is said goodbye to: sockets close as they do when a process is killed.
            runtime.shutdown_background();
            Ok(())
        })?;
        Ok(Self { end, thread: Some(thread) })
    }

    pub(crate) fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Drop for TestLaptop {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn carry(offer: CarrierOffer, device: &Device) -> anyhow::Result<()> {
    let ticket = Ticket::from_slice(&offer.ticket).context("a ticket")?;
    let tcp = dial_relay(&offer.relay, &ticket, Side::Laptop).await?;
    let teamspace = CertificateDer::from(offer.teamspace_certificate);
    let pinned = thumbprint_of(&teamspace)?;
    let peer = PeerExpectation::replica(teamspace, &pinned)?;
    let (mut acceptor, driver) = Acceptor::handshake(tcp, &device.identity, &peer).await?;
    tokio::spawn(driver);
    while let Some(incoming) = acceptor.next().await {
        let Incoming::Open(offer) = incoming else { continue };
        tokio::spawn(async move {
            match TcpStream::connect(("127.0.0.1", PORT)).await {
                Ok(own) => {
                    if let Ok(stream) = offer.accept() {
                        both_ways(stream, own).await;
                    }
                }
                Err(error) => offer
                    .refuse(Refusal::Unreachable, format!("nothing listens on {PORT}: {error}")),
            }
        });
    }
    Ok(())
}
