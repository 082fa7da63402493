//! What anybody on this machine may ask of the laptop's DNS server, and what a cluster's DNS may say to it.

use std::{net::Ipv4Addr, sync::LazyLock};

use fairlead_model::{Callee, ServiceRef, TeamspaceId};
use hickory_proto::{
    op::{Message, MessageType},
    rr::RData,
};
use laptop_dns::{Next, Zone, consider};
use laptop_ipc::supervisor::Reached;

/// No answer over UDP is longer, whatever the question offers.
const UDP_MAX_BYTES: usize = 1232;
const DB: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 2);
const DB_0: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 3);
const DB_OF_PROD: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 4);

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let service: ServiceRef = "shop/db".parse().expect("valid");
    let db = Callee::from(service.clone());
    let pod = Callee::pod_of(service, "db-0".parse().expect("valid"));
    let reached = |callee: &Callee, beside: Option<&str>| Reached {
        teamspace: TeamspaceId::generate(),
        callee: callee.clone(),
        ports: Vec::new(),
        is_home: true,
        beside: beside.map(|teamspace| teamspace.parse().expect("valid")),
    };
    let all = [reached(&db, None), reached(&pod, None), reached(&db, Some("prod"))];
    Zone::of(all.iter().zip([DB, DB_0, DB_OF_PROD]))
});

/// Over UDP and TCP: nothing is answered but what was asked, within its room, and no address but those of this laptop.
///
/// The question stands behind its length, as over TCP; what follows is what the cluster says when it is asked.
pub fn dns(bytes: &[u8]) {
    let (asked, said) = parts(bytes);
    for room in [None, Some(u16::MAX)] {
        for said in [None, Some(said)] {
            let reply = match consider(asked, &ZONE, room) {
                Next::Nothing => None,
                Next::Reply(reply) => Some(reply),
                Next::Ask(asking) => asking.answered(said, &ZONE),
            };
            if let Some(reply) = reply {
                is_one(asked, &reply, room);
            }
        }
    }
}

fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return (bytes, &[]) };
    let length = usize::from(u16::from_be_bytes(*length));
    rest.split_at(length.min(rest.len()))
}

fn is_one(asked: &[u8], reply: &[u8], room: Option<u16>) {
    let most = room.map_or(UDP_MAX_BYTES, usize::from);
    assert!(reply.len() <= most, "{} bytes do not fit", reply.len());
    assert_eq!(asked.get(..2), reply.get(..2), "it is the answer to another question");
    assert!(matches!(consider(reply, &ZONE, room), Next::Nothing), "two servers would go on");
    let message = Message::from_vec(reply).expect("what we write can be read");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    for record in message.answers.iter().chain(&message.additionals) {
        match &record.data {
            RData::A(address) => assert!([DB, DB_0, DB_OF_PROD].contains(address), "{record}"),
            RData::AAAA(_) => panic!("{record}"),
            _ => {}
        }
    }
}
