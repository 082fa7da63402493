//! Which refusals operations share, for the description of the API. What each answers is in `error.rs`.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

/// Declares a type that stands for some refusals; it is only ever named.
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident: $($status:literal),+) => {
        $(#[$doc])*
        pub(super) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$(($status.to_owned(), refusal())),+])
            }
        }
    };
}

refusals! {
    /// Anybody may ask who is signed in.
    SignedIn: "401"
}
refusals! {
    /// A policy decides about an operation on the whole organization.
    Permitted: "401", "403"
}
refusals! {
    /// A policy decides who sees the thing, and whoever sees it may.
    Seen: "401", "404"
}
refusals! {
    /// A policy decides who sees the thing, and another who may.
    PermittedIfSeen: "401", "403", "404"
}

fn refusal() -> RefOr<Response> {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    ResponseBuilder::new().content("application/json", body).build().into()
}
