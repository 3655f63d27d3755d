//! Programs run in an instance to their end; what they wrote is kept by the server, fetched, and removed there.

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use crate::Config;
use crate::answer::{Answer, or_default, typed};
use crate::client::{Call, Client, Raw};
use crate::error::IncusError;
use crate::name::InstanceName;
use crate::path::last_part;
use std::collections::BTreeMap;

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments. No shell looks at them.
    pub line: Vec<String>,
    /// Variables of its environment. No secrets: any process in the instance of the same user can read them.
    pub environment: Config,
    /// The user it runs as, as the instance counts.
    pub user: u32,
    /// The group.
    pub group: u32,
    /// Where it starts; root's home when not said.
    pub folder: Option<String>,
    /// How much of what it writes is read, of each stream.
    pub most_output: usize,
}

impl Command {
    /// This command line, as root, with up to a mebibyte of output.
    pub fn new<S: Into<String>>(line: impl IntoIterator<Item = S>) -> Self {
        let line = line.into_iter().map(Into::into).collect();
        Self { line, environment: Config::new(), user: 0, group: 0, folder: None, most_output: 1 << 20 }
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; 128 and more when a signal ended it.
    pub code: i64,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// Whether it wrote more than was read.
    pub is_cut: bool,
}

/// What the operation of a program says in the end.
#[derive(Deserialize)]
struct Ended {
    #[serde(rename = "return")]
    code: i64,
    /// Where the output is, by descriptor.
    #[serde(default, deserialize_with = "or_default")]
    output: BTreeMap<String, String>,
}

impl Client {
    /// Runs a program to its end, without input.
    ///
    /// # Errors
    /// When the instance is missing or does not run, the program cannot be started or does not end in time, or the
    /// server cannot be reached or refuses. That a program failed is no error, but its exit code.
    pub async fn exec(&self, instance: &InstanceName, command: &Command) -> Result<Ran, IncusError> {
        let Command { line, environment, user, group, folder, most_output } = command;
        let body = json!({
            "command": line,
            "environment": environment,
            "user": user,
            "group": group,
            "cwd": folder.as_deref().unwrap_or_default(),
            "record-output": true,
            "wait-for-websocket": false,
            "interactive": false,
        });
        let path = self.instance_path(instance, &["exec"]);
        let asked = self.asked(&Call::new(Method::POST, path.clone(), self.patience().answer));
        let ended = self.send(Method::POST, path, &body).await?;
        let Ended { code, output } = typed(ended).map_err(|reason| asked.unintelligible(reason))?;
        let (stdout, out_cut) = self.take_output(instance, output.get("1"), *most_output).await?;
        let (stderr, err_cut) = self.take_output(instance, output.get("2"), *most_output).await?;
        Ok(Ran { code, stdout, stderr, is_cut: out_cut || err_cut })
    }

    /// Fetches what was written to one stream, and removes it at the server.
    async fn take_output(
        &self,
        instance: &InstanceName,
        named: Option<&String>,
        most: usize,
    ) -> Result<(Vec<u8>, bool), IncusError> {
        let Some(named) = named else { return Ok((Vec::new(), false)) };
        let below = ["logs", "exec-output", last_part(named).unwrap_or_default()];
        let path = self.instance_path(instance, &below);
        let call = Call::new(Method::GET, path.clone(), self.patience().operation);
        let asked = self.asked(&call);
        let Raw { status, bytes, is_cut, .. } = self.exchange(call, most).await?;
        if status != 200 {
            return Err(match Answer::parse(&bytes) {
                Ok(Answer::Error { status, message }) => asked.refused(status, message),
                _ => asked.unintelligible(format_args!("status {status} and no reason")),
            });
        }
        self.remove(path).await?;
        Ok((bytes, is_cut))
    }
}
