//! From the bytes of a question to those of an answer, or to what the cluster has to be asked first. Pure.
//!
//! Addresses are ours alone to give: those that the cluster's DNS knows lead nowhere on a laptop. There are none of
//! IPv6, which is said as "no data": a name that "does not exist" would not be looked up by its other address either.

use std::net::{IpAddr, Ipv4Addr};

use fairlead_wire::resolve::ClusterName;
use hickory_proto::{
    op::{DEFAULT_MAX_PAYLOAD_LEN, Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, PTR, SOA},
    },
};

use crate::zone::{Found, Zone};

/// Whoever remembers an answer forgets it soon: services come and go.
const TTL_S: u32 = 5;
/// The shortest message there is.
const HEADER_BYTES: usize = 12;
/// Without EDNS an answer over UDP is no longer.
const UDP_MIN_BYTES: u16 = 512;
const UDP_MAX_BYTES: u16 = 1232;
/// Records of one answer.
const ANSWERS_MAX: usize = 100;

/// What becomes of a question.
#[derive(Debug)]
pub enum Next {
    Reply(Vec<u8>),
    /// The cluster's DNS knows more.
    Ask(Box<Asking>),
    /// It is no question; an answer to it might come back for ever.
    Nothing,
}

/// A question that waits for the cluster's answer.
#[derive(Debug)]
pub struct Asking {
    pub name: ClusterName,
    reply: Message,
    record: RecordType,
    room: u16,
}

impl Asking {
    #[must_use]
    pub fn record(&self) -> u16 {
        self.record.into()
    }

    /// Makes the reply of what the cluster's DNS has said; without that, of the failure to ask it.
    #[must_use]
    pub fn answered(mut self, said: Option<&[u8]>, zone: &Zone) -> Option<Vec<u8>> {
        let said = said.and_then(|bytes| Message::from_vec(bytes).ok());
        // Of an update, records may be without data; ours would be unreadable with one.
        let said = said.filter(|said| said.metadata.op_code == OpCode::Query);
        let code = said.as_ref().map(|said| said.metadata.response_code);
        self.reply.metadata.response_code = match code {
            Some(code @ (ResponseCode::NoError | ResponseCode::NXDomain)) => code,
            _ => ResponseCode::ServFail,
        };
        let answers = said.map(|said| said.answers).unwrap_or_default();
        for mut record in answers.into_iter().take(ANSWERS_MAX) {
            if record.record_type() != self.record {
                continue;
            }
            record.ttl = record.ttl.min(TTL_S);
            if let RData::SRV(srv) = &record.data {
                let target = srv.target.clone();
                if let Found::Callee(address, _) = zone.find(&target.to_ascii()) {
                    self.reply.additionals.push(address_record(target, address));
                }
            }
            self.reply.answers.push(record);
        }
        if self.reply.answers.is_empty() {
            self.reply.authorities.push(nobody_else_knows());
        }
        encoded(&self.reply, self.room)
    }
}

/// Decides about one question. `room` is how long an answer may be; over UDP the question says so itself.
#[must_use]
pub fn consider(bytes: &[u8], zone: &Zone, room: Option<u16>) -> Next {
    let Ok(message) = Message::from_vec(bytes) else { return malformed(bytes) };
    if message.metadata.message_type != MessageType::Query {
        return Next::Nothing;
    }
    let room = room.unwrap_or_else(|| match &message.edns {
        Some(edns) => edns.max_payload().clamp(UDP_MIN_BYTES, UDP_MAX_BYTES),
        None => UDP_MIN_BYTES,
    });
    let mut reply = reply_to(&message);
    let code = |mut reply: Message, code| {
        reply.metadata.response_code = code;
        encoded(&reply, room).map_or(Next::Nothing, Next::Reply)
    };
    if message.metadata.op_code != OpCode::Query {
        return code(reply, ResponseCode::NotImp);
    }
    let [query] = &message.queries[..] else { return code(reply, ResponseCode::FormErr) };
    if query.query_class() != DNSClass::IN {
        return code(reply, ResponseCode::Refused);
    }
    match answer(query, zone) {
        Answer::Refused => code(reply, ResponseCode::Refused),
        Answer::NoSuchName => {
            reply.authorities.push(nobody_else_knows());
            code(reply, ResponseCode::NXDomain)
        }
        Answer::NoData => {
            reply.authorities.push(nobody_else_knows());
            code(reply, ResponseCode::NoError)
        }
        Answer::Record(record) => {
            reply.answers.push(*record);
            code(reply, ResponseCode::NoError)
        }
        Answer::Ask(name) => {
            Next::Ask(Box::new(Asking { name, reply, record: query.query_type(), room }))
        }
    }
}

enum Answer {
    Record(Box<Record>),
    NoData,
    NoSuchName,
    Refused,
    Ask(ClusterName),
}

