//! The only code that changes the laptop, and the journal that lets every change be taken back.
//!
//! What is changed is known in advance: a marked section of the hosts file, one nftables table (where several users
//! consume a second one, and where there is no nftables listeners, which end with their process), and one link for
//! systemd-resolved. Each module has a pure half that says what should stand there and a thin half that puts it there.
//! [`Footprint`] joins them under the journal's rule: what we are about to change is on disk before it is changed.
//!
//! Daemon and command take of it only what changes nothing: which address a service has, and which lines name it, for
//! the names of one program.

mod aborted;
mod addresses;
mod commands;
mod footprint;
mod hosts;
mod hosts_file;
mod journal;
mod lease;
mod listeners;
mod redirect;
mod repairs;
mod resolver;
mod whole_file;

pub use addresses::{AddressError, Addresses, CANARY, DNS_SERVER, Key, LAST, NETWORK};
pub use footprint::{Footprint, FootprintError, Paths, Wanted, entry_of};
pub use hosts::{
    HostEntry, InvalidHostName, MARK, defined_by_others, has_section, with_entries_first,
    with_section, without_section,
};
pub use hosts_file::{HostsError, HostsFile};
pub use journal::{Change, Journal, JournalError};
pub use listeners::{Given, ListenError, Listeners, Taken, ports_instead_of};
pub use redirect::{Nft, Redirect, RedirectError, ruleset};
pub use repairs::Repairs;
pub use resolver::{LINK, Resolver, ResolverError};
pub use whole_file::replace_atomically;
