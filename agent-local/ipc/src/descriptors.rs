//! How many descriptors a process may have: a listener for each service port needs more than the usual 1024.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows this process as many as the machine lets it have. Where that fails, the usual ones must do.
pub fn allow_all() {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE);
    let _outcome = allowed.and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
}
