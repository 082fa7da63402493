//! Every way in, on one port: REST, sign-in pages, the links, and the console for whatever else is asked.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, header},
    middleware,
};
use tower::ServiceBuilder;
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
    trace::TraceLayer,
};
use utoipa::{OpenApi, openapi::OpenApi as Document};
use utoipa_axum::router::OpenApiRouter;

use super::{
    assets, audit, carrier, deadline, description::Api, devices, events, groups, guard, health,
    join_tokens, link, me, members, organization, policies, roles, service_accounts, services,
    sessions, setup, teamspaces, version, visitor,
};
use crate::{Hub, links, login};

/// No request of ours is larger; a catalogue comes over a link.
const BODY_MAX_BYTES: usize = 64 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the described routes and their description.
pub(super) fn api() -> (Router<Hub>, Document) {
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(audit::routes())
        .merge(devices::routes())
        .merge(events::routes())
        .merge(groups::routes())
        .merge(health::routes())
        .merge(join_tokens::routes())
        .merge(me::routes())
        .merge(members::routes())
        .merge(organization::routes())
        .merge(policies::routes())
        .merge(roles::routes())
        .merge(service_accounts::routes())
        .merge(services::routes())
        .merge(sessions::routes())
        .merge(setup::routes())
        .merge(teamspaces::routes())
        .merge(version::routes())
        .split_for_parts()
}

/// Returns everything the hub serves.
pub fn router(hub: &Hub) -> Router {
    let (described, _) = api();
    let trusted: visitor::Trusted = hub.config.trusted_proxies.clone().into();
    let guard = middleware::from_fn_with_state(guard::Strangers::default(), guard::limit_strangers);
    let people = described
        .merge(login::routes())
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn(deadline::keep))
        .with_state(hub.clone());
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(middleware::from_fn_with_state(trusted, visitor::recognize))
        .layer(guard.clone())
        .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(header::REFERRER_POLICY, "no-referrer"))
        .layer(always(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .option_layer(
            remembers_https(hub)
                .then(|| always(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000")),
        )
        .layer(always(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
        ));
    // Links and carriers live as long as they live: they know no timeout and no limit of ours on bodies.
    let links = links::routes(hub);
    let inside = links.clone().layer(guard.clone()).layer(TraceLayer::new_for_http());
    let links = links.merge(link::routes(hub, inside));
    links.merge(carrier::routes(hub)).merge(people).layer(layers)
}

/// Says whether browsers shall insist on HTTPS for this host. Not for one that other programs of a developer use too.
fn remembers_https(hub: &Hub) -> bool {
    hub.config.public_url.domain().is_some_and(|host| host != "localhost")
}

/// Sets a header wherever the answer does not set it itself.
fn always(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}
