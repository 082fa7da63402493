//! The hub: HTTP, login, links and the actions behind them.

fn main() {}
