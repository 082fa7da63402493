//! The access matrix: every REST operation of `openapi.json` and every message that a peer can say over a link, asked
//! by everybody. `access.txt` says what each must get; an operation or message without a row fails here.
//!
//! `cargo test -p fairlead-hub --test it access -- --ignored` writes it anew.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use fairlead_tunnel::websocket::{CARRIER_PATH, WebSocket};
use fairlead_wire::{
    authority::DeviceRequest,
    challenge,
    link::v1::{
        CarrierRequest, Catalogue, Echo, FirstUse, FurtherCarrier, Heartbeat, Hello, Phase,
        ServiceRef, cluster_down, cluster_up, laptop_down, laptop_up,
    },
    preface::{Answer, Preface, Side},
    ticket::Ticket,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    peers::{AgentLink, Cluster, Joined, LaptopLink, enrol, observed},
    people::{Person, anonymous},
    world::{HOST, World, eventually},
};

const DOCUMENT: &str = include_str!("../../openapi.json");
const PROTO: &str = include_str!("../../../protocol/wire/proto/fairlead/link/v1/link.proto");

const HEAD: &str = "\
# Who gets what. Written by `cargo test -p fairlead-hub --test it access -- --ignored`, and read by people.
#
# stranger is an owner of another organization. Whatever has an id is somebody else's thing in ours.
# Carrier.ticket is one that was guessed, shown over the WebSocket at GET /carrier/v1.
# Links: welcomed, taken (it had its effect), ignored (it had none), refused.
";
const COLUMNS: [&str; 6] = ["anonymous", "stranger", "viewer", "developer", "admin", "owner"];
/// `POST /api/v1/sessions` is three things.
const VARIANTS: [(&str, &[&str]); 1] =
    [("POST /api/v1/sessions", &["consume", "intercept", "reach outside"])];

