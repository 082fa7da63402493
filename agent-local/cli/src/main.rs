//! The fairlead command, as the developer runs it.

fn main() {}
