//! Every verb of this repository, the same for people and for CI.

fn main() {}