/// Everybody who asks, and whom and what they ask about.
struct Stage {
    world: World,
    /// In the order of `COLUMNS`; nobody for the first.
    cast: [Option<Person>; 6],
    joined: Joined,
    /// The agent of the stranger's own cluster.
    foreign: Joined,
    made: u32,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        let rival = world.organization("rival").await;
        let stranger = world.person_of(&rival, "stranger", &["owners"]).await;
        let viewer = world.person("viewer", "viewers").await;
        let developer = world.person("developer", "developers").await;
        let admin = world.person("admin", "admins").await;
        let owner = world.person("owner", "owners").await;
        let joined = world.teamspace(&owner, "joined", &["shop/cart"]).await;
        let foreign = world.teamspace(&stranger, "foreign", &["shop/cart"]).await;
        let cast = [None, Some(stranger), Some(viewer), Some(developer), Some(admin), Some(owner)];
        Self { world, cast, joined, foreign, made: 0 }
    }

    fn owner(&self) -> &Person {
        self.cast[5].as_ref().expect("the owner is in the cast")
    }

    fn fresh_name(&mut self) -> String {
        self.made += 1;
        format!("made-{}", self.made)
    }

    /// Somebody else of our organization, with a session of their own.
    async fn somebody(&mut self) -> (Person, String) {
        let name = self.fresh_name();
        let somebody =
            self.world.person_of(&self.world.acme, &name, &["developers", "others"]).await;
        let begun = somebody.consumes(&self.world, self.joined.id, &["shop/*"]).await.with(201);
        let session = begun["session"]["id"].as_str().expect("an id").to_owned();
        (somebody, session)
    }

    /// Makes what an operation's path names, afresh.
    async fn thing(&mut self, path: &str) -> String {
        let noun = path.split("/{id}").next().and_then(|before| before.rsplit('/').next());
        match noun.expect("a noun before its id") {
            "teamspaces" => {
                let name = self.fresh_name();
                self.world.waiting_teamspace(self.owner(), &name).await.0.to_string()
            }
            "join-tokens" => {
                let name = self.fresh_name();
                let (id, _) = self.world.waiting_teamspace(self.owner(), &name).await;
                let path = format!("/api/v1/teamspaces/{id}/join-tokens");
                let listed = self.owner().get(&self.world, &path).await.with(200);
                listed["join_tokens"][0]["id"].as_str().expect("a token").to_owned()
            }
            "sessions" => self.somebody().await.1,
            "devices" => self.somebody().await.0.laptop.id.to_string(),
            "members" => self.somebody().await.0.caller.actor.user().to_string(),
            "groups" => {
                let listed = self.owner().get(&self.world, "/api/v1/groups").await.with(200);
                let groups = listed["groups"].as_array().expect("groups").iter();
                let others = groups.clone().find(|group| group["name"] == "others");
                others.expect("the group of everybody made here")["id"]
                    .as_str()
                    .expect("an id")
                    .to_owned()
            }
            "service-accounts" => self.service_account().await.0,
            "api-tokens" => self.service_account().await.1,
            "connections" => self.world.acme.connection.to_string(),
            noun => panic!("nobody knows how to make one of `{noun}`: tell this test"),
        }
    }

    /// A service account of ours, and a token of it.
    async fn service_account(&mut self) -> (String, String) {
        let new = json!({ "name": self.fresh_name(), "roles": ["developer"] });
        let (owner, path) = (self.owner(), "/api/v1/service-accounts");
        let made = owner.ask(&self.world, Method::POST, path, Some(new)).await.with(201);
        let id = made["id"].as_str().expect("an id").to_owned();
        let path = format!("{path}/{id}/tokens");
        let new = Some(json!({ "name": "a job" }));
        let token = owner.ask(&self.world, Method::POST, &path, new).await.with(201);
        (id, token["id"].as_str().expect("an id").to_owned())
    }

    fn body(&mut self, operation: &str, who: usize) -> Option<Value> {
        let device = self.cast[who].as_ref().map(|person| person.laptop.id);
        let teamspace = self.joined.id;
        match operation {
            "POST /api/v1/teamspaces" => Some(json!({ "name": self.fresh_name() })),
            "POST /api/v1/sessions consume" => Some(json!({
                "kind": "consume", "teamspace_id": teamspace, "device_id": device.unwrap_or(self.owner().laptop.id),
                "patterns": ["shop/*"],
            })),
            "POST /api/v1/sessions intercept" => Some(json!({
                "kind": "intercept", "teamspace_id": teamspace, "device_id": device.unwrap_or(self.owner().laptop.id),
                "service": "shop/cart", "ports": [{ "service_port": 80, "laptop_port": 3000 }],
            })),
            "POST /api/v1/sessions reach outside" => Some(json!({
                "kind": "consume", "teamspace_id": teamspace, "device_id": device.unwrap_or(self.owner().laptop.id),
                "patterns": ["+db.example.net:5432"],
            })),
            "PUT /api/v1/sessions/{id}/patterns" => Some(json!({ "patterns": ["shop/*"] })),
            "POST /api/v1/devices" => {
                let key = &self.cast[who].as_ref().unwrap_or(self.owner()).laptop.key;
                let request = DeviceRequest::make_pem(key).expect("a request");
                Some(json!({ "name": "again", "csr_pem": request }))
            }
            "PUT /api/v1/members/{id}/roles" | "PUT /api/v1/groups/{id}/roles" => {
                Some(json!({ "roles": ["developer"] }))
            }
            "POST /api/v1/service-accounts" => {
                Some(json!({ "name": self.fresh_name(), "roles": ["developer"] }))
            }
            "POST /api/v1/service-accounts/{id}/tokens" => Some(json!({ "name": "a job" })),
            "PUT /api/v1/policies" => Some(json!({ "policies": [] })),
            "POST /api/v1/setup" => Some(json!({
                "token": format!("fls_{}", "A".repeat(43)),
                "organization": { "slug": "third", "name": "Third" },
                "owner_email": "owner@third.test",
                "oidc": {
                    "issuer": "http://127.0.0.1:1", "client_id": "x", "client_secret": "y",
                    "groups_claim": "groups", "scopes": ["openid"], "email_domains": ["third.test"],
                },
                "group_roles": [],
            })),
            "PATCH /api/v1/organization" => Some(json!({ "name": "acme" })),
            "POST /api/v1/organization/connections"
            | "PUT /api/v1/organization/connections/{id}" => Some(json!({
                "issuer": "http://127.0.0.1:1", "client_id": "x", "client_secret": "y",
                "groups_claim": "groups", "scopes": ["openid"], "email_domains": ["acme.test"],
            })),
            _ => None,
        }
    }

    /// Lets somebody ask, and returns the status they got.
    async fn status(&mut self, operation: &str, who: usize) -> String {
        let mut words = operation.split(' ');
        let method: Method = words.next().expect("a method").parse().expect("a method");
        let template = words.next().expect("a path");
        let path = match template.contains("{id}") {
            true => template.replace("{id}", &self.thing(template).await),
            false => template.to_owned(),
        };
        let path = if path == "/api/v1/setup" && method == Method::GET {
            format!("{path}?token=fls_{}", "A".repeat(43))
        } else {
            path
        };
        let body = self.body(operation, who);
        let answer = match &self.cast[who] {
            None => anonymous(&self.world, method, &path, body).await,
            Some(person) => person.ask(&self.world, method, &path, body).await,
        };
        self.free_the_service().await;
        answer.status.as_u16().to_string()
    }

    /// Ends whatever intercept there is, so that the next one to ask is not refused because of it.
    async fn free_the_service(&self) {
        let listed = self.owner().get(&self.world, "/api/v1/sessions?live=true").await.with(200);
        for session in listed["sessions"].as_array().expect("sessions") {
            if session["kind"] == "intercept" {
                let path = format!("/api/v1/sessions/{}", session["id"].as_str().expect("an id"));
                self.owner().delete(&self.world, &path).await.with(204);
            }
        }
    }
}

