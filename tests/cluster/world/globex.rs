//! A second organization on the same hub: globex, which eve owns. She signs in by the operator's recover link.

use std::fs;

use anyhow::{Context, ensure};
use fairlead_lab::{Host, sibling};
use fairlead_tests::{Browser, World, say};
use serde_json::json;

/// Returns eve's browser, signed in; the organization is founded at the first call.
pub(crate) fn eve(world: &World) -> anyhow::Result<Browser<'_>> {
    let home = world.folder().join("eve");
    fs::create_dir_all(&home)?;
    let browser = Browser::new(world.lab(), Host::Laptop, "eve", 0, &home, &world.hub_ca());
    if !admin(world, &["organizations", "list"])?.contains("globex") {
        let setup = json!({
            "token": token_in(&admin(world, &["setup-url"])?)?,
            "organization": {"slug": "globex", "name": "Globex"},
            "owner_email": "eve@globex.test",
            "oidc": {
                "issuer": "http://idp.fairlead.test:9090",
                "client_id": "fairlead",
                "client_secret": "lab-secret",
                "groups_claim": "groups",
                "scopes": ["openid", "email", "profile", "groups"],
                "email_domains": ["globex.test"],
            },
            "group_roles": [],
        });
        browser.call("POST", "/api/v1/setup", Some(&setup))?.json()?;
    }
    let words = ["recover", "--email", "eve@globex.test", "--organization", "globex"];
    let token = token_in(&admin(world, &words)?)?;
    let page = browser.submit("/login/recover", &format!("token={token}"))?;
    ensure!(page.status == 200, "recovering ended with {}: {}", page.status, page.body);
    let me = browser.call("GET", "/api/v1/me", None)?.json()?;
    ensure!(me["organization"]["slug"] == "globex", "{me}");
    Ok(browser)
}

/// Does what only the operator can, on the hub's host.
fn admin(world: &World, words: &[&str]) -> anyhow::Result<String> {
    let mut admin = world.lab().exec(Host::Hub, sibling("fairlead-hub")?);
    admin.arg("admin").arg("--config").arg(world.folder().join("hub/hub.toml")).args(words);
    Ok(say(admin)?.ok()?.stdout)
}

fn token_in(url: &str) -> anyhow::Result<String> {
    let (_, token) = url.trim().split_once("token=").context("the link has a token")?;
    Ok(token.to_owned())
}
