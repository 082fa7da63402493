//! What the description of the REST API says of the whole: its title, its license, and how a caller proves who they are.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::error::ErrorBody;

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
