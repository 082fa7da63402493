//! Who has connected and has not proven who they are: how many of them there may be, and how much they may say.
//!
//! How long they may take is `conversation.rs`'s to say, how often they may knock `http/guard.rs`'s.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http::Extensions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::http::network_of;

/// Links that may wait for their welcome at once; whoever comes then is told to come again. A hub that starts sees all
/// of its laptops within seconds.
const STRANGERS_MAX: usize = 1024;
/// So many of them may come from one network: enough for an office whose laptops all come back at once.
const NETWORK_MAX: usize = 256;
/// A chain of certificates and a signature, or a request to enrol, many times over.
const WORDS_MAX_BYTES: usize = 64 << 10;

/// The places of links that are not welcomed yet, or of WebSockets in which none was opened. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Doorway {
    places: Arc<Semaphore>,
    networks: Networks,
    network_max: usize,
}

/// How many places each network has taken; none that has taken none.
#[derive(Clone, Debug, Default)]
struct Networks(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// Somebody in the doorway.
#[derive(Debug)]
pub(crate) struct Stranger {
    words: Option<Words>,
    _place: OwnedSemaphorePermit,
    _of_network: OfNetwork,
}

/// One of the places that a network has taken.
#[derive(Debug)]
struct OfNetwork {
    networks: Networks,
    network: IpAddr,
}

impl Doorway {
    pub(crate) fn new() -> Self {
        Self::with_room_for(STRANGERS_MAX, NETWORK_MAX)
    }

    fn with_room_for(strangers: usize, network_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(strangers));
        Self { places, networks: Networks::default(), network_max }
    }

    /// Lets somebody in who wants to open a link, as far as there is room.
    pub(crate) fn enter(&self, request: &Extensions) -> Result<Stranger, Status> {
        let full = || {
            Status::resource_exhausted("too many links wait to be welcomed: try again in a moment")
        };
        let network = network_of(request).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of_network = self.networks.take(network, self.network_max).ok_or_else(full)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full())?;
        let words = request.get::<Words>().cloned();
        Ok(Stranger { words, _place: place, _of_network: of_network })
    }
}

impl Networks {
    fn take(&self, network: IpAddr, most: usize) -> Option<OfNetwork> {
        let mut taken = self.locked();
        let here = taken.get(&network).copied().unwrap_or_default();
        if here >= most {
            return None;
        }
        taken.insert(network, here + 1);
        Some(OfNetwork { networks: self.clone(), network })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OfNetwork {
    fn drop(&mut self) {
        let mut taken = self.networks.locked();
        let left = taken.get(&self.network).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            taken.remove(&self.network);
        } else {
            taken.insert(self.network, left);
        }
    }
}

impl Stranger {
    /// Gives the place to the next: this one is known, and may say as much as it likes.
    pub(crate) fn leave(self) {
        if let Some(words) = &self.words {
            words.0.store(usize::MAX, Ordering::Relaxed);
        }
    }
}

/// How many bytes a stranger may still say.
#[derive(Clone, Debug)]
struct Words(Arc<AtomicUsize>);

impl Words {
    fn say(&self, bytes: &Bytes) -> Result<(), Status> {
        let less = |left: usize| match left {
            usize::MAX => Some(left),
            _ => left.checked_sub(bytes.len()),
        };
        let said = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        said.map(drop).map_err(|_| {
            Status::resource_exhausted(format!(
                "more than {WORDS_MAX_BYTES} bytes before the welcome"
            ))
        })
    }
}

/// Bounds what is read of a request until whoever sent it is known.
pub(super) async fn limit_words(mut request: Request, next: Next) -> Response {
    let words = Words(Arc::new(AtomicUsize::new(WORDS_MAX_BYTES)));
    request.extensions_mut().insert(words.clone());
    let limited = request.map(|body| {
        let chunks = body.into_data_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| Status::from_error(error.into_inner()))?;
            words.say(&chunk)?;
            Ok::<_, Status>(chunk)
        });
        Body::from_stream(chunks)
    });
    next.run(limited).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::coming_from;

    #[test]
    fn a_full_doorway_lets_nobody_in_until_somebody_is_known() {
        let doorway = Doorway::with_room_for(1, 1);
        let first = doorway.enter(&Extensions::new()).expect("room for one");
        let refused = doorway.enter(&Extensions::new()).expect_err("it is full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        first.leave();
        assert!(doorway.enter(&Extensions::new()).is_ok());
    }

    #[test]
    fn one_network_does_not_fill_the_doorway() {
        let doorway = Doorway::with_room_for(3, 2);
        let [loud, quiet] = [1, 2].map(|last| coming_from(Ipv4Addr::new(192, 0, 2, last).into()));
        let first = doorway.enter(&loud).expect("room");
        let second = doorway.enter(&loud).expect("room");
        let refused = doorway.enter(&loud).expect_err("they have theirs");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        doorway.enter(&quiet).expect("room for others").leave();
        first.leave();
        doorway.enter(&loud).expect("room again").leave();
        second.leave();
        assert!(doorway.networks.locked().is_empty(), "who has left takes no room");
    }

    #[test]
    fn only_a_stranger_must_be_brief() {
        let words = Words(Arc::new(AtomicUsize::new(10)));
        let (six, long) = (Bytes::from_static(b"sixsix"), Bytes::from(vec![0; 1 << 20]));
        assert!(words.say(&six).is_ok());
        assert!(words.say(&six).is_err());
        let mut request = Extensions::new();
        request.insert(words.clone());
        Doorway::new().enter(&request).expect("room").leave();
        assert!(words.say(&long).is_ok());
    }
}
