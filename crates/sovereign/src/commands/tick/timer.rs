//! The timer that runs `sovereign tick` (systemd.timer(5)).
//!
//! It fires every quarter of an hour, and once after the machine was off or asleep at such a time; what is due then is
//! the stack file's to say. So the timer never changes when the stack file does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sovereign_engine::embedded::service::Scope;
use sovereign_hosts::systemd::{word, words};
use sovereign_model::StackName;
use sovereign_runtime::file;

use crate::commands::service::{UnitFile, remove_file, scope, systemctl, unit_folder};
use crate::context::Context;
use crate::declared::Declared;
use crate::environment::names;
use crate::failure::Failure;
use crate::output::{Page, Report};
use crate::program::Program;

/// What was written or removed, and what is left to be done by hand.
#[derive(Debug, Serialize)]
pub(crate) struct Timer {
    units: Vec<PathBuf>,
    present: bool,
    /// Commands that could not be run here.
    remaining: Vec<String>,
    /// A line for cron that does the same.
    cron: Option<String>,
}

impl Report for Timer {
    fn show(&self, page: &mut Page) {
        let verb = if self.present { "wrote" } else { "removed" };
        for unit in &self.units {
            page.line(format_args!("{verb} {}", unit.display()));
        }
        for command in &self.remaining {
            page.help(format_args!("systemd does not answer here; run this yourself: {command}"));
        }
        if let Some(cron) = self.cron.as_ref().filter(|_| !self.remaining.is_empty()) {
            page.help(format_args!("where there is no systemd, this line for `crontab -e` does the same: {cron}"));
        }
    }
}

fn name(stack: &StackName, end: &str) -> String {
    format!("sovereign-{stack}-tick.{end}")
}

fn units(context: &Context, stack: &StackName) -> [PathBuf; 2] {
    let folder = unit_folder(context);
    ["service", "timer"].map(|end| folder.join(name(stack, end)))
}

/// `tick --install`.
pub(super) fn install(context: &Context) -> Result<Timer, Failure> {
    let declared = Declared::load(context)?;
    let program = Program::of_this_process(&declared.state.programs())?;
    program.install()?;
    let stack = &declared.stack.name;
    let stack_file = std::path::absolute(&declared.file).unwrap_or_else(|_| declared.file.clone());
    let command = Command { program: &program.current(), stack_file: &stack_file, state: declared.state.path() };
    // A service of the machine's has no HOME, and where things lie follows from these.
    let kept = [names::HOME, names::XDG_CONFIG_HOME, names::XDG_DATA_HOME, names::XDG_CACHE_HOME, names::PATH];
    let environment: Vec<_> =
        kept.iter().filter_map(|name| Some(format!("{name}={}", context.environment.path(name)?.display()))).collect();
    let units = units(context, stack);
    let texts = [service_text(stack, &command, &environment), timer_text(stack)];
    for (unit, text) in units.iter().zip(texts) {
        let failed = |source| UnitFile { path: unit.clone(), source };
        if let Some(folder) = unit.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        file::replace(unit, text.as_bytes(), 0o644).map_err(|error| failed(error.source))?;
    }
    let timer = name(stack, "timer");
    let remaining = match scope() {
        Scope::System => systemctl(&[&["systemctl", "daemon-reload"], &["systemctl", "enable", "--now", &timer]]),
        Scope::User => systemctl(&[
            &["systemctl", "--user", "daemon-reload"],
            &["systemctl", "--user", "enable", "--now", &timer],
            &["loginctl", "enable-linger"],
        ]),
    };
    Ok(Timer { units: units.into(), present: true, remaining, cron: Some(command.cron()) })
}

/// `tick --uninstall`.
pub(super) fn uninstall(context: &Context) -> Result<Timer, Failure> {
    remove(context, &Declared::load(context)?.stack.name)
}

/// Whether a timer of the stack was written.
pub(crate) fn is_installed(context: &Context, stack: &StackName) -> bool {
    units(context, stack).iter().any(|unit| unit.exists())
}

/// Removes the timer of a stack; it may be missing.
pub(crate) fn remove(context: &Context, stack: &StackName) -> Result<Timer, Failure> {
    let timer = name(stack, "timer");
    let remaining = match scope() {
        Scope::System => systemctl(&[&["systemctl", "disable", "--now", &timer]]),
        Scope::User => systemctl(&[&["systemctl", "--user", "disable", "--now", &timer]]),
    };
    let units = units(context, stack);
    for unit in &units {
        remove_file(unit)?;
    }
    Ok(Timer { units: units.into(), present: false, remaining, cron: None })
}

struct Command<'c> {
    program: &'c Path,
    stack_file: &'c Path,
    state: &'c Path,
}

impl Command<'_> {
    fn words(&self) -> [String; 7] {
        let [program, stack_file, state] =
            [self.program, self.stack_file, self.state].map(|path| path.display().to_string());
        let [quiet, stack, at, tick] = ["--quiet", "--stack", "--state", "tick"].map(str::to_owned);
        [program, quiet, stack, stack_file, at, state, tick]
    }

    /// For a shell; `%` is a line's end to cron.
    fn cron(&self) -> String {
        let quoted = self.words().map(|word| format!("'{}'", word.replace('\'', r"'\''").replace('%', r"\%")));
        format!("*/15 * * * * {}", quoted.join(" "))
    }
}

fn service_text(stack: &StackName, command: &Command<'_>, environment: &[String]) -> String {
    let mut text =
        format!("[Unit]\nDescription=What is due for the sovereign stack {stack}\n\n[Service]\nType=oneshot\n");
    for variable in environment {
        writeln!(text, "Environment={}", word(variable)).expect("writing to a string does not fail");
    }
    // Readers come first.
    text + &format!(
        "ExecStart={}\nNice=10\nIOSchedulingClass=idle\n",
        words(command.words().iter().map(String::as_str))
    )
}

fn timer_text(stack: &StackName) -> String {
    format!(
        "[Unit]\nDescription=Looks for what is due for the sovereign stack {stack}\n\n\
         [Timer]\nOnCalendar=*:0/15\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_run_what_is_due_for_one_stack() {
        let stack = "mine".parse().unwrap();
        let [program, stack_file, state] =
            ["/home/a b/sovereign", "/home/a b/stack.toml", "/home/a b/100%/it's"].map(Path::new);
        let command = Command { program, stack_file, state };
        insta::assert_snapshot!(service_text(&stack, &command, &["HOME=/home/a b".to_owned()]), @r#"
        [Unit]
        Description=What is due for the sovereign stack mine

        [Service]
        Type=oneshot
        Environment="HOME=/home/a b"
        ExecStart="/home/a b/sovereign" --quiet --stack "/home/a b/stack.toml" --state "/home/a b/100%%/it's" tick
        Nice=10
        IOSchedulingClass=idle
        "#);
        insta::assert_snapshot!(timer_text(&stack), @r"
        [Unit]
        Description=Looks for what is due for the sovereign stack mine

        [Timer]
        OnCalendar=*:0/15
        Persistent=true

        [Install]
        WantedBy=timers.target
        ");
        insta::assert_snapshot!(command.cron(), @r"*/15 * * * * '/home/a b/sovereign' '--quiet' '--stack' '/home/a b/stack.toml' '--state' '/home/a b/100\%/it'\''s' 'tick'");
    }
}
