//! Proof that names and redirects work: a connection to the canary must arrive at our own listener, a datagram at our own
//! socket, and a name must lead to its address. What another program flushed the supervisor puts back when the kernel
//! tells it; what it was not told is put back from here, a few times.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use fairlead_model::timers::{LAPTOP_PROOF, LAPTOP_PROOF_MAX};
use laptop_ipc::daemon::{Laptop, Way};
use tokio::{
    net::lookup_host,
    time::{Instant, interval, timeout},
};
use tracing::{info, warn};

use crate::{keeper::Keeper, knocks::Unheard};

/// More often than this is a fight with another program, which nobody wins.
const REPAIRS_PER_MINUTE: usize = 3;
const CANARY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 72, 0, 1), 1);

/// Proves again and again while something is reached.
pub(crate) async fn prove_laptop(keeper: Arc<Keeper>) {
    let mut tick = interval(LAPTOP_PROOF);
    let mut repairs: Vec<Instant> = Vec::new();
    loop {
        tick.tick().await;
        if prove_once(&keeper).await {
            continue;
        }
        repairs.retain(|at| at.elapsed() < Duration::from_secs(60));
        if repairs.len() < REPAIRS_PER_MINUTE && keeper.footing.contested().is_none() {
            repairs.push(Instant::now());
            info!("Putting names and redirects back");
            if let Err(failure) = keeper.apply().await {
                warn!("They could not be put back: {failure}");
            }
            prove_once(&keeper).await;
        }
    }
}

/// Proves once, and says whether all is well (or nothing is reached).
pub(crate) async fn prove_once(keeper: &Keeper) -> bool {
    let Some((name, address)) = keeper.sessions().sample_name() else {
        // What could not be put at first is tried again, too.
        return keeper.sessions().reached().is_empty();
    };
    let proven = match (keeper.footing.contested(), arrives(keeper).await) {
        (Some(contested), _) => Err(contested),
        (None, Ok(())) => leads_to(&name, IpAddr::V4(address)).await,
        (None, Err(reason)) => Err(reason),
    };
    let mut sessions = keeper.sessions();
    if sessions.sample_name().is_none() {
        return true;
    }
    let proven = if sessions.reached().is_empty() {
        let what = "what was consumed is over, and its names are not taken back yet";
        Err(format!("{what}: fairlead cleanup says why"))
    } else {
        proven
    };
    match proven {
        Ok(()) => {
            sessions.set_laptop(Laptop::Proven);
            true
        }
        Err(reason) => {
            warn!("Names and redirects: {reason}");
            sessions.set_laptop(Laptop::Broken { reason });
            false
        }
    }
}

async fn arrives(keeper: &Keeper) -> Result<(), String> {
    if !keeper.footing.stands() {
        return Err("no supervisor is running, so names and redirects are taken back".to_owned());
    }
    let (has_listeners, door, socket) = {
        let sessions = keeper.sessions();
        let has_listeners = sessions.way() == Some(Way::Listeners);
        (has_listeners, sessions.sample_door(), sessions.sample_socket())
    };
    // Without redirects and with UDP only there is nothing to connect to.
    let connects_to = if has_listeners { door } else { Some(CANARY) };
    if let Some(on) = connects_to {
        keeper.knocks.connect(on).await.map_err(|unheard| match unheard {
            Unheard::AnotherProgram => "another program answers at our addresses".to_owned(),
            Unheard::Nobody => "a redirected connection does not arrive".to_owned(),
            Unheard::Refused(error) if has_listeners => {
                format!("a listener of ours does not answer ({error})")
            }
            Unheard::Refused(error) => {
                format!("the redirect does not work ({error}): did another program flush nftables?")
            }
        })?;
    }
    let Some(to) = socket else { return Ok(()) };
    match keeper.knocks.send(to).await {
        // Where it was sent to is no more; what is there now is asked the next time.
        Err(_) if keeper.sessions().sample_socket() != Some(to) => Ok(()),
        Err(unheard) => Err(format!("datagrams to {to} do not arrive at the daemon ({unheard})")),
        Ok(()) => Ok(()),
    }
}

async fn leads_to(name: &str, address: IpAddr) -> Result<(), String> {
    let found: Vec<_> = match timeout(LAPTOP_PROOF_MAX, lookup_host((name, 0))).await {
        Ok(Ok(found)) => found.map(|found| found.ip()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if found.contains(&address) {
        Ok(())
    } else {
        Err(format!(
            "the name {name} does not lead to {address}: did another program write the hosts file?"
        ))
    }
}
