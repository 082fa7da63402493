//! The laptop daemon: one per user, unprivileged; link, carriers and streams.

fn main() {}
