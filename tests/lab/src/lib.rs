//! A real two-node Kubernetes on one machine, with the hosts around it: a laptop and a hub. Or those two hosts alone,
//! beside a cluster that is somebody's own.
//!
//! `Lab::up` starts it, `Lab::exec` runs a program on one of its hosts, `Lab::down` removes it without residue.
//! Everything runs below one process in namespaces of its own (`init`), watched by one outside (`keep`), so that
//! ending that process ends the cluster, its pods, its mounts and its networks together.
//! Not here: the hub, the agent and the shop; whoever tests them brings their images.

mod another;
mod cgroups;
mod cluster;
mod config;
mod enter;
mod fence;
mod host;
mod image;
mod init;
mod issuer;
mod keep;
mod lab;
mod place;
mod plan;
mod programs;
mod progress;
mod rival;
mod run;
pub mod tools;

pub use another::{Another, image_in};
pub use cluster::{Cluster, ImageName, Ours};
pub use enter::enter;
pub use fence::Counters;
pub use host::Host;
pub use image::Image;
pub use init::init;
pub use issuer::{Issuer, IssuerOptions, issuer_program};
pub use keep::keep;
pub use lab::Lab;
pub use plan::{Options, ProxyMode};
pub use programs::{build, sibling};
pub use progress::Step;
pub use rival::{FRP, KTUNNEL, Rival};

/// Says whether this process may make namespaces: only root can, and the lab is made of them.
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
