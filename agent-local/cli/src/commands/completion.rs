//! `fairlead completion SHELL`.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Context;
use crate::{args::Args, errors::CliError};

pub(super) fn run(context: &Context<'_>, shell: Shell) -> Result<(), CliError> {
    // Through a buffer: the generator panics when its writer fails, and a pipe may close.
    let mut script = Vec::new();
    generate(shell, &mut Args::command(), "fairlead", &mut script);
    context.output.raw(&script)
}
