//! When the connection of a carrier gets its turn: after the streams that are ready, too.
//!
//! Whoever writes into a stream wakes the connection, and a connection that is polled at once sends what it has in a system
//! call and a packet of its own. With many streams most of the work of the whole path, relay and kernel included, would
//! be that of small packets. So the connection waits until everything else that is ready has had its turn, and sends
//! what came together at once; the runtime bounds how long that is. With one stream there is nothing to wait for; and
//! where nobody else wrote the last times it waited, as with one request after the other, it waits only now and then, to
//! see whether that has changed.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::task::yield_now;

use crate::load::Counter;

/// So often in a row it waits in vain before it does no more.
const IN_VAIN_MAX: u32 = 8;
/// Then it waits at one turn in so many.
const TRIED_EACH: u32 = 8;

/// Drives `connection` to its end; where its streams write together, each time after them.
pub(crate) async fn after_the_streams<C: Future>(connection: C, streams: &Counter) -> C::Output {
    let mut connection = pin!(connection);
    let (mut in_vain, mut turn) = (0, 0_u32);
    loop {
        if let Poll::Ready(end) = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await {
            return end;
        }
        woken().await;
        turn = turn.wrapping_add(1);
        if streams.has_several() && (in_vain < IN_VAIN_MAX || turn % TRIED_EACH == 0) {
            let before = streams.writes();
            yield_now().await;
            in_vain = if streams.writes() == before { in_vain.saturating_add(1) } else { 0 };
        }
    }
}

/// Waits until something wakes the task.
async fn woken() {
    let mut is_second = false;
    poll_fn(
        |_| if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{spawn, sync::Notify};

    use super::*;
    use crate::load::StreamCount;

    const WRITERS: usize = 20;

    /// Returns how often the connection sent while each of the writers, which were all ready, wrote once.
    async fn sent(are_several: bool) -> usize {
        let streams = Arc::new(Counter::default());
        let open: Vec<_> = (0..WRITERS).map(|_| StreamCount::begin(&streams)).collect();
        let open = if are_several { open } else { open.into_iter().take(1).collect() };
        let heard = Arc::new(Notify::new());
        let [sent, written] = [0, 0].map(|none| Arc::new(AtomicUsize::new(none)));
        let all = async move {
            let (count, hears) = (Arc::clone(&sent), Arc::clone(&heard));
            let connection = async move {
                loop {
                    hears.notified().await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            };
            let load = Arc::clone(&streams);
            let driver = spawn(async move { after_the_streams(connection, &load).await });
            yield_now().await;
            for _ in 0..WRITERS {
                let (written, heard) = (Arc::clone(&written), Arc::clone(&heard));
                let streams = Arc::clone(&streams);
                spawn(async move {
                    streams.note_write();
                    heard.notify_one();
                    written.fetch_add(1, Ordering::Relaxed);
                });
            }
            while written.load(Ordering::Relaxed) < WRITERS || sent.load(Ordering::Relaxed) == 0 {
                yield_now().await;
            }
            driver.abort();
            drop(open);
            sent.load(Ordering::Relaxed)
        };
        // On a worker, where a task that wakes another one is followed by it.
        spawn(all).await.expect("no panic")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_several_streams_write_is_sent_at_once() {
        assert!(sent(true).await < 3, "a few at most: a runtime polls its driver now and then");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn with_one_stream_it_is_sent_as_it_is_written() {
        assert!(sent(false).await > WRITERS / 2, "a runtime lets others go first now and then");
    }

    #[tokio::test]
    async fn who_waited_in_vain_waits_seldom() {
        let streams = Arc::new(Counter::default());
        let _open = [StreamCount::begin(&streams), StreamCount::begin(&streams)];
        let (heard, sent) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (hears, count) = (Arc::clone(&heard), Arc::clone(&sent));
        let connection = async move {
            loop {
                hears.notified().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let driving = after_the_streams(connection, &streams);
        let mut driving = pin!(driving);
        let mut waited = 0;
        // The first one is sent before there is a turn.
        for written in 1..=(1 + IN_VAIN_MAX + 4 * TRIED_EACH) as usize {
            streams.note_write();
            heard.notify_one();
            poll_once(driving.as_mut()).await;
            while sent.load(Ordering::Relaxed) < written {
                waited += 1;
                poll_once(driving.as_mut()).await;
            }
        }
        assert_eq!(waited, IN_VAIN_MAX + 4, "one turn in {TRIED_EACH}");
    }

    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) {
        let is_over = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        assert!(!is_over);
    }

    #[tokio::test]
    async fn it_ends_with_its_connection() {
        let streams = Counter::default();
        assert_eq!(after_the_streams(async { 7 }, &streams).await, 7);
        let later = async {
            yield_now().await;
            8
        };
        assert_eq!(after_the_streams(later, &streams).await, 8);
    }
}
