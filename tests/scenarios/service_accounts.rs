//! A CI job signs in with a token that an owner made in the browser, without one of its own.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    command_line::{CommandLine, refused, tokens},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_signs_in_with_its_token_until_that_is_revoked_or_expires() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let new = json!({ "name": "ci", "roles": ["developer"] });
    let made = olga.post("/api/v1/service-accounts", &new).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path_of_tokens =
        format!("/api/v1/service-accounts/{}/tokens", made.json()["id"].as_str().expect("an id"));
    let made = olga.post(&path_of_tokens, &json!({ "name": "github" })).await.json();
    let token = made["token"].as_str().expect("a token");
    assert!(token.starts_with("flt_"), "a scanner knows it by its prefix");

    let job = CommandLine::new(&world);
    let pair = tokens(&job.brings(token).await);
    let me = job.get("/api/v1/me", &pair.access).await.json();
    assert_eq!(me["user"]["email"], "ci");
    assert_eq!(job.certify(&pair.access).await.status, 201);
    let next = tokens(&job.refresh(&pair.refresh).await);
    assert_eq!(refused(&job.brings(&token.replace("flt_", "fla_")).await), "invalid_grant");

    let path = format!("/api/v1/api-tokens/{}", made["id"].as_str().expect("an id"));
    assert_eq!(olga.delete(&path).await.status, 204);
    assert_eq!(job.get("/api/v1/me", &next.access).await.status, 401);
    assert_eq!(refused(&job.refresh(&next.refresh).await), "invalid_grant");
    assert_eq!(refused(&job.brings(token).await), "invalid_grant");
    assert!(!world.dump().contains(token), "only its hash is kept");

    let brief = olga.post(&path_of_tokens, &json!({ "name": "gitlab", "days": 1 })).await.json();
    let brief = brief["token"].as_str().expect("a token");
    let pair = tokens(&job.brings(brief).await);
    world.rows("update api_tokens set expires_at = now() where name = 'gitlab'");
    assert_eq!(refused(&job.brings(brief).await), "invalid_grant");
    let out = async {
        while job.get("/api/v1/me", &pair.access).await.status != 401 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), out).await.expect("what it began has ended");
    world.end().await;
}