fn answer(query: &Query, zone: &Zone) -> Answer {
    let (name, record) = (query.name(), query.query_type());
    if let Some(address) = reversed(name) {
        let pointed = zone.name_of(address).and_then(|name| Name::from_ascii(name).ok());
        return match (pointed, record) {
            (Some(to), RecordType::PTR) => Answer::Record(Box::new(Record::from_rdata(
                name.clone(),
                TTL_S,
                RData::PTR(PTR(to)),
            ))),
            (Some(_), _) => Answer::NoData,
            (None, _) if is_ours(address) => Answer::NoSuchName,
            (None, _) => Answer::Refused,
        };
    }
    match zone.find(&name.to_ascii()) {
        Found::Elsewhere => Answer::Refused,
        Found::Nothing => Answer::NoSuchName,
        Found::Between => Answer::NoData,
        Found::Callee(address, _) | Found::Beside(address) if record == RecordType::A => {
            Answer::Record(Box::new(address_record(name.clone(), address)))
        }
        Found::Callee(..) if record == RecordType::AAAA => Answer::NoData,
        Found::Beside(_) => Answer::NoData,
        // A pod that has gone, or one that has no name of its own: no address of it would lead anywhere.
        Found::Below(_) if matches!(record, RecordType::A | RecordType::AAAA) => Answer::NoSuchName,
        Found::Callee(_, name) | Found::Below(name) => Answer::Ask(name),
    }
}

fn reversed(name: &Name) -> Option<Ipv4Addr> {
    match name.parse_arpa_name().ok()?.addr() {
        IpAddr::V4(address) if name.num_labels() == 6 => Some(address),
        _ => None,
    }
}

fn is_ours(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [127, 72..=75, ..])
}

fn reply_to(message: &Message) -> Message {
    let asked = &message.metadata;
    let mut reply = Message::response(asked.id, asked.op_code);
    reply.metadata.recursion_desired = asked.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.add_queries(message.queries.iter().take(1).cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DEFAULT_MAX_PAYLOAD_LEN.min(UDP_MAX_BYTES));
        reply.set_edns(edns);
    }
    reply
}

fn malformed(bytes: &[u8]) -> Next {
    match bytes {
        [high, low, flags, ..] if bytes.len() >= HEADER_BYTES && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            reply.to_vec().map_or(Next::Nothing, Next::Reply)
        }
        _ => Next::Nothing,
    }
}

fn address_record(name: Name, address: Ipv4Addr) -> Record {
    Record::from_rdata(name, TTL_S, RData::A(A(address)))
}

/// Lets whoever asked remember for a moment that there is nothing.
fn nobody_else_knows() -> Record {
    let domain = Name::from_ascii("cluster.local.").expect("a constant");
    let laptop = Name::from_ascii("fairlead.cluster.local.").expect("a constant");
    let soa = SOA::new(laptop.clone(), laptop, 1, 60, 60, 60, TTL_S);
    Record::from_rdata(domain, TTL_S, RData::SOA(soa))
}