/// Lists the operations of the committed document, each variant by itself.
fn operations() -> Vec<String> {
    let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let operation = format!("{} {path}", method.to_uppercase());
            match VARIANTS.iter().find(|(of, _)| *of == operation) {
                Some((_, variants)) => {
                    operations.extend(variants.iter().map(|v| format!("{operation} {v}")));
                }
                None => operations.push(operation),
            }
        }
    }
    operations
}

/// Lists what peers can say: `LaptopUp.carrier` and so on, and the one call that is no message.
fn messages() -> Vec<String> {
    let mut messages = vec!["Carrier.ticket".to_owned(), "ClusterLinks.Enrol".to_owned()];
    for of in ["ClusterUp", "LaptopUp"] {
        let body = PROTO.split(&format!("message {of} {{")).nth(1).expect("the message");
        let body = body.split("\n}").next().expect("its end");
        for field in body.lines().filter(|line| line.contains(" = ")) {
            let name = field.split_whitespace().nth(1).expect("a name");
            messages.push(format!("{of}.{name}"));
        }
    }
    messages
}

impl Stage {
    /// Lets somebody say something over a link, and returns what came of it.
    async fn said(&mut self, message: &str, who: usize) -> &'static str {
        match message.split_once('.').expect("Service.message") {
            ("Carrier", "ticket") => self.shows_a_guessed_ticket().await,
            ("ClusterLinks", "Enrol") => self.enrols_without_a_token(who).await,
            ("LaptopUp", name) => self.laptop_says(name, who).await,
            ("ClusterUp", name) => self.agent_says(name, who).await,
            _ => panic!("nobody knows how to say `{message}`: tell this test"),
        }
    }

    /// Whoever they are: at the door for carriers only the ticket counts.
    async fn shows_a_guessed_ticket(&self) -> &'static str {
        let tcp = TcpStream::connect(self.world.address).await.expect("it listens");
        let socket =
            WebSocket::dial(Box::new(tcp), HOST, self.world.address.port(), CARRIER_PATH).await;
        let mut socket = socket.expect("anybody may knock");
        let preface = Preface { side: Side::Laptop, ticket: Ticket::draw() };
        socket.write_all(&preface.encode()).await.expect("taken");
        match socket.read_u8().await.ok().and_then(Answer::parse) {
            Some(Answer::Refused) => "refused",
            answer => panic!("{answer:?}"),
        }
    }

    async fn enrols_without_a_token(&self, _who: usize) -> &'static str {
        let cluster = Cluster::new(&self.world, "somewhere");
        let request = cluster.request(&self.world, &format!("flj_{}", "A".repeat(43)));
        if enrol(&self.world, request).await.is_ok() { "taken" } else { "refused" }
    }

    async fn laptop_says(&mut self, name: &str, who: usize) -> &'static str {
        let (somebody, session) = self.somebody().await;
        let Some(person) = &self.cast[who] else { return self.anonymous_laptop().await };
        let Ok(mut link) = person.laptop.connect(&self.world).await else { return "refused" };
        match name {
            "hello" => "welcomed",
            "heartbeat" => {
                link.say(laptop_up::Message::Heartbeat(Heartbeat {})).await;
                "taken"
            }
            "carrier" => {
                let request =
                    CarrierRequest { session_id: session, replica: String::new(), request_id: 7 };
                link.say(laptop_up::Message::Carrier(request)).await;
                if link.carrier().await.is_ok() { "taken" } else { "refused" }
            }
            "echo" => {
                link.say(laptop_up::Message::Echo(Echo { number: 7 })).await;
                assert_eq!(link.echo().await, 7);
                "taken"
            }
            "observed" => {
                let message = observed(&session, Phase::Active, "");
                link.say(laptop_up::Message::Observed(message)).await;
                // The answer to a question that comes after it shows that it was looked at.
                link.asks_for_a_carrier(&session, 8).await;
                drop(link.carrier().await);
                let path = format!("/api/v1/sessions/{session}");
                let shown = somebody.get(&self.world, &path).await.with(200);
                if shown["phase"] == "active" { "taken" } else { "ignored" }
            }
            name => panic!("nobody knows how to say `LaptopUp.{name}`: tell this test"),
        }
    }

    async fn anonymous_laptop(&self) -> &'static str {
        let mut link = LaptopLink::open(&self.world).await.expect("anybody may knock");
        let first = link.next().await;
        assert!(matches!(first, Ok(laptop_down::Message::Challenge(_))));
        link.say(laptop_up::Message::Hello(Hello::default())).await;
        if link.next().await.is_ok() { "welcomed" } else { "refused" }
    }

    /// People hold no replica's key: they try with their laptop's. The stranger has a cluster of their own.
    async fn agent_says(&mut self, name: &str, who: usize) -> &'static str {
        if who != 1 {
            return self.laptop_as_agent(who).await;
        }
        if name == "further_carrier" {
            return self.agent_wants_a_further_carrier().await;
        }
        let (somebody, session) = self.somebody().await;
        let agent = self.foreign.cluster.connect(&self.world).await.expect("it is enrolled");
        let message = match name {
            "hello" => return "welcomed",
            "heartbeat" => {
                agent.say(cluster_up::Message::Heartbeat(Heartbeat {})).await;
                return "taken";
            }
            "catalogue" => {
                cluster_up::Message::Catalogue(Catalogue { full: true, ..Catalogue::default() })
            }
            "observed" => cluster_up::Message::Observed(observed(&session, Phase::Active, "")),
            "first_use" => cluster_up::Message::FirstUse(FirstUse {
                protocol: String::new(),
                session_id: session.clone(),
                service: Some(ServiceRef { namespace: "shop".to_owned(), name: "cart".to_owned() }),
                port: 80,
                host: String::new(),
            }),
            name => panic!("nobody knows how to say `ClusterUp.{name}`: tell this test"),
        };
        let before = self.ours(&somebody, &session).await;
        agent.say(message).await;
        self.is_looked_at(&agent).await;
        let after = self.ours(&somebody, &session).await;
        if before == after { "ignored" } else { "taken" }
    }

    /// A carrier changes nothing that is shown: whether there is one is heard at the laptop whose session it is.
    async fn agent_wants_a_further_carrier(&mut self) -> &'static str {
        let (somebody, _) = self.somebody().await;
        let begun = somebody.intercepts(&self.world, self.joined.id, "shop/cart").await.with(201);
        let session_id = begun["session"]["id"].as_str().expect("an id").to_owned();
        let mut laptop = somebody.laptop.connect(&self.world).await.expect("welcomed");
        let agent = self.foreign.cluster.connect(&self.world).await.expect("it is enrolled");
        let wanted = FurtherCarrier { session_id: session_id.clone() };
        agent.say(cluster_up::Message::FurtherCarrier(wanted)).await;
        self.is_looked_at(&agent).await;
        laptop.asks_for_a_carrier(&session_id, 9).await;
        let said = loop {
            match laptop.carrier().await {
                Ok(offer) if offer.further => break "taken",
                Ok(offer) if offer.request_id != 9 => {}
                Ok(_) | Err(_) => break "ignored",
            }
        };
        self.free_the_service().await;
        said
    }

    /// Everything of ours that an agent's messages could change.
    async fn ours(&self, somebody: &Person, session: &str) -> (Value, Value, Value) {
        let services = format!("/api/v1/teamspaces/{}/services", self.joined.id);
        let audit = self.owner().get(&self.world, "/api/v1/audit?limit=1").await.with(200);
        (
            somebody.get(&self.world, &format!("/api/v1/sessions/{session}")).await.with(200),
            somebody.get(&self.world, &services).await.with(200),
            audit["entries"][0]["seq"].clone(),
        )
    }

    /// Waits until the foreign agent's next catalogue counts: messages of a link are taken in their order.
    async fn is_looked_at(&mut self, agent: &AgentLink) {
        let name = format!("shop/{}", self.fresh_name());
        agent.reports(&[&name]).await;
        let path = format!("/api/v1/teamspaces/{}/services", self.foreign.id);
        let stranger = self.cast[1].as_ref().expect("the stranger");
        eventually("the foreign catalogue", async || {
            let listed = stranger.get(&self.world, &path).await.with(200);
            (listed["services"][0]["name"] == name[5..]).then_some(())
        })
        .await;
    }

    async fn laptop_as_agent(&self, who: usize) -> &'static str {
        let mut link = AgentLink::open(&self.world).await.expect("anybody may knock");
        let Ok(cluster_down::Message::Challenge(challenge)) = link.next().await else {
            panic!("a link begins with a challenge")
        };
        let mut hello = Hello { time_s: self.world.now().as_second(), ..Hello::default() };
        if let Some(person) = &self.cast[who] {
            hello.certificate_chain = vec![person.laptop.certificate.to_vec()];
            hello.signature = challenge::sign(&person.laptop.key, &challenge.nonce, HOST).to_vec();
        }
        link.say(cluster_up::Message::Hello(hello)).await;
        if link.next().await.is_ok() { "welcomed" } else { "refused" }
    }
}

