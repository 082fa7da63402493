//! A cluster of many services: what the hub does for all of them at once, and not for each by itself.

use fairlead_wire::link::v1::{Catalogue, CatalogueService, ServiceRef, cluster_up};
use serde_json::json;

use crate::{
    peers::{Joined, service},
    world::World,
};

const SERVICES: usize = 100;
/// From here on the database counts the statements that write what there is one of for each service.
const COUNT_STATEMENTS: &str = "
    create table statements (what text not null);
    create function count_statement() returns trigger language plpgsql as $$
        begin insert into statements values (tg_op || ' ' || tg_table_name); return null; end $$;
    create trigger counted after insert or delete on services
        for each statement execute function count_statement();
    create trigger counted after insert or delete on session_services
        for each statement execute function count_statement();";

fn names() -> Vec<String> {
    (0..SERVICES).map(|number| format!("shop/s{number}")).collect()
}

impl Joined {
    async fn says(&self, changed: Vec<CatalogueService>, deleted: Vec<ServiceRef>) {
        let catalogue = Catalogue { changed, deleted, ..Catalogue::default() };
        self.agent.say(cluster_up::Message::Catalogue(catalogue)).await;
    }
}

#[tokio::test]
async fn many_services_are_stored_decided_and_deleted_by_one_statement_each() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["pay/ledger"]).await;
    world.sql(COUNT_STATEMENTS);
    let services: Vec<_> = names().iter().map(|name| service(name)).collect();
    let all = services.iter().filter_map(|service| service.service.clone()).collect();
    staging.says(services, Vec::new()).await;
    world.knows(&olga, staging.id, SERVICES + 1).await;
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    assert_eq!(begun["services"].as_array().map(Vec::len), Some(SERVICES));
    staging.says(Vec::new(), all).await;
    world.knows(&olga, staging.id, 1).await;
    let statements = "select what, count(*) from statements group by what order by what";
    let expected = ["DELETE services|1", "INSERT services|1", "INSERT session_services|1"];
    assert_eq!(world.rows(statements), expected);
}

#[tokio::test]
async fn of_a_service_that_is_named_twice_the_last_word_counts() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &[]).await;
    let [mut first, mut last] = [service("shop/cart"), service("shop/cart")];
    (first.ready_endpoints, last.ready_endpoints) = (1, 7);
    staging.says(vec![first, last], Vec::new()).await;
    world.knows(&olga, staging.id, 1).await;
    let path = format!("/api/v1/teamspaces/{}/services", staging.id);
    let listed = olga.get(&world, &path).await.with(200);
    assert_eq!(listed["services"][0]["ready_endpoints"], json!(7));
}

#[tokio::test]
async fn a_whole_catalogue_of_several_messages_takes_nothing_away_before_its_last() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart", "shop/pay"]).await;
    let says = async |full, more, changed| {
        let catalogue = Catalogue { full, more, changed, ..Catalogue::default() };
        staging.agent.say(cluster_up::Message::Catalogue(catalogue)).await;
    };
    says(true, true, vec![service("shop/web")]).await;
    world.knows(&olga, staging.id, 3).await;
    says(false, false, vec![service("shop/cart")]).await;
    world.knows(&olga, staging.id, 2).await;
    let path = format!("/api/v1/teamspaces/{}/services", staging.id);
    let listed = olga.get(&world, &path).await.with(200);
    let names: Vec<_> = listed["services"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = names.iter().map(|service| &service["name"]).collect();
    assert_eq!(names, [&json!("cart"), &json!("web")]);
}
