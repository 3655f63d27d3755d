//! A stack brought up the way an operator does it, and what stands beside it: free ports, programs that end with us.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::run::{read, say};

/// How long a server may take until it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A stack of one program, one file and a home of its own; taken down when dropped.
pub(crate) struct Stack {
    program: PathBuf,
    home: PathBuf,
}

impl Stack {
    /// `up` of `file` by `program`, in the folder `home`.
    ///
    /// # Errors
    /// When `up` fails; what it has said is in the error.
    pub(crate) fn up(program: &Path, home: &Path, file: &str) -> Result<Self> {
        fs::write(home.join("stack.toml"), file)?;
        let stack = Self { program: program.to_owned(), home: home.to_owned() };
        read(stack.command().args(["up", "--yes"]))?;
        Ok(stack)
    }

    /// The program, at home.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.home).env("HOME", &self.home).env("SOVEREIGN_STATE", self.state());
        command
    }

    /// Where its state lies.
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// The process of a unit, as `status` reports it.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn process(&self, unit: &str) -> Result<u32> {
        let status: Value = serde_json::from_str(&read(self.command().args(["status", "--json"]))?)?;
        let pid = unit_of(&status, unit).and_then(|unit| unit["pid"].as_u64()).context("no such unit runs")?;
        Ok(u32::try_from(pid)?)
    }
}

fn unit_of<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    match status {
        Value::Object(fields) if fields.contains_key("pid") && fields["name"] == name => Some(status),
        Value::Object(fields) => fields.values().find_map(|value| unit_of(value, name)),
        Value::Array(values) => values.iter().find_map(|value| unit_of(value, name)),
        _ => None,
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = read(self.command().args(["down", "--purge", "--yes"])) {
            say(format!("the stack is left behind: {error:#}"));
        }
    }
}

/// How long a process may take to end by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// A process that is ended when dropped. It is asked first: a server that is killed leaves its workers behind.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Gone already is as good, at every step.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < ENDS_WITHIN && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that were free a moment ago.
///
/// # Errors
/// When there are none.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<_> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports: Vec<_> = listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<_>>()?;
    ports.try_into().ok().context("as many ports as listeners")
}

/// Waits until something listens on a port of loopback.
///
/// # Errors
/// When nothing does in time.
pub(crate) fn wait_for(port: u16) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(began.elapsed() < STARTS_WITHIN, "nothing listens on port {port}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
