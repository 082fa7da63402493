//! A consume for one program (`fairlead run`): its names are the program's own, its listeners are ours, and it ends when
//! the program does, however that ends.
//!
//! Nothing of the machine changes, so no supervisor is asked.

use std::{collections::BTreeMap, io, net::Ipv4Addr, os::fd::AsFd as _, sync::Arc, thread};

use fairlead_model::{Callee, Patterns, Port, ServicePort, SessionId};
use laptop_account::SessionBegun;
use laptop_ipc::{
    Failure, FailureKind,
    daemon::{Answer, Moved, RunName, Teamspace},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::{
    consume::{refused_of, slip},
    desired::{DesiredSession, Wish},
    granted,
    keeper::Keeper,
    listeners::{Listening, Placed},
    names,
    session::{Origin, Session},
    tunnel,
};

/// What a session has for its program.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) places: BTreeMap<Callee, (Ipv4Addr, Vec<ServicePort>)>,
    /// They close with the last program that needs them.
    _listening: Vec<Arc<Listening>>,
}

impl Program {
    /// Holds what was opened for these services.
    pub(crate) fn of(placed: Vec<Placed>, services: &granted::Services) -> Self {
        let ports: BTreeMap<_, _> = services.iter().cloned().collect();
        let (mut places, mut listening) = (BTreeMap::new(), Vec::new());
        for (service, address, opened) in placed {
            let ports = ports.get(&service).cloned().unwrap_or_default();
            places.insert(service, (address, ports));
            listening.extend(opened);
        }
        Self { places, _listening: listening }
    }
}

/// What `fairlead run` asks for.
pub(crate) struct Wanted {
    pub(crate) hub: String,
    pub(crate) teamspace: Teamspace,
    pub(crate) patterns: Patterns,
    pub(crate) remap: bool,
}

/// Begins a consume for the process that asks.
pub(crate) async fn begin(
    keeper: &Arc<Keeper>,
    wanted: Wanted,
    pid: i32,
) -> Result<Answer, Failure> {
    let _acting = keeper.acting.lock().await;
    let ended_rx = watched(pid).map_err(|error| {
        Failure::new(FailureKind::Internal, format!("process {pid} cannot be watched: {error}"))
    })?;
    let Wanted { hub, teamspace, patterns, remap } = wanted;
    let hub = keeper.hub_called(&hub)?;
    let device = hub.device().await?;
    let SessionBegun { session, grant, services, hosts, refused, unmatched } =
        hub.begin_consume(teamspace.id, device.id, &patterns).await?;
    let id = session.id;
    let services = granted::services_of(services, hosts);
    let placed = match keeper.places.open(keeper, teamspace.id, &services, remap).await {
        Ok(placed) => placed,
        Err(failure) => {
            if let Err(error) = hub.end_session(id).await {
                warn!("The hub was not told: {error}");
            }
            return Err(failure);
        }
    };
    let home = names::home(&patterns);
    let names = placed
        .iter()
        .map(|(callee, address, listening)| RunName {
            callee: callee.clone(),
            address: *address,
            is_home: callee.service().is_some_and(|s| home.as_ref() == Some(&s.namespace)),
            moved: listening.iter().filter_map(|listening| moved(listening)).collect(),
        })
        .collect();
    let warnings = unmatched.iter().map(slip).collect();
    let program = Program::of(placed, &services);
    let wish = Wish::Consume { patterns, services };
    let mut session = Session::new(
        DesiredSession { id, teamspace, grant, wish, may_remap: false },
        Origin::Begun,
    );
    session.program = Some(program);
    keeper.sessions().insert(session);
    tunnel::begin(keeper, id);
    tokio::spawn(end_with(Arc::clone(keeper), id, ended_rx));
    let session = keeper.sessions().view_of(id).expect("kept a moment ago");
    Ok(Answer::Running { session, refused: refused_of(refused), warnings, names })
}

fn moved(listening: &Listening) -> Option<Moved> {
    let (from, to) = (listening.port, Port::new(listening.address.port())?);
    (from.port != to).then_some(Moved { from, to })
}

/// Returns what is told when a process has ended. It lives now: it waits for our answer.
///
/// A thread waits, since the runtime takes descriptors other than its own only unsafely; there are as many as programs.
fn watched(pid: i32) -> io::Result<oneshot::Receiver<()>> {
    // A process that we cannot see, in a container of its own, has the number 0.
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (ended_tx, ended_rx) = oneshot::channel();
    thread::Builder::new().name(format!("program-{pid}")).spawn(move || {
        let mut ends = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ends, PollTimeout::NONE) == Err(Errno::EINTR) {}
        // The daemon may be ending.
        let _is_heard = ended_tx.send(()).is_ok();
    })?;
    Ok(ended_rx)
}

async fn end_with(keeper: Arc<Keeper>, id: SessionId, ended_rx: oneshot::Receiver<()>) {
    // A thread that is no more watches no more: better to end than to stay for ever.
    drop(ended_rx.await);
    let _acting = keeper.acting.lock().await;
    info!(session = %id, "Its program has ended");
    if let Err(failure) = keeper.leave(id).await {
        warn!(session = %id, "Left, and the hub was not told: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use fairlead_model::TeamspaceId;
    use tokio::time::{Duration, timeout};

    use super::*;
    use crate::{sessions::tests, stage};

    #[tokio::test]
    async fn a_session_ends_when_its_program_was_killed() {
        let (_folder, keeper) = stage::keeper();
        let session = tests::consume(TeamspaceId::generate());
        let id = session.desired.id;
        keeper.sessions().insert(session);
        let mut program = Command::new("sleep").arg("600").spawn().expect("starts");
        let process = watched(i32::try_from(program.id()).expect("a pid")).expect("it lives");
        let ending = tokio::spawn(end_with(Arc::clone(&keeper), id, process));
        tokio::task::yield_now().await;
        assert!(keeper.sessions().live(id).is_some(), "its program lives");
        program.kill().expect("killed");
        timeout(Duration::from_secs(60), ending).await.expect("it ends").expect("no panic");
        assert!(keeper.sessions().live(id).is_none());
        program.wait().expect("reaped");
        watched(0).expect_err("nobody has this number");
    }
}
