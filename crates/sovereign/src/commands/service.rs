//! `sovereign service`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use serde::Serialize;
use sovereign_engine::embedded::service::{Scope, unit_name, unit_text};
use sovereign_model::StackName;
use sovereign_runtime::file;

use crate::context::Context;
use crate::declared::Declared;
use crate::environment::names;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::program::Program;

/// What was written or removed, and what is left to be done by hand.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    unit: PathBuf,
    present: bool,
    /// Commands that could not be run here.
    remaining: Vec<String>,
}

impl Report for Service {
    fn show(&self, page: &mut Page) {
        let verb = if self.present { "wrote" } else { "removed" };
        page.line(format_args!("{verb} {}", self.unit.display()));
        for command in &self.remaining {
            page.help(format_args!("systemd does not answer here; run this yourself: {command}"));
        }
    }
}

/// The unit could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot change {path}", path = .path.display())]
pub(super) struct UnitFile {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl Reason for UnitFile {}

/// Whose systemd it is.
pub(super) fn scope() -> Scope {
    if rustix::process::geteuid().is_root() { Scope::System } else { Scope::User }
}

/// Where units lie.
pub(super) fn unit_folder(context: &Context) -> PathBuf {
    match scope() {
        Scope::System => PathBuf::from("/etc/systemd/system"),
        Scope::User => {
            let home = context.environment.path(names::HOME).unwrap_or_default();
            context
                .environment
                .path(names::XDG_CONFIG_HOME)
                .unwrap_or_else(|| home.join(".config"))
                .join("systemd/user")
        }
    }
}

fn path(context: &Context, stack: &StackName) -> PathBuf {
    unit_folder(context).join(unit_name(stack))
}

/// Removes a unit's file; it may be missing.
pub(super) fn remove_file(unit: &Path) -> Result<(), Failure> {
    match fs::remove_file(unit) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(UnitFile { path: unit.to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

/// Runs `systemctl` (and, for a user's unit, `loginctl`); what fails is left to the operator.
pub(super) fn systemctl(commands: &[&[&str]]) -> Vec<String> {
    let ran = |command: &&&[&str]| {
        let [program, args @ ..] = **command else { return true };
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    commands.iter().filter(|command| !ran(command)).map(|command| command.join(" ")).collect()
}

/// `service install`.
pub(crate) fn install(context: &Context) -> Result<Service, Failure> {
    let declared = Declared::load(context)?;
    let program = Program::of_this_process(&declared.state.programs())?;
    program.install()?;
    let unit = path(context, &declared.stack.name);
    let text = unit_text(scope(), &declared.stack.name, &program.current(), declared.state.path());
    let failed = |source| UnitFile { path: unit.clone(), source };
    if let Some(folder) = unit.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    file::replace(&unit, text.as_bytes(), 0o644).map_err(|error| failed(error.source))?;
    let name = unit_name(&declared.stack.name);
    let remaining = match scope() {
        Scope::System => systemctl(&[&["systemctl", "daemon-reload"], &["systemctl", "enable", &name]]),
        Scope::User => systemctl(&[
            &["systemctl", "--user", "daemon-reload"],
            &["systemctl", "--user", "enable", &name],
            &["loginctl", "enable-linger"],
        ]),
    };
    Ok(Service { unit, present: true, remaining })
}

/// `service uninstall`.
pub(crate) fn uninstall(context: &Context) -> Result<Service, Failure> {
    remove(context, &Declared::load(context)?.stack.name)
}

/// Whether a unit of the stack was written.
pub(crate) fn is_installed(context: &Context, stack: &StackName) -> bool {
    path(context, stack).exists()
}

/// Removes the unit of a stack; it may be missing.
pub(crate) fn remove(context: &Context, stack: &StackName) -> Result<Service, Failure> {
    let unit = path(context, stack);
    let name = unit_name(stack);
    let remaining = match scope() {
        Scope::System => systemctl(&[&["systemctl", "disable", &name]]),
        Scope::User => systemctl(&[&["systemctl", "--user", "disable", &name]]),
    };
    remove_file(&unit)?;
    Ok(Service { unit, present: false, remaining })
}
