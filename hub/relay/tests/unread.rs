//! The cap on unread bytes belongs to a whole process, so its test has one of its own.

#[path = "relay/world.rs"]
#[expect(dead_code, reason = "the world offers more than this one test needs")]
mod world;

use std::io::ErrorKind;

use fairlead_tunnel::{Ending, unread};
use tokio::{io::AsyncWriteExt, task::JoinSet};

use crate::world::{Connection, World, in_time};

const CAP_BYTES: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_have_stopped_are_aborted_until_the_rest_fits() {
    unread::cap_at(CAP_BYTES);
    let path = World::new().await.consume().await.path().await;
    let mut apps = Vec::new();
    let mut daemons = JoinSet::new();
    for _ in 0..6 {
        let Connection { app, mut service, daemon } = path.connect().await;
        // Far more than the application will read; ends when the far side has been aborted.
        tokio::spawn(async move { while service.write_all(&[7; 64 << 10]).await.is_ok() {} });
        apps.push(app);
        daemons.spawn(daemon);
    }
    let first = in_time(daemons.join_next()).await.expect("six").expect("no panic");
    let Ending::SocketAborted(why) = first.expect("no panic").ending else {
        panic!("it did not have to go")
    };
    assert_eq!(why.kind(), ErrorKind::QuotaExceeded);
    let still_there = apps.iter().filter(|app| app.take_error().is_ok_and(|e| e.is_none())).count();
    assert!(still_there >= 1, "not everybody had to go");
    assert!(!path.opener.is_closed());
}
