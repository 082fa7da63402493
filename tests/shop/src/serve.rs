//! Accepts connections until told to stop, then lets the open ones finish.

use std::{io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::page::Page;

/// More connections than this wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// Requests in flight get this long after the stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves a page over HTTP/1.1 and HTTP/2 until `stop`, then drains.
pub async fn serve_page(listener: TcpListener, page: Arc<Page>, stop: CancellationToken) {
    let http = auto::Builder::new(TokioExecutor::new());
    let open = GracefulShutdown::new();
    let mut door = Door::new(listener, stop);
    while let Some((tcp, place)) = door.next().await {
        let page = page.clone();
        let service = service_fn(move |request| {
            let page = page.clone();
            async move { page.answer(request).await }
        });
        let connection = open.watch(http.serve_connection(TokioIo::new(tcp), service).into_owned());
        tokio::spawn(async move {
            // A peer that goes away in the middle is its own business.
            connection.await.ok();
            drop(place);
        });
    }
    drop(door);
    timeout(DRAIN, open.shutdown()).await.ok();
}

/// The accepting side: bounded, and closed by the stop.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    stop: CancellationToken,
    places: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, stop: CancellationToken) -> Self {
        Door { listener, stop, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// Returns the next connection and its place, which is given back by dropping it; `None` after the stop.
    pub(crate) async fn next(&mut self) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = self.stop.cancelled() => return None,
            };
            match accepted {
                Ok(connection) => return Some(connection),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = self.places.clone().acquire_owned().await.expect("never closed");
        let (tcp, _) = self.listener.accept().await?;
        tcp.set_nodelay(true)?;
        Ok((tcp, place))
    }
}
