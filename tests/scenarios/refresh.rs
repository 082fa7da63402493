//! Refresh tokens: each is used once, by the device whose key it is bound to.

use fairlead_wire::key::Key;

use crate::{
    command_line::{CommandLine, refused, tokens},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_used_twice_ends_the_sign_in() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let first = ada.signs_in(&mut world.browser(), "ada").await;
    let second = tokens(&ada.refresh(&first.refresh).await);
    let third = tokens(&ada.refresh(&second.refresh).await);
    assert_eq!(refused(&ada.refresh(&first.refresh).await), "invalid_grant");
    assert_eq!(refused(&ada.refresh(&third.refresh).await), "invalid_grant");
    assert_eq!(ada.get("/api/v1/me", &third.access).await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_refresh_token_is_worth_nothing_without_the_device_key() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let pair = ada.signs_in(&mut world.browser(), "ada").await;
    let thief = ada.proof(&Key::generate().expect("made"));
    for proof in [Some(thief), None, Some("nonsense".to_owned())] {
        let page = ada.refresh_with(proof, &pair.refresh).await;
        assert_eq!(refused(&page), "invalid_dpop_proof");
    }
    let proof = ada.proof(&ada.key);
    let next = tokens(&ada.refresh_with(Some(proof.clone()), &pair.refresh).await);
    let replayed = ada.refresh_with(Some(proof), &next.refresh).await;
    assert_eq!(refused(&replayed), "invalid_dpop_proof");
    tokens(&ada.refresh(&next.refresh).await);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uses_of_a_proof_at_once_one_counts() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let mut pair = ada.signs_in(&mut world.browser(), "ada").await;
    for _ in 0..10 {
        // Both come with the same token as well: that alone looks like a laptop whose answer was lost.
        let proof = Some(ada.proof(&ada.key));
        let (one, other) = tokio::join!(
            ada.refresh_with(proof.clone(), &pair.refresh),
            ada.refresh_with(proof, &pair.refresh)
        );
        let (next, replayed) = if one.status == 200 { (one, other) } else { (other, one) };
        assert_eq!(refused(&replayed), "invalid_dpop_proof");
        pair = tokens(&next);
    }
    world.end().await;
}
