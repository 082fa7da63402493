//! What a pair of halves costs the hub's relay that is joined and silent. The relay is the hub's own, alone in this
//! process: a real tunnel cannot be had without a laptop each, and the hub does other things meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use fairlead_model::{CarrierId, OrgId, SessionId, UserId};
use fairlead_tests::Process;
use fairlead_wire::{
    preface::{Preface, Side},
    ticket::Ticket,
};
use hub_relay::{CarrierMeta, Limits, Relay};
use tokio::{net::TcpListener, runtime};

const BATCHES: usize = 5;
/// What is allocated once, with the first pairs.
const FIRST: usize = 20;

/// Returns the KB of each pair, batch by batch.
pub(crate) fn memory_of_pairs(pairs: usize) -> anyhow::Result<Vec<f64>> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let relay = Relay::new(Limits { strangers: 64, ..Limits::default() });
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let door = listener.local_addr()?;
    let serving = relay.clone();
    runtime.spawn(async move { serving.serve(listener).await });
    let mut open = join_each(&relay, door, FIRST)?;
    let own = Process::of_this_program();
    let mut found = Vec::new();
    for _ in 0..BATCHES {
        let before = own.memory_kb()?;
        open.extend(join_each(&relay, door, pairs)?);
        let grown = own.memory_kb()?.saturating_sub(before);
        found.push(f64::from(u32::try_from(grown)?) / f64::from(u32::try_from(pairs)?));
    }
    Ok(found)
}

fn join_each(relay: &Relay, door: SocketAddr, pairs: usize) -> anyhow::Result<Vec<[TcpStream; 2]>> {
    // One organization per pair: none may have so many.
    let meta = || CarrierMeta {
        carrier: CarrierId::generate(),
        session: SessionId::generate(),
        organization: OrgId::generate(),
        user: UserId::generate(),
    };
    let join = |_| {
        let offer = relay.offer(meta())?;
        let mut laptop = half(door, Side::Laptop, offer.laptop)?;
        let mut cluster = half(door, Side::Cluster, offer.cluster)?;
        laptop.read_exact(&mut [0])?;
        cluster.read_exact(&mut [0])?;
        Ok([laptop, cluster])
    };
    (0..pairs).map(join).collect()
}

fn half(door: SocketAddr, side: Side, ticket: Ticket) -> anyhow::Result<TcpStream> {
    let mut tcp = TcpStream::connect(door)?;
    tcp.write_all(&Preface { side, ticket }.encode())?;
    Ok(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_joined_batch_by_batch() {
        assert_eq!(memory_of_pairs(2).expect("measured").len(), BATCHES);
    }
}
