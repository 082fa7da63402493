//! The ways from the application to the service, and which processes work for each of them.

use std::{
    net::{SocketAddr, SocketAddrV4},
    time::Duration,
};

use fairlead_tests::{Line, Process};

use super::haproxy::Haproxy;

pub(crate) const RAW: &str = "raw";
pub(crate) const HAPROXY: &str = "haproxy";
/// As many hops as ours, without encryption: what this machine's processors and kernel let through at most.
pub(crate) const PLAIN: &str = "three plain hops";
pub(crate) const OURS: &str = "fairlead";

#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) to: SocketAddr,
    service: Process,
    hops: Vec<Process>,
}

/// The processor time that each process of a path has used, the service's first.
#[derive(Debug)]
pub(crate) struct Spent(Vec<Duration>);

impl Path {
    pub(crate) fn raw(line: &Line) -> anyhow::Result<Self> {
        Self::over(line, RAW, line.raw(), Vec::new())
    }

    pub(crate) fn haproxy(line: &Line, haproxy: &Haproxy) -> anyhow::Result<Self> {
        Self::over(line, HAPROXY, haproxy.entrance(), haproxy.hops()?)
    }

    pub(crate) fn plain(line: &Line, haproxy: &Haproxy) -> anyhow::Result<Self> {
        Self::over(line, PLAIN, haproxy.long_entrance(), haproxy.all_hops()?)
    }

    /// Laptop, hub, cluster: in this order.
    pub(crate) fn ours(line: &Line) -> anyhow::Result<Self> {
        let hops = vec![line.ada().daemon()?, line.world().hub().process()?, line.agent()?];
        Self::over(line, OURS, line.consumed()?, hops)
    }

    pub(crate) fn over(
        line: &Line,
        name: &'static str,
        to: SocketAddrV4,
        hops: Vec<Process>,
    ) -> anyhow::Result<Self> {
        Ok(Self { name, to: to.into(), service: line.service()?, hops })
    }

    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub(crate) fn spent(&self) -> anyhow::Result<Spent> {
        let all = [self.service].into_iter().chain(self.hops.iter().copied());
        Ok(Spent(all.map(Process::cpu).collect::<Result<_, _>>()?))
    }
}

impl Spent {
    /// Returns what was spent since then by each process, the service's first.
    pub(crate) fn since(&self, before: &Self) -> Vec<f64> {
        let both = self.0.iter().zip(&before.0);
        both.map(|(now, then)| now.saturating_sub(*then).as_secs_f64()).collect()
    }
}
