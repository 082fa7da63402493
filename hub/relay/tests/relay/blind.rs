//! The relay is blind: what applications say cannot be found in what passes it.
//!
//! A search that finds nothing proves little by itself. Built with `plain-for-tests`, the very same test demands that
//! the search does find it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    proxy::Proxy,
    world::{Connection, World, in_time},
};

const TEN_MEGABYTES: usize = 10 << 20;
const CANARY: &[u8] = b"the canary that nobody but the two applications may ever see";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_applications_say_is_seen_on_either_side_of_the_relay() {
    let world = World::new().await;
    let at_laptop = Proxy::before(&world.address).await;
    let at_cluster = Proxy::before(&world.address).await;
    let (meta, laptop, cluster) =
        world.joined_through(&at_laptop.address, &at_cluster.address).await;
    let path = world.consume_over(meta, laptop, cluster).await.path().await;
    let Connection { app, service, .. } = path.connect().await;
    let (at_app, at_service) = tokio::join!(exchange(app), exchange(service));
    assert!(at_app && at_service, "the applications have seen it");
    for proxy in [at_laptop, at_cluster] {
        assert!(proxy.bytes_seen() > 2 * TEN_MEGABYTES, "everything has passed here");
        assert_eq!(proxy.has_seen(CANARY), cfg!(feature = "plain-for-tests"));
    }
}

/// Says the canary over and over, hears as much, and says whether that was the canary too.
async fn exchange(tcp: tokio::net::TcpStream) -> bool {
    let said = CANARY.repeat(TEN_MEGABYTES / CANARY.len() + 1);
    let mut heard = vec![0; said.len()];
    let (mut read, mut write) = tcp.into_split();
    let (read, wrote) =
        tokio::join!(in_time(read.read_exact(&mut heard)), in_time(write.write_all(&said)));
    read.map(drop).and(wrote).expect("exchanged");
    heard == said
}
