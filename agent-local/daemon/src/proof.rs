//! Proof that names and redirects work: a connection to the canary must arrive at our own listener, and a name must
//! lead to its address. What another program flushed the supervisor puts back when the kernel tells it; what it was not
//! told is put back from here, a few times.

use std::{net::IpAddr, sync::Arc, time::Duration};

use fairlead_model::timers::{LAPTOP_PROOF, LAPTOP_PROOF_MAX};
use laptop_ipc::daemon::{Laptop, Way};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, lookup_host},
    time::{Instant, interval, timeout},
};
use tracing::{info, warn};

use crate::keeper::Keeper;

/// More often than this is a fight with another program, which nobody wins.
const REPAIRS_PER_MINUTE: usize = 3;
const CANARY: (&str, u16) = ("127.72.0.1", 1);

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
    let (way, door) = {
        let sessions = keeper.sessions();
        (sessions.way(), sessions.sample_door())
    };
    let asked = async {
        match (way, door) {
            (Some(Way::Listeners), Some(door)) => keeper.knocks.knock(door).await,
            // Only UDP is reached: a socket for datagrams has nobody who would answer for it.
            (Some(Way::Listeners), None) => Ok(keeper.canary_word),
            _ => ask_canary().await,
        }
    };
    match timeout(LAPTOP_PROOF_MAX, asked).await {
        Ok(Ok(word)) if word == keeper.canary_word => Ok(()),
        Ok(Ok(_)) => Err("another program answers at our addresses".to_owned()),
        Ok(Err(error)) if way == Some(Way::Listeners) => {
            Err(format!("a listener of ours does not answer ({error})"))
        }
        Ok(Err(error)) => Err(format!(
            "the redirect does not work ({error}): did another program flush nftables?"
        )),
        Err(_) => Err("a redirected connection does not arrive".to_owned()),
    }
}

async fn ask_canary() -> std::io::Result<[u8; 16]> {
    let mut word = [0; 16];
    TcpStream::connect(CANARY).await?.read_exact(&mut word).await?;
    Ok(word)
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