/// Writes a message; what does not fit is left out, and said to be.
fn encoded(reply: &Message, room: u16) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= usize::from(room) { Some(bytes) } else { reply.truncate().to_vec().ok() }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::SRV;
    use proptest::prelude::*;

    use super::*;
    use crate::zone::tests::{DB, DB_0, zone};

    fn question(name: &str, record: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), record));
        message
    }

    fn asked(message: &Message) -> Next {
        consider(&message.to_vec().expect("written"), &zone(), None)
    }

    fn reply(name: &str, record: RecordType) -> Message {
        match asked(&question(name, record)) {
            Next::Reply(bytes) => Message::from_vec(&bytes).expect("ours"),
            other => panic!("{name}: {other:?}"),
        }
    }

    fn said(name: &str, record: RecordType) -> (ResponseCode, Vec<RData>) {
        let reply = reply(name, record);
        assert_eq!(reply.metadata.id, 7);
        (
            reply.metadata.response_code,
            reply.answers.into_iter().map(|record| record.data).collect(),
        )
    }

    #[test]
    fn a_name_has_its_address_and_no_other_data() {
        let name = "db-0.db.shop.svc.cluster.local.";
        assert_eq!(said(name, RecordType::A), (ResponseCode::NoError, vec![RData::A(A(DB_0))]));
        assert_eq!(said("DB.shop.", RecordType::A).1, [RData::A(A(DB))]);
        assert_eq!(said(name, RecordType::AAAA), (ResponseCode::NoError, vec![]));
        assert_eq!(said("shop.svc.cluster.local.", RecordType::A), (ResponseCode::NoError, vec![]));
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is_not_ours() {
        assert_eq!(said("web.shop.", RecordType::A).0, ResponseCode::NXDomain);
        assert_eq!(said("db-9.db.shop.svc.", RecordType::A).0, ResponseCode::NXDomain);
        assert_eq!(said("example.org.", RecordType::A).0, ResponseCode::Refused);
        assert_eq!(said("8.8.8.8.in-addr.arpa.", RecordType::PTR).0, ResponseCode::Refused);
        assert_eq!(said("9.9.72.127.in-addr.arpa.", RecordType::PTR).0, ResponseCode::NXDomain);
    }

    #[test]
    fn an_address_of_ours_has_a_name() {
        let name = Name::from_ascii("db-0.db.shop.svc.cluster.local.").expect("a name");
        let pointed = said("3.1.72.127.in-addr.arpa.", RecordType::PTR).1;
        assert_eq!(pointed, [RData::PTR(PTR(name))]);
    }

    #[test]
    fn other_records_of_a_service_are_asked_of_the_cluster_and_targets_are_ours() {
        let name = "_sql._tcp.db.shop.svc.cluster.local.";
        let Next::Ask(asking) = asked(&question(name, RecordType::SRV)) else { panic!("asked") };
        assert_eq!((asking.name.to_string().as_str(), asking.record()), ("_sql._tcp.db.shop", 33));
        let owner = Name::from_ascii(name).expect("a name");
        let target = Name::from_ascii("db-0.db.shop.svc.cluster.local.").expect("a name");
        let mut said = Message::response(1, OpCode::Query);
        let srv = RData::SRV(SRV::new(0, 100, 5432, target.clone()));
        said.add_answer(Record::from_rdata(owner, 300, srv.clone()));
        said.add_additional(address_record(target.clone(), Ipv4Addr::new(10, 244, 1, 7)));
        let reply = asking.answered(Some(&said.to_vec().expect("written")), &zone());
        let reply = Message::from_vec(&reply.expect("a reply")).expect("ours");
        assert_eq!((&reply.answers[0].data, reply.answers[0].ttl), (&srv, TTL_S));
        let additional: Vec<_> = reply.additionals.iter().map(|record| &record.data).collect();
        assert_eq!(additional, [&RData::A(A(DB_0))], "the pod's own address leads nowhere here");
    }

    #[test]
    fn when_the_cluster_cannot_be_asked_that_is_said() {
        for said in [None, Some(b"nonsense".as_slice())] {
            let Next::Ask(asking) = asked(&question("db.shop.", RecordType::TXT)) else { panic!() };
            let reply = asking.answered(said, &zone()).expect("a reply");
            let reply = Message::from_vec(&reply).expect("ours");
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer_and_a_broken_one_gets_an_error() {
        let mut answer = question("db.shop.", RecordType::A);
        answer.metadata.message_type = MessageType::Response;
        assert!(matches!(asked(&answer), Next::Nothing));
        assert!(matches!(consider(b"short", &zone(), None), Next::Nothing));
        let mut broken = question("db.shop.", RecordType::A).to_vec().expect("written");
        broken.truncate(15);
        let Next::Reply(reply) = consider(&broken, &zone(), None) else { panic!("an error") };
        let reply = Message::from_vec(&reply).expect("ours");
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (7, ResponseCode::FormErr));
        let mut two = question("db.shop.", RecordType::A);
        two.add_query(two.queries[0].clone());
        let Next::Reply(reply) = asked(&two) else { panic!("an error") };
        let reply = Message::from_vec(&reply).expect("ours");
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said_to_be() {
        let Next::Ask(asking) = asked(&question("db.shop.", RecordType::SRV)) else { panic!() };
        let mut said = Message::response(1, OpCode::Query);
        let owner = Name::from_ascii("db.shop.").expect("a name");
        for port in 0..60 {
            let target = Name::from_ascii(format!("pod-{port}.db.shop.")).expect("a name");
            said.add_answer(Record::from_rdata(
                owner.clone(),
                5,
                RData::SRV(SRV::new(0, 1, port, target)),
            ));
        }
        let reply =
            asking.answered(Some(&said.to_vec().expect("written")), &zone()).expect("a reply");
        assert!(reply.len() <= usize::from(UDP_MIN_BYTES));
        assert!(Message::from_vec(&reply).expect("ours").metadata.truncation);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_every_reply_is_one(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            match consider(&bytes, &zone(), None) {
                Next::Reply(reply) => {
                    let reply = Message::from_vec(&reply).expect("readable");
                    prop_assert_eq!(reply.metadata.message_type, MessageType::Response);
                }
                Next::Ask(asking) => {
                    prop_assert!(asking.answered(Some(&bytes), &zone()).is_some());
                }
                Next::Nothing => {}
            }
        }

        #[test]
        fn no_change_to_a_question_makes_it_panic(at in 0_usize..60, with: u8) {
            let mut bytes = question("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV).to_vec().expect("written");
            let at = at % bytes.len();
            bytes[at] = with;
            drop(consider(&bytes, &zone(), None));
        }
    }
}
