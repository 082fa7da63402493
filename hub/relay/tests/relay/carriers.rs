//! What the two ends of a carrier say to each other.

use std::{io, time::Duration};

use fairlead_model::timers::HANDSHAKE;
use fairlead_tunnel::{Acceptor, Driver, Incoming, OpenFailed, Opener, Stream, Untaken, both_ways};
use fairlead_wire::{
    open::{GRANT_MAX_BYTES, Refusal, Refused},
    resolve::ResolveRequest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::world::{Carrier, World, drive, in_time, noise, wish};

#[tokio::test]
async fn a_refusal_says_why() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    tokio::spawn(async move {
        while let Some(Incoming::Open(offered)) = acceptor.next().await {
            let wish = offered.request().clone();
            offered.refuse(Refusal::NotAllowed, format!("no grant covers {}", wish.callee));
        }
    });
    let expected = Refused::new(Refusal::NotAllowed, "no grant covers shop/cart");
    match in_time(opener.open(&wish())).await {
        Err(OpenFailed::Refused(refused)) => assert_eq!(refused, expected),
        other => panic!("{other:?}"),
    }
    // Whoever writes before the answer hears the same, however much was on its way.
    let mut early = opener.open_early(&wish()).await.expect("begun");
    let written = in_time(early.write_all(&noise(8 << 20))).await;
    assert!(written.is_err(), "nobody takes these bytes");
    let error = in_time(early.read(&mut [0; 16])).await.expect_err("refused");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>());
    assert_eq!(inner, Some(&expected), "{error:?}");
}

#[tokio::test]
async fn a_grant_is_presented_and_answered() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    let agent = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(Incoming::Grant(mut presented)) = acceptor.next().await {
            match presented.jwt().await {
                Ok(jwt) if jwt == "good" => presented.accept(),
                Ok(jwt) => presented.refuse(format!("`{jwt}` is worth nothing")),
                Err(error) => {
                    seen.push(error.kind());
                    presented.refuse("unreadable");
                }
            }
        }
        seen
    });
    in_time(opener.present_grant("good")).await.expect("accepted");
    let refused = in_time(opener.present_grant("bad")).await.expect_err("refused");
    assert_eq!(refused.to_string(), "`bad` is worth nothing");
    let long = "a".repeat(GRANT_MAX_BYTES + 1);
    assert!(matches!(in_time(opener.present_grant(&long)).await, Err(OpenFailed::Refused(_))));
    opener.close();
    assert_eq!(in_time(agent).await.expect("no panic"), [io::ErrorKind::InvalidData]);
}

#[tokio::test]
async fn an_offer_that_is_dropped_is_answered_all_the_same() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    let opened = tokio::spawn(async move { opener.open(&wish()).await });
    drop(in_time(acceptor.next()).await);
    match in_time(opened).await.expect("no panic") {
        Err(OpenFailed::Refused(refused)) => assert_eq!(refused.refusal, Refusal::Unavailable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_storm_of_aborted_streams_does_not_end_the_carrier() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    tokio::spawn(async move {
        while let Some(Incoming::Open(offered)) = acceptor.next().await {
            if let Ok(mut stream) = offered.accept() {
                tokio::spawn(async move { stream.read(&mut [0]).await });
            }
        }
    });
    for _ in 0..20 {
        for _ in 0..100 {
            opener.open_early(&wish()).await.expect("begun").abort();
        }
        in_time(opener.open(&wish())).await.expect("the carrier lives");
    }
}

#[tokio::test]
async fn a_storm_of_streams_that_the_far_end_aborts_does_not_end_the_carrier() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    tokio::spawn(async move {
        while let Some(Incoming::Open(offered)) = acceptor.next().await {
            if let Ok(stream) = offered.accept() {
                stream.abort();
            }
        }
    });
    for _ in 0..2000 {
        // Aborted before or after it was seen to be open.
        drop(in_time(opener.open(&wish())).await);
    }
    assert!(!opener.is_closed());
    opener.beat(HANDSHAKE).await.expect("the carrier lives");
}

