//! Who may be at the ends of a carrier: exactly those who were named, and nobody else.

use std::time::{Duration, SystemTime};

use fairlead_model::{OrgId, timers::DEVICE_CERTIFICATE_LIFE};
use fairlead_tunnel::{
    Acceptor, HandshakeError, Opener, PeerExpectation, TlsIdentity, tls::TlsConfigError,
};
use fairlead_wire::authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority};

use crate::world::{World, device_of, drive, in_time, key, replica_of};

struct Attempt {
    at_opener: Result<Opener, HandshakeError>,
    at_acceptor: Result<Acceptor, HandshakeError>,
}

/// Lets `laptop` and `agent` meet, each with its own idea of who the other should be; the laptop opens.
async fn meet(
    world: &World,
    (laptop, expects_replica): (TlsIdentity, PeerExpectation),
    (agent, expects_device): (TlsIdentity, PeerExpectation),
) -> Attempt {
    let (_, near, far) = world.joined().await;
    let at_acceptor =
        tokio::spawn(async move { drive(Acceptor::handshake(far, &agent, &expects_device)).await });
    let at_opener = in_time(drive(Opener::handshake(near, &laptop, &expects_replica))).await;
    Attempt { at_opener, at_acceptor: in_time(at_acceptor).await.expect("no panic") }
}

/// The agent refuses the laptop, and the laptop is told so.
fn assert_not_accepted(attempt: &Attempt) {
    let Attempt { at_opener, at_acceptor } = attempt;
    assert!(matches!(at_acceptor, Err(HandshakeError::NotTrusted(_))), "{at_acceptor:?}");
    assert!(matches!(at_opener, Err(HandshakeError::NotAccepted(_))), "{at_opener:?}");
}

#[tokio::test]
async fn the_right_two_agree() {
    let world = World::new().await;
    let attempt = meet(
        &world,
        (world.laptop(), world.expects_replica()),
        (world.replica(), world.expects_device()),
    )
    .await;
    assert!(attempt.at_opener.is_ok() && attempt.at_acceptor.is_ok());
}

#[tokio::test]
async fn the_agent_may_be_the_one_that_opens() {
    let world = World::new().await;
    let attempt = meet(
        &world,
        (world.replica(), world.expects_device()),
        (world.laptop(), world.expects_replica()),
    )
    .await;
    assert!(attempt.at_opener.is_ok() && attempt.at_acceptor.is_ok());
}

#[tokio::test]
async fn an_agent_whose_key_is_not_the_pinned_one_is_refused() {
    let world = World::new().await;
    let impostor = TeamspaceAuthority::create(key(), SystemTime::now()).expect("made");
    let attempt = meet(
        &world,
        (world.laptop(), world.expects_replica()),
        (replica_of(&impostor), world.expects_device()),
    )
    .await;
    let refused = attempt.at_opener.expect_err("refused");
    assert!(matches!(refused, HandshakeError::NotTrusted(_)), "{refused:?}");
    // Nor does a certificate that the hub hands out in its place get past the pin.
    let handed_out =
        PeerExpectation::replica(impostor.certificate().clone(), &world.teamspace.thumbprint());
    assert!(matches!(handed_out, Err(TlsConfigError::NotThePinnedKey { .. })));
}

#[tokio::test]
async fn a_laptop_of_another_organization_is_refused() {
    let world = World::new().await;
    let other =
        OrganizationAuthority::create(OrgId::generate(), key(), SystemTime::now()).expect("made");
    let attempt = meet(
        &world,
        (device_of(&other, &world.device_key), world.expects_replica()),
        (world.replica(), world.expects_device()),
    )
    .await;
    assert_not_accepted(&attempt);
}

#[tokio::test]
async fn another_laptop_of_the_same_organization_is_refused() {
    let world = World::new().await;
    let attempt = meet(
        &world,
        (device_of(&world.organization, &key()), world.expects_replica()),
        (world.replica(), world.expects_device()),
    )
    .await;
    assert_not_accepted(&attempt);
}

#[tokio::test]
async fn a_replica_cannot_pose_as_a_laptop_nor_a_laptop_as_a_replica() {
    let world = World::new().await;
    let attempt = meet(
        &world,
        (world.replica(), world.expects_replica()),
        (world.replica(), world.expects_device()),
    )
    .await;
    assert_not_accepted(&attempt);
    let attempt = meet(
        &world,
        (world.laptop(), world.expects_replica()),
        (world.laptop(), world.expects_device()),
    )
    .await;
    let refused = attempt.at_opener.expect_err("refused");
    assert!(matches!(refused, HandshakeError::NotTrusted(_)), "{refused:?}");
}

#[tokio::test]
async fn a_laptop_whose_certificate_has_expired_is_refused() {
    let world = World::new().await;
    let request = DeviceRequest::make_pem(&world.device_key).expect("made");
    let name = fairlead_wire::identity::DeviceName {
        organization: OrgId::generate(),
        user: fairlead_model::UserId::generate(),
        device: fairlead_model::DeviceId::generate(),
    };
    let long_ago = SystemTime::now() - DEVICE_CERTIFICATE_LIFE - Duration::from_secs(60);
    let expired = world
        .organization
        .sign_device(&DeviceRequest::parse_pem(&request).expect("its own"), name, long_ago)
        .expect("signed");
    let laptop = TlsIdentity::new(vec![expired.certificate], &world.device_key).expect("fits");
    let attempt =
        meet(&world, (laptop, world.expects_replica()), (world.replica(), world.expects_device()))
            .await;
    let Attempt { at_opener, at_acceptor } = attempt;
    for refused in [at_opener.err(), at_acceptor.err()] {
        assert!(matches!(refused, Some(HandshakeError::NotAtThisTime(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing() {
    let world = World::new().await;
    let request = DeviceRequest::make_pem(&world.device_key).expect("made");
    let name = fairlead_wire::identity::DeviceName {
        organization: OrgId::generate(),
        user: fairlead_model::UserId::generate(),
        device: fairlead_model::DeviceId::generate(),
    };
    let stolen = world
        .organization
        .sign_device(&DeviceRequest::parse_pem(&request).expect("its own"), name, SystemTime::now())
        .expect("signed");
    assert!(TlsIdentity::new(vec![stolen.certificate], &key()).is_err());
}
