//! What the kernel remembers of a redirected connection that was aborted: a second nftables table has it forget that at
//! once.
//!
//! For ten seconds the next connection from the same port to the same service would be led where that one was, whatever
//! the rules say by then. While one user has redirects that is the right listener anyway; another user's refuses it
//! (`redirect.rs`). The table is not replaced with the redirects: with it would go what was said of open connections.

use crate::addresses::NETWORK;

pub(crate) const TABLE: &str = "fairlead_aborted";

/// All of our addresses.
const PREFIX: u8 = 14;

/// Returns the part of a transaction that puts the table, or leaves it as it is.
pub(crate) fn put() -> String {
    format!(
        "table ip {TABLE} {{\n  \
           ct timeout at_once {{\n    protocol tcp;\n    l3proto ip;\n    policy = {{ close : 0 }};\n  }}\n  \
           chain output {{\n    type filter hook output priority -150; policy accept;\n  }}\n\
         }}\n\
         flush chain ip {TABLE} output\n\
         add rule ip {TABLE} output ip daddr {NETWORK}/{PREFIX} tcp flags & (syn | ack) == syn ct timeout set \"at_once\"\n"
    )
}

/// Returns the part of a transaction that removes it.
pub(crate) fn removed() -> String {
    // Deleting what does not exist would fail the transaction, so it is made first.
    format!("table ip {TABLE}\ndelete table ip {TABLE}\n")
}
