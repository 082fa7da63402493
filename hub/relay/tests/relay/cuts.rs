//! How carriers end, and that nobody takes it for the end of a stream.

use std::{io, time::Duration};

use fairlead_model::{CarrierId, timers::CARRIER_DEAD};
use fairlead_tunnel::{CarrierEnd, NoAnswer, connect::RelayError, pool::CARRIERS_MAX};
use fairlead_wire::preface::Side;
use hub_relay::CarrierMeta;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::{
    proxy::{Meddling, Proxy},
    world::{Carrier, Connection, World, in_time},
};

async fn sees_a_reset(tcp: &mut tokio::net::TcpStream) {
    let error = in_time(tcp.read(&mut [0; 16])).await.expect_err("no end was sent");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_session_ends_its_streams_at_once_and_no_others() {
    let world = World::new().await;
    let path = world.consume().await.path().await;
    let other = world.consume().await.path().await;
    let Connection { mut app, mut service, .. } = path.connect().await;
    let mut untouched = other.connect().await;
    app.write_all(b"x").await.expect("taken");
    in_time(service.read_exact(&mut [0])).await.expect("through");
    assert_eq!(world.relay.cut_session(path.meta.session), 1);
    sees_a_reset(&mut app).await;
    sees_a_reset(&mut service).await;
    assert!(matches!(in_time(path.opener.closed()).await, CarrierEnd::Broken(_)));
    untouched.app.write_all(b"x").await.expect("taken");
    in_time(untouched.service.read_exact(&mut [0])).await.expect("through");
}

#[tokio::test]
async fn a_cut_session_loses_each_of_its_carriers_and_what_is_offered_to_it() {
    let world = World::new().await;
    let (first, offered) = (world.consume().await, world.offer().0);
    let session = first.meta.session;
    let mut carriers = vec![first];
    for _ in 1..CARRIERS_MAX {
        carriers.push(world.consume_of(session).await);
    }
    let waiting = CarrierMeta { session, ..offered };
    let offer = world.relay.offer(CarrierMeta { carrier: CarrierId::generate(), ..waiting });
    assert_eq!(world.relay.cut_session(session), CARRIERS_MAX + 1);
    for carrier in carriers {
        assert!(matches!(in_time(carrier.opener.closed()).await, CarrierEnd::Broken(_)));
        in_time(carrier.acceptor.handle().closed()).await;
    }
    let late = world.dial(&offer.expect("offered").laptop, Side::Laptop).await;
    assert!(matches!(late, Err(RelayError::Refused)));
}

#[tokio::test]
async fn a_network_that_swallows_packets_is_found_out_by_the_beat() {
    let world = World::new().await;
    let proxy = Proxy::before(&world.address).await;
    let (meta, laptop, cluster) = world.joined_through(&world.address, &proxy.address).await;
    let Carrier { opener, acceptor, .. } = world.consume_over(meta, laptop, cluster).await;
    opener.beat(Duration::from_secs(10)).await.expect("alive");
    proxy.swallow();
    assert_eq!(opener.beat(Duration::from_millis(300)).await, Err(NoAnswer));
    tokio::time::pause();
    let silent_at = Instant::now();
    assert_eq!(opener.closed().await, CarrierEnd::Silent);
    acceptor.handle().closed().await;
    assert!(silent_at.elapsed() <= CARRIER_DEAD, "{:?}", silent_at.elapsed());
}

#[tokio::test]
async fn any_byte_is_a_sign_of_life() {
    let world = World::new().await;
    let proxy = Proxy::before(&world.address).await;
    let (meta, laptop, cluster) = world.joined_through(&proxy.address, &world.address).await;
    let path = world.consume_over(meta, laptop, cluster).await.path().await;
    let Connection { mut service, .. } = path.connect().await;
    proxy.swallow_what_goes_out();
    let talks = tokio::spawn(async move {
        while service.write_all(b"still here").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    path.opener.beat(Duration::from_secs(10)).await.expect("it talks, if not about our PING");
    talks.abort();
    assert!(talks.await.expect_err("aborted").is_cancelled());
    // What it said last may still be on its way.
    let _last_words = path.opener.beat(Duration::from_millis(300)).await;
    assert_eq!(path.opener.beat(Duration::from_millis(300)).await, Err(NoAnswer));
}

#[tokio::test]
async fn a_carrier_that_answers_lives_however_long_it_is_idle() {
    let carrier = World::new().await.consume().await;
    // Paused time leaps to the next timer whenever everybody waits, so an hour takes moments.
    tokio::time::pause();
    tokio::time::sleep(CARRIER_DEAD * 4).await;
    tokio::time::resume();
    assert!(!carrier.opener.is_closed());
    carrier.opener.beat(Duration::from_secs(10)).await.expect("alive");
}

#[tokio::test]
async fn a_network_that_breaks_is_not_the_end_of_a_stream() {
    let world = World::new().await;
    let proxy = Proxy::before(&world.address).await;
    let (meta, laptop, cluster) = world.joined_through(&proxy.address, &world.address).await;
    let path = world.consume_over(meta, laptop, cluster).await.path().await;
    let Connection { mut app, mut service, .. } = path.connect().await;
    service.write_all(b"half of an ans").await.expect("taken");
    in_time(app.read_exact(&mut [0; 14])).await.expect("through");
    proxy.break_off();
    sees_a_reset(&mut app).await;
    sees_a_reset(&mut service).await;
}

#[tokio::test]
async fn bytes_that_are_lost_repeated_or_moved_end_the_carrier_with_a_reason() {
    for meddling in [Meddling::Lose, Meddling::Repeat, Meddling::Move] {
        let world = World::new().await;
        let proxy = Proxy::before(&world.address).await;
        let (meta, laptop, cluster) = world.joined_through(&proxy.address, &world.address).await;
        let Carrier { meta, opener, acceptor } = world.consume_over(meta, laptop, cluster).await;
        let agent = acceptor.handle().clone();
        let path = Carrier { meta, opener, acceptor }.path().await;
        let Connection { mut app, mut service, .. } = path.connect().await;
        proxy.meddle(meddling);
        let talks = tokio::spawn(async move {
            while service.write_all(&[7; 16 << 10]).await.is_ok() {}
            service
        });
        match in_time(path.opener.closed()).await {
            CarrierEnd::Broken(reason) => assert!(!reason.is_empty(), "{meddling:?}"),
            end => panic!("{meddling:?}: {end}"),
        }
        in_time(agent.closed()).await;
        let ended = in_time(async {
            loop {
                match app.read(&mut [0; 64 << 10]).await {
                    Ok(1..) => {}
                    ended => break ended,
                }
            }
        });
        let error = ended.await.expect_err("no end was sent");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{meddling:?}");
        drop(in_time(talks).await.expect("no panic"));
    }
}

#[tokio::test]
async fn a_drained_relay_lets_carriers_finish_and_cuts_the_rest() {
    let world = World::new().await;
    let (finishes, stays) = (world.consume().await, world.consume().await);
    let relay = world.relay.clone();
    let drained = tokio::spawn(async move { relay.drain(Duration::from_secs(3)).await });
    in_time(async {
        while world.relay.offer(stays.meta).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    finishes.opener.close();
    drop(finishes);
    assert!(!stays.opener.is_closed());
    assert_eq!(in_time(drained).await.expect("no panic"), 1);
    in_time(stays.opener.closed()).await;
}
