//! The cluster agent: dials out to the hub, serves consumes, redirects intercepted Services.

fn main() {}
