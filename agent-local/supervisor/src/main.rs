//! The laptop supervisor: root, tiny; applies footprints and keeps the daemon running.

fn main() {}
