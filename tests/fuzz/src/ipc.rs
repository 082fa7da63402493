//! What any process of this machine may write to the sockets of daemon and supervisor.

use std::fmt::Debug;

use laptop_ipc::{AnyCall, Call, daemon, read_blocking, supervisor, write_blocking};
use serde::{Serialize, de::DeserializeOwned};

/// A frame is refused or understood; what is understood is written as it was read.
pub fn ipc(bytes: &[u8]) {
    let mut rest = bytes;
    // As many calls as one conversation of ours would have.
    for _ in 0..8 {
        let Ok(call) = read_blocking::<AnyCall>(&mut rest) else { break };
        asked::<daemon::Request>(&call);
        asked::<supervisor::Request>(&call);
    }
    answered::<daemon::Reply>(bytes);
    answered::<supervisor::Reply>(bytes);
}

fn asked<R: Serialize + DeserializeOwned + Debug>(call: &AnyCall) {
    let call = Call { protocol: call.protocol, request: call.request.clone() };
    if let Ok(request) = call.understood::<R>() {
        same(&request);
    }
}

fn answered<R: Serialize + DeserializeOwned + Debug>(mut bytes: &[u8]) {
    if let Ok(reply) = read_blocking::<R>(&mut bytes) {
        same(&reply);
    }
}

fn same<T: Serialize + DeserializeOwned + Debug>(message: &T) {
    let mut frame = Vec::new();
    if write_blocking(&mut frame, message).is_ok() {
        let again: T = read_blocking(&mut frame.as_slice()).expect("what we write we read");
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}
