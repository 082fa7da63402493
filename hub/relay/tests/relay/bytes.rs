//! What applications see: their bytes, their ends, their aborts.

use std::{io, time::Duration};

use fairlead_tunnel::{Ending, Incoming, Stream};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::world::{Carrier, Connection, GREETING, PATIENCE, World, in_time, noise, wish};

const TEN_MEGABYTES: usize = 10 << 20;

async fn connection() -> Connection {
    World::new().await.consume().await.path().await.connect().await
}

/// Writes everything and ends; reads until the end. Both at once, as applications do.
pub(crate) async fn talk(tcp: TcpStream, said: Vec<u8>) -> Vec<u8> {
    let (mut read, mut write) = tcp.into_split();
    let said = tokio::spawn(async move {
        write.write_all(&said).await.expect("taken");
        write.shutdown().await.expect("ended");
    });
    let mut heard = Vec::new();
    in_time(read.read_to_end(&mut heard)).await.expect("ended in good order");
    said.await.expect("no panic");
    heard
}

fn abort(tcp: TcpStream) {
    fairlead_tunnel::socket::abort_on_close(&tcp);
    drop(tcp);
}

async fn sees_a_reset(mut tcp: TcpStream) {
    let error = in_time(tcp.read(&mut [0; 16])).await.expect_err("an abort is not an end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_arrive_whole_both_ways_at_once() {
    let Connection { app, service, daemon } = connection().await;
    let (up, down) = (noise(TEN_MEGABYTES), noise(TEN_MEGABYTES));
    let (at_service, at_app) = tokio::join!(talk(service, down.clone()), talk(app, up.clone()));
    assert_eq!(Sha256::digest(&at_service), Sha256::digest(&up));
    assert_eq!(Sha256::digest(&at_app), Sha256::digest(&down));
    let copied = in_time(daemon).await.expect("no panic");
    assert!(matches!(copied.ending, Ending::Clean), "{copied:?}");
    assert_eq!(copied.up, (GREETING.len() + TEN_MEGABYTES) as u64);
    assert_eq!(copied.down, TEN_MEGABYTES as u64);
}

#[tokio::test]
async fn a_service_that_answers_after_the_end_of_the_request_is_heard() {
    let Connection { mut app, mut service, daemon } = connection().await;
    app.write_all(b"request").await.expect("taken");
    app.shutdown().await.expect("half closed");
    let mut request = String::new();
    in_time(service.read_to_string(&mut request)).await.expect("ended");
    assert_eq!(request, "request");
    let answer = noise(1 << 20);
    service.write_all(&answer).await.expect("taken");
    drop(service);
    let mut heard = Vec::new();
    in_time(app.read_to_end(&mut heard)).await.expect("ended");
    assert_eq!(heard, answer);
    assert!(matches!(in_time(daemon).await.expect("no panic").ending, Ending::Clean));
}

#[tokio::test]
async fn a_service_that_ends_first_still_hears_the_application() {
    let Connection { mut app, mut service, .. } = connection().await;
    service.write_all(b"greeting").await.expect("taken");
    service.shutdown().await.expect("half closed");
    let mut greeting = String::new();
    in_time(app.read_to_string(&mut greeting)).await.expect("ended");
    let said = noise(1 << 20);
    app.write_all(&said).await.expect("taken");
    drop(app);
    let mut heard = Vec::new();
    in_time(service.read_to_end(&mut heard)).await.expect("ended");
    assert_eq!((greeting.as_str(), heard == said), ("greeting", true));
}

#[tokio::test]
async fn an_end_is_counted_by_the_time_the_application_hears_it() {
    let path = World::new().await.consume().await.path().await;
    let Connection { mut app, mut service, .. } = path.connect().await;
    service.shutdown().await.expect("half closed");
    in_time(app.read_to_end(&mut Vec::new())).await.expect("ended");
    let load = path.opener.handle().load();
    assert_eq!((load.streams, load.half_closed), (1, 1), "the next connection looks at it");
}

#[tokio::test]
async fn an_abort_of_the_application_is_an_abort_at_the_service() {
    let Connection { app, service, daemon } = connection().await;
    abort(app);
    sees_a_reset(service).await;
    let copied = in_time(daemon).await.expect("no panic");
    assert!(matches!(copied.ending, Ending::SocketAborted(_)), "{copied:?}");
}

#[tokio::test]
async fn an_abort_of_the_service_is_an_abort_at_the_application() {
    let Connection { app, service, daemon } = connection().await;
    abort(service);
    sees_a_reset(app).await;
    let copied = in_time(daemon).await.expect("no panic");
    assert!(matches!(copied.ending, Ending::StreamAborted(_)), "{copied:?}");
}

#[tokio::test]
async fn an_abort_after_a_half_close_is_noticed_though_nothing_is_read() {
    let Connection { mut app, service, .. } = connection().await;
    app.shutdown().await.expect("half closed");
    abort(service);
    sees_a_reset(app).await;
}

#[tokio::test]
async fn an_abort_reaches_a_service_that_does_not_read() {
    let Connection { app, service, .. } = connection().await;
    fill(&app).await;
    abort(app);
    let error = in_time(async {
        loop {
            match service.try_read(&mut [0; 64 << 10]) {
                Ok(0) => panic!("an abort is not an end"),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    service.readable().await.expect("watched");
                }
                Err(error) => break error,
            }
        }
    })
    .await;
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_talk_at_once() {
    let path = World::new().await.consume().await.path().await;
    let (mut talks, mut daemons) = (JoinSet::new(), Vec::new());
    for _ in 0..200 {
        let Connection { mut app, mut service, daemon } = path.connect().await;
        daemons.push(daemon);
        let said = noise(100 << 10);
        talks.spawn(async move {
            let (mut read, mut write) = service.split();
            tokio::io::copy(&mut read, &mut write).await.expect("echoed");
            service.shutdown().await.expect("ended");
        });
        talks.spawn(async move {
            let (mut read, mut write) = app.split();
            let mut heard = vec![0; said.len()];
            let (wrote, read) =
                tokio::join!(write.write_all(&said), in_time(read.read_exact(&mut heard)));
            wrote.and(read.map(drop)).expect("echoed");
            assert!(heard == said, "another connection's bytes");
        });
    }
    while let Some(talk) = in_time(talks.join_next()).await {
        talk.expect("no panic");
    }
    for daemon in daemons {
        path.agent_ended().await;
        in_time(daemon).await.expect("no panic");
    }
    assert_eq!(path.opener.handle().streams(), 0);
}

/// Writes until nothing more is taken, which is when every window and buffer on the way is full.
async fn fill(tcp: &TcpStream) -> usize {
    let chunk = [0; 64 << 10];
    let mut filled = 0;
    while timeout(Duration::from_millis(300), tcp.writable()).await.is_ok() {
        match tcp.try_write(&chunk) {
            Ok(bytes) => filled += bytes,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    filled
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_have_stopped_slow_nobody_else() {
    let path = World::new().await.consume().await.path().await;
    let mut stalled = Vec::new();
    let mut fills = JoinSet::new();
    for _ in 0..24 {
        let Connection { app, service, .. } = path.connect().await;
        stalled.push(app);
        fills.spawn(async move { (fill(&service).await, service) });
    }
    let mut services = Vec::new();
    while let Some(filled) = fills.join_next().await {
        let (bytes, service) = filled.expect("no panic");
        assert!(bytes < 64 << 20, "an unread stream has taken {bytes} bytes");
        services.push(service);
    }
    let Connection { mut app, service, .. } = path.connect().await;
    tokio::spawn(async move {
        let (mut read, mut write) = service.into_split();
        tokio::io::copy(&mut read, &mut write).await.expect("echoed");
    });
    for _ in 0..20 {
        app.write_all(&[7; 1024]).await.expect("taken");
        timeout(PATIENCE, app.read_exact(&mut [0; 1024])).await.expect("alive").expect("echoed");
    }
    drop((stalled, services));
}

/// What else is on a carrier waits for as much as a download may have on its way.
#[tokio::test]
async fn little_is_on_its_way_to_a_reader_until_much_has_arrived() {
    for is_upload in [false, true] {
        little_is_on_its_way(is_upload).await;
    }
}

async fn little_is_on_its_way(is_upload: bool) {
    let mut carrier = World::new().await.consume().await;
    let (mut reader, mut writer) = stream(&mut carrier, is_upload).await;
    let at_first = taken(&mut writer).await;
    assert!(at_first <= 1 << 20, "{at_first} bytes are on their way to nobody knows what");
    let arrives = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        reader.read_exact(&mut vec![0; at_first]).await.expect("what was on its way");
        for _ in 0..1024 {
            reader.read_exact(&mut buffer).await.expect("more of it");
        }
        reader
    });
    for _ in 0..1024 {
        writer.write_all(&[7; 64 << 10]).await.expect("taken");
    }
    let _first = (arrives.await.expect("no panic"), writer);
    let (_reader, mut writer) = stream(&mut carrier, is_upload).await;
    let later = taken(&mut writer).await;
    assert!(later > at_first, "{later} bytes after much, {at_first} at first");
}

/// The two ends of a stream, without sockets: whoever reads, and whoever writes.
async fn stream(carrier: &mut Carrier, is_upload: bool) -> (Stream, Stream) {
    let laptop = carrier.opener.open_early(&wish()).await.expect("opened");
    let Some(Incoming::Open(offered)) = in_time(carrier.acceptor.next()).await else {
        panic!("nothing is offered")
    };
    let cluster = offered.accept().expect("still wanted");
    if is_upload { (cluster, laptop) } else { (laptop, cluster) }
}

/// Writes until nothing more is taken, and returns how much was.
async fn taken(writer: &mut Stream) -> usize {
    let mut bytes = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), writer.write(&[7; 16 << 10])).await
    {
        bytes += written.expect("it is open");
    }
    bytes
}

#[tokio::test]
async fn an_idle_connection_lives_and_a_half_closed_one_that_is_forgotten_does_not() {
    let path = World::new().await.consume().await.path().await;
    let mut idle = path.connect().await;
    let mut forgotten = path.connect().await;
    forgotten.app.shutdown().await.expect("half closed");
    let mut byte = [0];
    assert_eq!(in_time(forgotten.service.read(&mut byte)).await.expect("ended"), 0);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    let error = forgotten.service.read(&mut byte).await;
    // Whoever keeps it half open is told by an abort.
    let ended = forgotten.daemon.await.expect("no panic").ending;
    tokio::time::resume();
    assert!(matches!(ended, Ending::Lingered | Ending::StreamAborted(_)), "{ended:?}");
    assert!(matches!(error, Ok(0) | Err(_)));
    idle.app.write_all(b"x").await.expect("taken");
    in_time(idle.service.read_exact(&mut byte)).await.expect("still there");
}

#[tokio::test]
async fn a_copy_that_is_cancelled_is_an_abort_on_both_sides() {
    let Connection { app, service, daemon } = connection().await;
    daemon.abort();
    sees_a_reset(app).await;
    sees_a_reset(service).await;
}
