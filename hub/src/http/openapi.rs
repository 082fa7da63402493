//! The description of the REST API, generated from the routes themselves. `openapi.json` is a copy for those who
//! build against it; a test compares the two.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{error::ErrorBody, router};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fairlead hub",
        description = "Who may reach and take over which service of which cluster; and who is doing it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Credentials),
    security(("token" = []), ("cookie" = [])),
)]
pub(super) struct Api;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let cookie = ApiKey::Cookie(ApiKeyValue::new("__Host-fairlead"));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    }
}

/// Returns the document as it is committed.
#[must_use]
pub fn document() -> String {
    let (_, document) = router::api();
    let mut text = document.to_pretty_json().expect("the document is a tree of strings");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed = include_str!("../../openapi.json");
        assert!(
            committed == super::document(),
            "hub/openapi.json is out of date: run `cargo xtask gen` (or `fairlead-hub openapi > hub/openapi.json`)"
        );
    }

    #[test]
    #[ignore = "writes hub/openapi.json"]
    fn regenerate() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        std::fs::write(path, super::document()).expect("the document can be written");
    }
}
