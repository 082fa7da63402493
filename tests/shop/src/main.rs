//! The shop: the sample application that Fairlead is shown and tested with.

fn main() {}
