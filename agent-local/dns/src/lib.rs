//! What this laptop answers to a DNS question: from the bytes of the question to those of the answer, or to what the
//! cluster's DNS has to be asked first. Pure; the sockets and the way to the cluster are the daemon's.

mod answer;
mod zone;

pub use answer::{Asking, Next, consider};
pub use zone::Zone;