#[tokio::test]
async fn an_abort_has_its_own_error_and_an_end_has_none() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let offered = async {
            match acceptor.next().await {
                Some(Incoming::Open(offered)) => offered.accept().expect("wanted"),
                other => panic!("{other:?}"),
            }
        };
        let wish = wish();
        let (opened, accepted) = tokio::join!(opener.open(&wish), offered);
        streams.push((opened.expect("opened"), accepted));
    }
    let (mut ended, mut at_ended) = streams.pop().expect("two");
    let (aborted, mut at_aborted) = streams.pop().expect("two");
    ended.write_all(b"last words").await.expect("taken");
    ended.shutdown().await.expect("ended");
    aborted.abort();
    let mut heard = String::new();
    in_time(at_ended.read_to_string(&mut heard)).await.expect("ended in good order");
    assert_eq!(heard, "last words");
    let error = in_time(at_aborted.read(&mut [0])).await.expect_err("aborted");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_beat_is_answered() {
    let carrier = World::new().await.consume().await;
    for _ in 0..3 {
        carrier.opener.beat(HANDSHAKE).await.expect("alive");
        carrier.acceptor.handle().beat(HANDSHAKE).await.expect("alive");
    }
}

#[tokio::test]
async fn a_drained_carrier_finishes_its_streams_and_takes_no_more() {
    let Carrier { opener, mut acceptor, .. } = World::new().await.consume().await;
    let accepted = tokio::spawn(async move {
        let Some(Incoming::Open(offered)) = acceptor.next().await else { panic!("lost") };
        (offered.accept().expect("wanted"), acceptor)
    });
    let mut stream = in_time(opener.open(&wish())).await.expect("opened");
    let (mut far, acceptor) = in_time(accepted).await.expect("no panic");
    acceptor.handle().drain();
    far.write_all(b"still here").await.expect("taken");
    let mut heard = [0; 10];
    in_time(stream.read_exact(&mut heard)).await.expect("the stream lives");
    assert!(in_time(opener.open(&wish())).await.is_err(), "no more streams");
    stream.shutdown().await.expect("ended");
    far.shutdown().await.expect("ended");
    assert_eq!(in_time(far.read(&mut heard)).await.expect("ended"), 0);
    assert_eq!(in_time(stream.read(&mut heard)).await.expect("ended"), 0);
    drop((stream, far));
    in_time(acceptor.handle().closed()).await;
}

/// A carrier whose laptop does nothing until somebody drives it.
struct Undriven {
    opener: Opener,
    driver: Driver,
    acceptor: Acceptor,
}

impl Undriven {
    async fn made_by(world: &World) -> Self {
        let (laptop, cluster) = duplex(1 << 20);
        let (laptop_id, replica_id) = (world.laptop(), world.replica());
        let (replica, device) = (world.expects_replica(), world.expects_device());
        let accepted =
            tokio::spawn(
                async move { drive(Acceptor::handshake(cluster, &replica_id, &device)).await },
            );
        let (opener, driver) =
            Opener::handshake(laptop, &laptop_id, &replica).await.expect("agreed");
        Self { opener, driver, acceptor: accepted.await.expect("no panic").expect("agreed") }
    }

    /// Has the agent stop taking streams, and the laptop ask for one before it hears of that.
    async fn asks_too_late(self) -> (Stream, Opener) {
        let Self { opener, driver, acceptor } = self;
        acceptor.handle().drain();
        all_is_said().await;
        let stream = opener.open_early(&wish()).await.expect("nobody knows yet");
        tokio::spawn(driver);
        (stream, opener)
    }
}

/// Returns when nobody in this process has anything left to do; its clock stands still.
async fn all_is_said() {
    sleep(Duration::from_millis(1)).await;
}

async fn two_sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    (one.expect("listening"), other.expect("connects").0)
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_agent_leaves_in_that_moment_is_carried_by_another_with_all_it_said() {
    let world = World::new().await;
    let (mut app, tcp) = two_sockets().await;
    app.write_all(b"hello, ").await.expect("taken");
    let (late, opener) = Undriven::made_by(&world).await.asks_too_late().await;
    let saying = tokio::spawn(Untaken::from(tcp).over(late));
    let again = saying.await.expect("no panic").expect_err("nobody has seen it");
    assert!(opener.open_early(&wish()).await.is_err() && !opener.takes_streams());

    app.write_all(b"world").await.expect("taken");
    app.shutdown().await.expect("ended");
    let Undriven { opener, driver, mut acceptor } = Undriven::made_by(&world).await;
    tokio::spawn(driver);
    let stream = opener.open_early(&wish()).await.expect("it takes streams");
    let saying = tokio::spawn(again.over(stream));
    let Some(Incoming::Open(offered)) = acceptor.next().await else { panic!("lost") };
    let mut far = offered.accept().expect("wanted");
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.expect("ended");
    assert_eq!(heard, "hello, world");
    far.write_all(b"hello yourself").await.expect("taken");
    far.shutdown().await.expect("ended");
    let mut answer = String::new();
    app.read_to_string(&mut answer).await.expect("ended");
    assert_eq!(answer, "hello yourself");
    let copied = saying.await.expect("no panic").expect("taken");
    assert_eq!((copied.up, copied.down), (12, 14));
}

