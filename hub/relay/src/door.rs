//! The raw port: who comes in, shows a ticket, and waits for the other half.

use std::{io, time::Duration};

use fairlead_model::{CarrierId, timers::PREFACE};
use fairlead_tunnel::socket::tune_for_wan;
use fairlead_wire::preface::{Answer, PREFACE_BYTES, Preface, Side};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    carriers::{Redeemed, Waiting},
    half::Half,
    relay::Relay,
    splice::splice,
};

/// Waits this long when the process has no file descriptor left for a further connection.
const BREATHER: Duration = Duration::from_millis(100);

impl Relay {
    /// Takes in halves of carriers on the raw port until the relay is drained, and then sees the joined ones to their
    /// end.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        let mut visitors = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, _)) => receive(self, tcp, &mut visitors),
                    Err(error) => {
                        tracing::warn!(%error, "Could not take in a connection");
                        sleep(BREATHER).await;
                    }
                },
                Some(_) = visitors.join_next() => {}
                () = self.stopping().cancelled() => break,
            }
        }
        drop(listener);
        while visitors.join_next().await.is_some() {}
        Ok(())
    }
}

fn receive(relay: &Relay, tcp: TcpStream, visitors: &mut JoinSet<()>) {
    let Ok(stranger) = relay.strangers().clone().try_acquire_owned() else {
        tracing::warn!("Too many connections without a ticket: one was closed");
        return;
    };
    let relay = relay.clone();
    visitors.spawn(async move {
        let Some((preface, tcp)) = introduce(tcp).await else { return };
        drop(stranger);
        seat(&relay, &preface, Half::Raw(tcp)).await;
    });
}

/// Reads what a visitor says of itself; a visitor that says nothing intelligible in time is closed without a word.
async fn introduce(mut tcp: TcpStream) -> Option<(Preface, TcpStream)> {
    let mut bytes = [0; PREFACE_BYTES];
    let read = async {
        tune_for_wan(&tcp)?;
        tcp.read_exact(&mut bytes).await
    };
    match timeout(PREFACE, read).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "A connection ended before it said what it is");
            return None;
        }
        Err(_) => {
            tracing::debug!("A connection did not say in time what it is");
            return None;
        }
    }
    Some((understood(&bytes)?, tcp))
}

/// Reads the preface of whoever came in, whichever way.
pub(crate) fn understood(bytes: &[u8; PREFACE_BYTES]) -> Option<Preface> {
    Preface::parse(bytes)
        .inspect_err(|error| tracing::debug!(%error, "A connection is no half of a carrier"))
        .ok()
}

/// Gives a half the place that its ticket says, and carries it from there on.
pub(crate) async fn seat(relay: &Relay, preface: &Preface, mut half: Half) {
    match relay.redeem(preface) {
        Ok(Redeemed::First { wait, deadline }) => {
            let _forget = Forget { relay, carrier: wait.meta.carrier };
            half.answer(Answer::Waiting).await;
            wait_and_join(wait, deadline, preface.side, half).await;
        }
        Ok(Redeemed::Second(first)) => {
            if let Err(mut half) = first.send(half) {
                tracing::debug!("The first half of a carrier has gone");
                half.answer(Answer::Refused).await;
            }
        }
        Err(reason) => {
            tracing::info!(%reason, side = ?preface.side, "A ticket was refused");
            half.answer(Answer::Refused).await;
        }
    }
}

async fn wait_and_join(mut wait: Waiting, deadline: Instant, side: Side, mut first: Half) {
    let second = tokio::select! {
        second = timeout_at(deadline, &mut wait.second) => second.ok().and_then(Result::ok),
        () = wait.cut.cancelled() => None,
        () = first.hung_up() => None,
    };
    if let Some(second) = second {
        join(&wait, side, first, second).await;
    } else {
        tracing::debug!(carrier = %wait.meta.carrier, "The other half of a carrier did not come");
        first.answer(Answer::Refused).await;
    }
}

/// Joins the halves until one of them ends or somebody cuts them.
async fn join(carrier: &Waiting, first_side: Side, mut first: Half, mut second: Half) {
    first.answer(Answer::Paired).await;
    second.answer(Answer::Paired).await;
    let (mut laptop, mut cluster) = match first_side {
        Side::Laptop => (first, second),
        Side::Cluster => (second, first),
    };
    let ended = tokio::select! {
        ended = splice(&mut laptop, &mut cluster) => ended,
        () = carrier.cut.cancelled() => {
            laptop.abort_on_close();
            cluster.abort_on_close();
            Ok(())
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, carrier = %carrier.meta.carrier, "A carrier broke");
    }
}

/// Forgets a carrier when its first half is done with it, however that comes about.
struct Forget<'r> {
    relay: &'r Relay,
    carrier: CarrierId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.relay.forget(self.carrier);
    }
}

#[cfg(test)]
mod tests {
    use fairlead_wire::ticket::Ticket;

    use super::*;
    use crate::Limits;

    #[tokio::test]
    async fn a_half_that_is_idle_needs_little_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let half = Half::Raw(TcpStream::connect(address).await.expect("listening"));
        let relay = Relay::new(Limits::default());
        let preface = Preface { side: Side::Laptop, ticket: Ticket::draw() };
        let bytes = size_of_val(&seat(&relay, &preface, half));
        assert!(bytes <= 1536, "{bytes} bytes, and the hub has thousands of them");
    }
}
