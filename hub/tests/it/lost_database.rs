//! A hub on a database that knows nobody: whoever was known to the one before hears so, in words that say what to do, and by
//! what tells a program that nothing of it lives here.

use hub_store::Rotated;
use tonic::Code;

use crate::world::World;

#[tokio::test]
async fn whoever_the_database_before_knew_is_told_that_this_one_does_not() {
    let before = World::new().await;
    let olga = before.person("olga", "owners").await;
    let staging = before.teamspace(&olga, "staging", &["shop/cart"]).await;
    let (_, token) = before.waiting_teamspace(&olga, "waiting").await;

    let after = World::new().await;
    let agent = staging.cluster.connect(&after).await.err().expect("its key is unknown");
    assert_eq!(agent.code(), Code::NotFound, "{agent}");
    assert!(agent.message().contains("the hub's database is another one"), "{agent}");
    let laptop = olga.laptop.connect(&after).await.err().expect("its organization is unknown");
    assert_eq!(laptop.code(), Code::NotFound, "{laptop}");
    assert!(laptop.message().contains("sign in again with `fairlead login`"), "{laptop}");
    let joins = staging.cluster.enrol(&after, &token).await.expect_err("its token is unknown");
    assert_eq!(joins.code(), Code::Unauthenticated, "{joins}");
    assert!(joins.message().contains("the hub does not know this join token"), "{joins}");

    let asked = olga.get(&after, "/api/v1/teamspaces").await.with(401);
    assert_eq!(asked["error"]["hint"], "sign in: fairlead login");
    let (rotated, _) = olga.refreshes(&after, None).await;
    assert!(matches!(rotated, Rotated::Unknown), "{rotated:?}");
}

/// Whoever is told that nothing of theirs lives here gives it up: a database that does not answer is no reason.
#[tokio::test]
async fn nobody_is_unknown_to_a_hub_whose_database_does_not_answer() {
    let (world, another) = (World::new().await, World::new().await);
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let eve = another.person("eve", "owners").await;
    world.hub.store.close().await;
    let agent = staging.cluster.connect(&world).await.err().expect("nobody can look it up");
    let laptop = olga.laptop.connect(&world).await.err().expect("nobody can look it up");
    // Not even the keys of her organization are at hand.
    let stranger = eve.laptop.connect(&world).await.err().expect("nobody can look it up");
    for refused in [agent, laptop, stranger] {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
}
