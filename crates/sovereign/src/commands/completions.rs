//! `sovereign completions`.

use clap::CommandFactory;
use serde::Serialize;

use crate::cli::{Cli, CompletionsArgs};
use crate::output::{Page, Report};

/// A completion script.
#[derive(Debug, Serialize)]
pub(crate) struct Script {
    shell: String,
    script: String,
}

impl Report for Script {
    fn show(&self, page: &mut Page) {
        page.raw(&self.script);
    }
}

/// Writes the script for a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Script {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sovereign", &mut script);
    Script { shell: args.shell.to_string(), script: String::from_utf8_lossy(&script).into_owned() }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for &shell in Shell::value_variants() {
            let Script { script, .. } = run(&CompletionsArgs { shell });
            assert!(script.contains("completions"), "{shell}");
        }
    }
}
