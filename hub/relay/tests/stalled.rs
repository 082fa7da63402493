//! Many readers that have stopped, on all carriers of a tunnel. What they hold is counted for a whole process, so this has
//! one of its own.

#[path = "relay/world.rs"]
#[expect(dead_code, reason = "the world offers more than this one test needs")]
mod world;

use std::time::Duration;

use fairlead_tunnel::{pool::CARRIERS_MAX, unread};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use crate::world::{Connection, Path, World, in_time};

const READERS: usize = 64;
const CAP_BYTES: usize = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_readers_that_have_stopped_stay_within_the_cap_and_disturb_nobody() {
    unread::cap_at(CAP_BYTES);
    let world = World::new().await;
    let mut tunnel = Vec::new();
    for _ in 0..CARRIERS_MAX {
        tunnel.push(world.consume().await.path().await);
    }
    let mut echoes = Vec::new();
    for path in &tunnel {
        echoes.push(echo(path).await);
    }
    let mut stalled = Vec::new();
    for n in 0..READERS {
        let Connection { app, mut service, .. } = tunnel[n % CARRIERS_MAX].connect().await;
        let talks = tokio::spawn(async move {
            // Far more than the application will read; ends when the far side has been aborted.
            while service.write_all(&[7; 64 << 10]).await.is_ok() {}
        });
        stalled.push((app, AbortOnDropHandle::new(talks)));
    }

    let gone = || stalled.iter().filter(|(_, talks)| talks.is_finished()).count();
    in_time(async {
        while gone() == 0 || unread::held() > CAP_BYTES {
            for (path, (app, _)) in tunnel.iter().zip(&mut echoes) {
                is_echoed(app).await;
                path.opener.beat(Duration::from_secs(30)).await.expect("it is not silent");
            }
        }
    })
    .await;

    assert!(gone() < READERS, "somebody had to go, and not everybody");
    assert!(unread::held() > 0, "the others are still held for");
    for (path, (mut app, _)) in tunnel.iter().zip(echoes) {
        is_echoed(&mut app).await;
        assert!(!path.opener.is_closed());
    }
}

/// A connection to a service that repeats what it hears.
async fn echo(path: &Path) -> (TcpStream, AbortOnDropHandle<()>) {
    let Connection { app, service, .. } = path.connect().await;
    let repeats = tokio::spawn(async move {
        let (mut read, mut write) = service.into_split();
        tokio::io::copy(&mut read, &mut write).await.expect("echoed");
    });
    (app, AbortOnDropHandle::new(repeats))
}

async fn is_echoed(app: &mut TcpStream) {
    app.write_all(&[7; 1024]).await.expect("taken");
    in_time(app.read_exact(&mut [0; 1024])).await.expect("echoed");
}
