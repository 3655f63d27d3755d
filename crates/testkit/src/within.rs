//! The host of an Incus that has a network to itself ([`Incusd::start_apart`]), with the project and the pool that hosts
//! have.

use std::io;
use std::net::SocketAddrV4;
use std::process::Stdio;

use sovereign_engine::incus::instances::InstanceHost;
use sovereign_hosts::systemd::{Answer, Host};
use sovereign_incus::project::{Project, restricted};
use sovereign_incus::{Client, Config, IncusError, Stream};
use tokio::io::{AsyncWriteExt as _, join};
use tokio::process::Command;

use crate::incusd::Incusd;

/// The host of an Incus with a network to itself. Its systemd is not running, but writes down what starts at boot.
#[derive(Debug)]
pub struct Within(Vec<String>);

impl Within {
    /// The host of this Incus.
    ///
    /// # Panics
    /// When a folder cannot be made there.
    pub fn of(incusd: &Incusd) -> Self {
        let made = incusd.within("mkdir").args(["-p", "/etc/sovereign"]).status();
        assert!(made.is_ok_and(|made| made.success()), "/etc/sovereign was not made");
        let within = incusd.within("env");
        let words = std::iter::once(within.get_program()).chain(within.get_args());
        Self(words.map(|word| word.to_string_lossy().into_owned()).collect())
    }

    fn command(&self, words: &[&str]) -> Command {
        let (program, first) = self.0.split_first().expect("of() gives a program");
        let mut command = Command::new(program);
        command.args(first).args(words).env("SYSTEMD_OFFLINE", "1").kill_on_drop(true);
        command
    }
}

impl Host for Within {
    type Error = io::Error;

    async fn run(&self, words: &[&str]) -> io::Result<Answer> {
        let output = self.command(words).stdin(Stdio::null()).output().await?;
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { code: output.status.code().unwrap_or(-1), stdout, stderr })
    }

    async fn put(&self, path: &str, text: &str) -> io::Result<()> {
        let mut command = self.command(&["sh", "-c", "cat > \"$1\"", "sh", path]);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        child.stdin.take().expect("it is piped").write_all(text.as_bytes()).await?;
        assert!(child.wait().await?.success(), "{path} was not written");
        Ok(())
    }
}

impl InstanceHost for Within {
    async fn dial(&self, to: SocketAddrV4) -> io::Result<Box<dyn Stream>> {
        let mut command = self.command(&["busybox", "nc", &to.ip().to_string(), &to.port().to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stream = join(child.stdout.take().expect("it is piped"), child.stdin.take().expect("it is piped"));
        // Ends with its input.
        tokio::spawn(async move { child.wait().await });
        Ok(Box::new(stream))
    }
}

/// Makes a pool of this size and the project, as they are on a host that is ready. The client is for the project.
///
/// # Errors
/// When the server does not do it.
///
/// # Panics
/// Never: the names are names.
pub async fn prepare(client: &Client, size: &str) -> Result<Client, IncusError> {
    let size = Config::from([("size".to_owned(), size.to_owned())]);
    client.create_pool(&"sovereign".parse().expect("a name"), "btrfs", &size).await?;
    let mut config = restricted();
    // As `host add` makes it.
    config.remove("restricted.snapshots");
    let project = Project { name: "sovereign".parse().expect("a name"), description: String::new(), config };
    client.create_project(&project).await?;
    Ok(client.in_project(project.name))
}
