//! A door from this machine into the lab: a port of the machine that leads to a port of one host.
//!
//! For the browser of whoever watches the demo, and for pods of a cluster that is not the lab's. It is open as long as
//! this process lives.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use anyhow::Context;
use fairlead_lab::{Host, Lab};

/// A browser opens a few; whoever comes when the house is full is turned away.
const VISITORS_MAX: usize = 64;

/// Opens a door to a port of `host` and returns the port of this machine's loopback address at which it is.
pub fn open_door(lab: &Lab, host: Host, to: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    open(lab, listener, host, to)?;
    Ok(port)
}

/// Opens a door to a port of the hub's host at the same port of an address of this machine.
pub(crate) fn open_door_at(lab: &Lab, address: Ipv4Addr, port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((address, port)).with_context(|| {
        format!(
            "cannot listen at {address}:{port} for the cluster's pods; is the port in use (ss -tlnp), \
             and the address this machine's own (ip address)?"
        )
    })?;
    open(lab, listener, Host::Hub, port)
}

fn open(lab: &Lab, listener: TcpListener, host: Host, to: u16) -> anyhow::Result<()> {
    let (visitor_tx, visitor_rx) = sync_channel::<TcpStream>(VISITORS_MAX);
    lab.on(host, move || {
        let inside = Arc::new(AtomicUsize::new(0));
        for visitor in visitor_rx {
            if inside.load(Ordering::Relaxed) < VISITORS_MAX {
                lead(visitor, to, Arc::clone(&inside));
            }
        }
    })?;
    thread::spawn(move || {
        for visitor in listener.incoming().map_while(Result::ok) {
            // Full: the visitor is turned away by being dropped.
            drop(visitor_tx.try_send(visitor));
        }
    });
    Ok(())
}

/// Leads one visitor to the host on whose network this thread stands.
fn lead(visitor: TcpStream, to: u16, inside: Arc<AtomicUsize>) {
    inside.fetch_add(1, Ordering::Relaxed);
    thread::spawn(move || {
        if let Ok(host) = TcpStream::connect((Ipv4Addr::LOCALHOST, to))
            && let (Ok(to_host), Ok(from_host)) = (host.try_clone(), visitor.try_clone())
        {
            let up = thread::spawn(move || pass(&visitor, &to_host));
            pass(&host, &from_host);
            drop(up.join());
        }
        inside.fetch_sub(1, Ordering::Relaxed);
    });
}

/// Copies one direction to its end. An error ends it, and closes the other direction, too.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let ending = match io::copy(&mut from, &mut to) {
        Ok(_) => Shutdown::Write,
        Err(_) => Shutdown::Both,
    };
    // Whoever has gone needs no goodbye.
    drop(to.shutdown(ending));
}