#[tokio::test(start_paused = true)]
async fn a_question_or_a_grant_that_nobody_sees_any_more_says_so_and_what_is_open_goes_on() {
    let world = World::new().await;
    let name = "db.shop".parse().expect("valid");
    let question = ResolveRequest { session: wish().session, name, record: 1 };
    let asks = async |opener: Opener| opener.resolve(&question).await.map(drop);
    let presents = async |opener: Opener| opener.present_grant("good").await;
    says_so(&world, asks).await;
    says_so(&world, presents).await;
}

/// Has the laptop ask in the moment in which the agent takes no more, beside a stream that is open.
async fn says_so(world: &World, asks: impl AsyncFn(Opener) -> Result<(), OpenFailed>) {
    let Undriven { opener, mut driver, mut acceptor } = Undriven::made_by(world).await;
    let accepted = tokio::spawn(async move {
        let Some(Incoming::Open(offered)) = acceptor.next().await else { panic!("lost") };
        (offered.accept().expect("wanted"), acceptor)
    });
    let wish = wish();
    let mut open = tokio::select! {
        end = &mut driver => panic!("{end}"),
        open = opener.open(&wish) => open.expect("opened"),
    };
    let (mut far, acceptor) = accepted.await.expect("no panic");
    acceptor.handle().drain();
    all_is_said().await;
    let late = async {
        all_is_said().await;
        tokio::spawn(driver);
    };
    let (asked, ()) = tokio::join!(asks(opener.clone()), late);
    assert!(matches!(asked, Err(OpenFailed::Lost(_))), "{asked:?}");
    assert!(!opener.takes_streams() && !opener.is_closed());
    far.write_all(b"still here").await.expect("taken");
    open.read_exact(&mut [0; 10]).await.expect("it goes on");
}

#[tokio::test(start_paused = true)]
async fn an_agreement_travels_with_the_first_bytes_or_the_end() {
    let Undriven { opener, driver, mut acceptor } = Undriven::made_by(&World::new().await).await;
    tokio::spawn(driver);
    let mut agrees = async || {
        let mut near = opener.open_early(&wish()).await.expect("begun");
        near.write_all(b"hello").await.expect("taken");
        let Some(Incoming::Open(offered)) = acceptor.next().await else { panic!("lost") };
        (near, offered.accept_with_the_first_bytes())
    };
    let (mut near, mut far) = agrees().await;
    far.read_exact(&mut [0; 5]).await.expect("it hears before it agrees");
    all_is_said().await;
    assert!(timeout(Duration::from_secs(1), near.answered()).await.is_err(), "nothing was sent");
    far.write_all(b"hi").await.expect("taken");
    near.answered().await.expect("agreed");
    near.read_exact(&mut [0; 2]).await.expect("said");

    let (mut near, mut far) = agrees().await;
    far.shutdown().await.expect("ended");
    assert_eq!(near.read(&mut [0]).await.expect("agreed"), 0);

    let (mut near, far) = agrees().await;
    drop(far);
    let error = near.read(&mut [0]).await.expect_err("aborted");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_silent_is_agreed_to_after_a_second() {
    let Undriven { opener, driver, mut acceptor } = Undriven::made_by(&World::new().await).await;
    tokio::spawn(driver);
    let (_silent, service) = two_sockets().await;
    let mut near = opener.open_early(&wish()).await.expect("begun");
    let Some(Incoming::Open(offered)) = acceptor.next().await else { panic!("lost") };
    let carried = tokio::spawn(both_ways(offered.accept_with_the_first_bytes(), service));
    let half = timeout(Duration::from_millis(500), near.answered()).await;
    assert!(half.is_err(), "it may still say something");
    timeout(Duration::from_secs(1), near.answered()).await.expect("in time").expect("agreed");
    near.abort();
    assert!(carried.await.expect("no panic").down == 0);
}
