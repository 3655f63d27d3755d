//! `sovereign`: the command line, and the daemons behind it.
//!
//! Promises: stdout carries the answer, stderr the conversation; how it ended is in the exit code ([`exit::Exit`]).
//! This crate wires: what is decided and done lives in the other rooms.

mod adopted;
mod assess;
mod backup;
mod certificates;
mod cli;
mod commands;
mod context;
mod copy_at;
mod data;
mod datacenters;
mod debian;
mod declared;
mod deployment;
#[cfg(test)]
mod documented;
mod drain;
mod drill;
mod duplicity;
mod engines;
mod environment;
mod evacuation;
mod exit;
mod failure;
mod gather;
mod ghost_lock;
mod hosts;
mod interrupt;
mod kept_file;
mod lease;
mod log;
mod moving;
mod output;
mod pinned;
mod places;
mod primaries;
mod program;
mod providers;
mod reachable;
mod recovery;
mod restore;
mod root_images;
mod secrets;
mod stack_file;
mod top;
mod unrestored;
mod upgrade;
mod verify;
mod world;
mod zone_keys;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::context::Context;
use crate::environment::Environment;

fn main() -> ExitCode {
    let Cli { common, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(misuse) => return output::explain(&misuse, std::env::args_os()).into(),
    };
    let name = command.name();
    let context = Context::new(common, Environment::of_process());
    log::start(&context.output, &context.environment, command.is_daemon());
    let outcome = commands::run(&context, command);
    context.output.finish(name, outcome).into()
}
