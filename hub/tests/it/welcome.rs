//! Who is welcomed on a link, and what strangers may say.

use fairlead_wire::{
    challenge,
    key::Key,
    link::v1::{
        EnrolRequest, Hello, Phase, cluster_up, laptop_down,
        laptop_links_client::LaptopLinksClient, laptop_up,
    },
};
use tonic::Code;

use crate::{
    peers::{AgentLink, Cluster, LaptopLink, channel, enrol, observed},
    world::{HOST, World},
};

async fn refused_laptop(world: &World, hello: impl FnOnce(&[u8]) -> Hello) -> tonic::Status {
    let mut link = LaptopLink::open(world).await.expect("open");
    let laptop_down::Message::Challenge(challenge) = link.next().await.expect("a challenge") else {
        panic!("a link begins with a challenge")
    };
    link.say(laptop_up::Message::Hello(hello(&challenge.nonce))).await;
    link.next().await.expect_err("refused")
}

#[tokio::test]
async fn a_laptop_proves_its_key_its_organization_and_its_time() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let hello = |signature: Vec<u8>| Hello {
        certificate_chain: vec![olga.laptop.certificate.to_vec()],
        signature,
        version: String::new(),
        name: String::new(),
        time_s: world.now().as_second(),
    };
    let other_key = Key::generate().expect("a key");
    let stolen =
        refused_laptop(&world, |nonce| hello(challenge::sign(&other_key, nonce, HOST).to_vec()))
            .await;
    assert_eq!(stolen.code(), Code::Unauthenticated);

    let for_another_hub = refused_laptop(&world, |nonce| {
        hello(challenge::sign(&olga.laptop.key, nonce, "evil.test").to_vec())
    })
    .await;
    assert_eq!(for_another_hub.code(), Code::Unauthenticated);

    let clock_off = refused_laptop(&world, |nonce| Hello {
        time_s: world.now().as_second() + 3600,
        ..hello(challenge::sign(&olga.laptop.key, nonce, HOST).to_vec())
    })
    .await;
    assert!(clock_off.message().contains("3600 s ahead"), "{}", clock_off.message());

    let no_certificate =
        refused_laptop(&world, |_| Hello { certificate_chain: vec![], ..hello(vec![]) }).await;
    assert_eq!(no_certificate.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_certificate_of_another_organization_is_not_ours() {
    let world = World::new().await;
    let rival = world.organization("rival").await;
    let mallory = world.person_of(&rival, "mallory", &["owners"]).await;
    let olga = world.person("olga", "owners").await;
    // The rival's authority signs the name of a device of ours.
    let forged = {
        use fairlead_wire::{authority::DeviceRequest, identity::DeviceName};
        let request = DeviceRequest::make_pem(&mallory.laptop.key).expect("a request");
        let request = DeviceRequest::parse_pem(&request).expect("a request");
        let keys = world.hub.keys.organization(rival.id).await.expect("keys");
        let name = DeviceName {
            organization: world.acme.id,
            user: olga.caller.actor.user(),
            device: olga.laptop.id,
        };
        keys.authority.sign_device(&request, name, world.now().into()).expect("signed").certificate
    };
    let refused = refused_laptop(&world, |nonce| Hello {
        certificate_chain: vec![forged.to_vec()],
        signature: challenge::sign(&mallory.laptop.key, nonce, HOST).to_vec(),
        version: String::new(),
        name: String::new(),
        time_s: world.now().as_second(),
    })
    .await;
    assert!(
        refused.message().contains("not signed by the expected authority"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_link_begins_with_hello() {
    let world = World::new().await;
    let mut link = LaptopLink::open(&world).await.expect("open");
    link.next().await.expect("a challenge");
    link.say(laptop_up::Message::Observed(observed("x", Phase::Active, ""))).await;
    assert_eq!(link.next().await.expect_err("refused").code(), Code::InvalidArgument);
    let mut link = AgentLink::open(&world).await.expect("open");
    link.next().await.expect("a challenge");
    link.say(cluster_up::Message::Observed(observed("x", Phase::Active, ""))).await;
    assert_eq!(link.next().await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn nobody_says_much_before_they_are_known() {
    let world = World::new().await;
    let long = refused_laptop(&world, |_| Hello {
        certificate_chain: vec![vec![0; 1 << 20]],
        time_s: world.now().as_second(),
        ..Hello::default()
    })
    .await;
    assert_eq!(long.code(), Code::ResourceExhausted, "{}", long.message());
    let cluster = Cluster::new(&world, "somewhere");
    let long = EnrolRequest {
        teamspace_certificate: vec![0; 1 << 20],
        ..cluster.request(&world, &format!("flj_{}", "A".repeat(43)))
    };
    let refused = enrol(&world, long).await.expect_err("too long");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{}", refused.message());
}

#[tokio::test]
async fn whoever_asks_for_another_version_of_the_link_learns_that_there_is_none() {
    let world = World::new().await;
    let to_newer = |mut request: http::Request<tonic::body::Body>| {
        let newer = request.uri().to_string().replace("link.v1", "link.v9");
        *request.uri_mut() = newer.parse().expect("a URI");
        request
    };
    let newer = tower::util::MapRequest::new(channel(&world).await, to_newer);
    let refused = LaptopLinksClient::new(newer).open(tokio_stream::empty()).await;
    assert_eq!(refused.expect_err("unknown").code(), Code::Unimplemented);
}
