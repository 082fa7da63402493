//! When the connection of a carrier gets its turn: after the streams that are ready, too.
//!
//! Whoever writes into a stream wakes the connection, and a connection that is polled at once sends what it has in a system
//! call and a packet of its own. With many streams most of the work of the whole path, relay and kernel included, would
//! be that of small packets. So the connection waits until everything else that is ready has had its turn, and sends
//! what came together at once; the runtime bounds how long that is. With one stream there is nothing to wait for.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::task::yield_now;

/// Drives `connection` to its end; where what was written may wait, each time after the streams.
pub(crate) async fn after_the_streams<C: Future>(
    connection: C,
    may_wait: impl Fn() -> bool,
) -> C::Output {
    let mut connection = pin!(connection);
    loop {
        if let Poll::Ready(end) = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await {
            return end;
        }
        woken().await;
        if may_wait() {
            yield_now().await;
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

    const WRITERS: usize = 20;

    /// Returns how often the connection sent while each of the writers, which were all ready, wrote once.
    async fn sent(may_wait: bool) -> usize {
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
            let driver = spawn(after_the_streams(connection, move || may_wait));
            yield_now().await;
            for _ in 0..WRITERS {
                let (written, heard) = (Arc::clone(&written), Arc::clone(&heard));
                spawn(async move {
                    heard.notify_one();
                    written.fetch_add(1, Ordering::Relaxed);
                });
            }
            while written.load(Ordering::Relaxed) < WRITERS || sent.load(Ordering::Relaxed) == 0 {
                yield_now().await;
            }
            driver.abort();
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
    async fn it_ends_with_its_connection() {
        assert_eq!(after_the_streams(async { 7 }, || true).await, 7);
        let later = async {
            yield_now().await;
            8
        };
        assert_eq!(after_the_streams(later, || true).await, 8);
    }
}