fn line(what: &str, cells: &[String]) -> String {
    let mut line = format!("{what:<60}");
    for cell in cells {
        write!(line, "{cell:<11}").expect("text");
    }
    line.trim_end().to_owned()
}

async fn matrix() -> String {
    let mut stage = Stage::new().await;
    let mut text = HEAD.to_owned();
    writeln!(text, "\n{}", line("", &COLUMNS.map(str::to_owned))).expect("text");
    for operation in operations() {
        let mut cells = Vec::new();
        for who in 0..COLUMNS.len() {
            cells.push(stage.status(&operation, who).await);
        }
        writeln!(text, "{}", line(&operation, &cells)).expect("text");
    }
    for message in messages() {
        let mut cells = Vec::new();
        for who in 0..COLUMNS.len() {
            cells.push(stage.said(&message, who).await.to_owned());
        }
        writeln!(text, "{}", line(&message, &cells)).expect("text");
    }
    text
}

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/access.txt")
}

#[test]
fn every_operation_and_every_message_has_a_row() {
    let committed = fs::read_to_string(committed()).expect("tests/access.txt is committed");
    let rows: BTreeSet<_> = committed
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with(' '))
        .map(|line| line.get(..60).unwrap_or(line).trim_end())
        .collect();
    for wanted in operations().iter().chain(&messages()) {
        assert!(rows.contains(wanted.as_str()), "`{wanted}` has no row in tests/access.txt");
    }
}

#[tokio::test]
async fn everybody_gets_what_the_matrix_says() {
    let committed = fs::read_to_string(committed()).expect("tests/access.txt is committed");
    let is = matrix().await;
    for (number, (said, is)) in committed.lines().zip(is.lines()).enumerate() {
        assert_eq!(said, is, "line {} of tests/access.txt", number + 1);
    }
    assert_eq!(committed.lines().count(), is.lines().count());
}

#[tokio::test]
#[ignore = "writes tests/access.txt"]
async fn regenerate() {
    fs::write(committed(), matrix().await).expect("the matrix can be written");
}
