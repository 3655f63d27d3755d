//! An edge as a process of its own, as its supervisor starts it. The test binary plays the process: it must lead to
//! [`play`] when it is started with what [`command`] gives it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::Digest as _;
use sovereign_edge::{Options, SOCKET};
use sovereign_runtime::control::{Request, request_async};
use sovereign_runtime::signed::parse_trust;
use sovereign_runtime::sockets::Handover;

use super::{Lab, Place, eventually};

/// Is the edge, until it is told to stop.
pub fn play() {
    let [config, trust, control] = ["CONFIG", "TRUST", "CONTROL"].map(|name| std::env::var(name).unwrap());
    let options =
        Options { config: config.into(), trust: parse_trust(&trust).unwrap(), control: control.into(), renewal: None };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(sovereign_edge::run(options)).unwrap();
}

/// What starts `program` as the edge of `place`.
pub fn command(program: &Path, lab: &Lab, place: &Place) -> Command {
    let options = lab.options(place);
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", "edge_process", "--test-threads=1"]).env_clear();
    command.env("CONFIG", &options.config).env("CONTROL", &options.control);
    command.env("TRUST", hex::encode(options.trust.as_bytes()));
    // It would be counted as a test of its own.
    command.stdout(Stdio::null());
    let listener = place.listener.try_clone().unwrap();
    Handover::new().with(SOCKET, listener).unwrap().attach(&mut command);
    command
}

/// The edge of `place` as a process that ends with the value.
pub struct Process(pub Child);

impl Process {
    pub fn spawn(lab: &Lab, place: &Place) -> Self {
        Self(command(&std::env::current_exe().unwrap(), lab, place).spawn().unwrap())
    }

    /// Its status, once it answers and its site is complete.
    pub async fn complete(&self, place: &Place) -> Value {
        eventually("the process answers", async || {
            let status = status(place).await?;
            (status["process"] == self.0.id() && status["sites"][0]["complete"] == true).then_some(status)
        })
        .await
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Told to stop, it does, and well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.0.wait().unwrap().success());
    }

    /// A line of proc_pid_status(5), in KiB.
    pub fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Where the store of `place` keeps the page of the blog at `target`.
pub fn record_of(place: &Place, target: &str) -> std::path::PathBuf {
    let name = hex::encode(sha2::Sha256::digest(format!("blog\0{target}")));
    place.folder.join("store").join(&name[..2]).join(name)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the process behind the control socket of `place` says.
pub async fn status(place: &Place) -> Option<Value> {
    request_async(&place.control(), &Request::new("status"), Duration::from_secs(5)).await.ok()
}
