//! Who comes in at the raw port, and who does not.

use std::time::Duration;

use fairlead_model::timers::{PREFACE, TICKET_LIFE};
use fairlead_tunnel::{connect::RelayError, connection::Connection};
use fairlead_wire::{preface::Side, ticket::Ticket};
use hub_relay::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{PATIENCE, World, in_time};

fn refused(result: Result<Connection, RelayError>) -> bool {
    matches!(result, Err(RelayError::Refused))
}

#[tokio::test]
async fn a_ticket_is_good_once() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    let (laptop, cluster) = tokio::join!(
        world.dial(&offer.laptop, Side::Laptop),
        world.dial(&offer.cluster, Side::Cluster)
    );
    let (mut laptop, mut cluster) = (laptop.expect("joined"), cluster.expect("joined"));
    assert!(refused(in_time(world.dial(&offer.laptop, Side::Laptop)).await));
    laptop.write_all(b"x").await.expect("taken");
    in_time(cluster.read_exact(&mut [0])).await.expect("the first pair is not disturbed");
}

#[tokio::test]
async fn a_ticket_of_the_other_side_and_an_unknown_one_are_refused_alike() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    assert!(refused(in_time(world.dial(&offer.laptop, Side::Cluster)).await));
    assert!(refused(in_time(world.dial(&Ticket::draw(), Side::Laptop)).await));
}

#[tokio::test]
async fn an_expired_ticket_is_refused() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    tokio::time::pause();
    tokio::time::advance(TICKET_LIFE + Duration::from_millis(1)).await;
    tokio::time::resume();
    assert!(refused(in_time(world.dial(&offer.laptop, Side::Laptop)).await));
}

#[tokio::test]
async fn a_half_whose_other_half_does_not_come_is_sent_away() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    tokio::time::pause();
    assert!(refused(world.dial(&offer.laptop, Side::Laptop).await));
    tokio::time::resume();
    assert!(refused(in_time(world.dial(&offer.cluster, Side::Cluster)).await));
}

#[tokio::test]
async fn a_half_that_hangs_up_leaves_nothing_behind() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    let preface = fairlead_wire::preface::Preface { side: Side::Laptop, ticket: offer.laptop };
    let mut first = TcpStream::connect(&world.address).await.expect("listening");
    first.write_all(&preface.encode()).await.expect("taken");
    drop(first);
    assert!(refused(in_time(world.dial(&offer.cluster, Side::Cluster)).await));
    assert_eq!(in_time(world.relay.drain(PATIENCE)).await, 0, "there was nothing left to cut");
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_is_closed_without_a_word() {
    let world = World::new().await;
    let mut silent = TcpStream::connect(&world.address).await.expect("listening");
    let mut browser = TcpStream::connect(&world.address).await.expect("listening");
    browser
        .write_all(b"GET / HTTP/1.1\r\nHost: hub.example.com\r\nAccept: */*\r\n\r\n")
        .await
        .expect("taken");
    let mut answer = Vec::new();
    // The relay closes with bytes unread, which some systems show as a reset.
    drop(in_time(browser.read_to_end(&mut answer)).await);
    tokio::time::pause();
    tokio::time::timeout(PREFACE * 2, silent.read_to_end(&mut answer))
        .await
        .expect("closed in time")
        .expect("closed");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn strangers_beyond_the_limit_are_closed_at_once() {
    let world = World::with_limits(Limits { strangers: 1, ..Limits::default() }).await;
    let first = TcpStream::connect(&world.address).await.expect("listening");
    let mut second = TcpStream::connect(&world.address).await.expect("listening");
    let read = in_time(second.read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(first);
}
