//! The processes of the lab itself: `keep` outside, `init` inside, `enter` to run a program on a host.
//!
//! People use `cargo xtask lab`; these verbs are what it and the tests start.

use anyhow::{Context, bail};
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    match verb.to_str() {
        Some("keep") => fairlead_lab::keep(&plan(arguments.next())?),
        Some("init") => fairlead_lab::init(&plan(arguments.next())?),
        Some("enter") => fairlead_lab::enter(arguments.collect()),
        _ => bail!("this program is part of the lab; use: cargo xtask lab up|down|status|exec"),
    }
}

fn plan(argument: Option<std::ffi::OsString>) -> anyhow::Result<String> {
    argument.and_then(|text| text.into_string().ok()).context("the plan of the lab is missing")
}
