//! The program the supervisor's tests supervise with: the real entries of `supervise` and `shim`, impatient, and a
//! small daemon.
//!
//! ```text
//! testbed supervise --state <folder> [--part <part>]
//! testbed shim
//! testbed daemon <control socket> <word>       answers each connection on the socket `https` with the word and its pid
//! testbed once <state> <own folder> <seconds> <script>   runs a shell's script once, confined to the folder
//! testbed talk <state> <own folder> <what>...  tries each in a process that is shown the folder: says what came of it
//! testbed try                                  tries what it is told, line by line: `read <file>`, `write <file>`,
//!                                              `connect <socket or address>`, `send <address>`, `see <variable>`
//! testbed up <folder> <point>                  carries the sample stack's plan out in memory kept in the folder, and kills
//!                                              itself at that point of the run, counted from 1; 0 for never
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sovereign_engine::apply::{Audience, Caller, Engine as _, Event, apply};
use sovereign_engine::embedded::talk::{reading, talk};
use sovereign_engine::embedded::{Options, Part, Timing, once, shim, supervise};
use sovereign_engine::journal::Journal;
use sovereign_model::StateFolder;
use sovereign_runtime::control::{Commands, Refusal, Request, Server};
use sovereign_runtime::lifecycle::{Lifecycle, accept_each};
use sovereign_runtime::sockets;
use sovereign_testkit::memory::MemoryEngine;
use sovereign_testkit::sample;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    match words.as_slice() {
        ["shim"] => Ok(shim::exec()?),
        ["supervise", "--state", state, part @ ..] => {
            let part = match part {
                [] => Part::Keeper,
                ["--part", part] => part.parse()?,
                _ => return Err("usage: supervise --state <folder> [--part <part>]".into()),
            };
            tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
            Ok(supervise(Options {
                state: StateFolder::new(*state),
                part,
                args: args[..3].to_vec(),
                timing: impatient(),
            })?)
        }
        ["up", folder, point] => up(Path::new(folder), point.parse()?),
        ["once", state, own, seconds, script] => {
            let said = once::run(
                &StateFolder::new(*state),
                &once::Once {
                    program: "/bin/sh".into(),
                    args: vec!["-c".to_owned(), (*script).to_owned()],
                    working_dir: own.into(),
                    read: Vec::new(),
                    write: vec![own.into()],
                    user: Some(61_001),
                    patience: Duration::from_secs(seconds.parse()?),
                },
            )?;
            Ok(std::io::stdout().write_all(said.as_bytes())?)
        }
        ["talk", state, own, what @ ..] => {
            let (talk, mut answers, mut questions) =
                talk(&StateFolder::new(*state), &reading(vec!["try".to_owned()], vec![own.into()]))?;
            writeln!(questions, "{}", what.join("\n"))?;
            drop(questions);
            std::io::copy(&mut answers, &mut std::io::stdout())?;
            writeln!(std::io::stderr(), "{}", talk.end())?;
            Ok(())
        }
        ["try"] => {
            for line in std::io::stdin().lines() {
                let line = line?;
                let (how, what) = line.split_once(' ').ok_or("not two words")?;
                let came = match how {
                    "read" => std::fs::read_to_string(what),
                    "write" => std::fs::write(what, "intruder").map(|()| String::new()),
                    "connect" if what.starts_with('/') => UnixStream::connect(what).map(|_| String::new()),
                    "connect" => TcpStream::connect(what).map(|_| String::new()),
                    "send" => UdpSocket::bind("0.0.0.0:0").and_then(|s| s.send_to(b"x", what)).map(|_| String::new()),
                    "see" => std::env::var(what).map_err(std::io::Error::other),
                    _ => return Err("not to be tried".into()),
                };
                let came = came.map_or_else(|error| format!("no: {error}"), |text| format!("yes: {text}"));
                writeln!(std::io::stdout(), "{line}: {came}")?;
            }
            Ok(())
        }
        ["daemon", control, word] => daemon(Path::new(control), word),
        _ => Err("usage: testbed supervise|shim|daemon ...".into()),
    }
}

fn impatient() -> Timing {
    Timing {
        check_soon: Duration::from_millis(20),
        check_often: Duration::from_millis(100),
        start_patience: Duration::from_secs(3),
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_secs(1),
        ..Timing::default()
    }
}

/// Says that it is well unless this file is there.
struct Health(PathBuf);

impl Commands for Health {
    async fn answer(&self, _: Request) -> Result<Value, Refusal> {
        Ok(json!({ "healthy": !self.0.exists(), "process": std::process::id() }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn daemon(control: &Path, word: &str) -> Result<(), Box<dyn Error>> {
    let sick = control.with_extension("sick");
    let lifecycle = Lifecycle::new(Duration::from_secs(1));
    let listener = tokio::net::TcpListener::from_std(sockets::take_listener("https")?)?;
    let server = Server::take_over(control)?;
    let answer = Arc::new(format!("{word} {}\n", std::process::id()));
    let controlled = lifecycle.clone();
    tokio::spawn(async move { server.serve(Arc::new(Health(sick)), &controlled).await });
    let stopping = lifecycle.clone();
    tokio::spawn(async move {
        accept_each(&listener, stopping.stopping(), |(mut connection, _)| {
            let answer = Arc::clone(&answer);
            stopping.spawn(async move {
                // A reader that left is no matter.
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        })
        .await;
    });
    lifecycle.run().await?;
    Ok(())
}

/// Counts what happens, and ends this process the hard way at one point.
struct Killer {
    point: usize,
    heard: AtomicUsize,
}

impl Audience for Killer {
    fn hear(&self, _: Event<'_>) {
        if self.heard.fetch_add(1, Ordering::Relaxed) + 1 == self.point {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn up(folder: &Path, point: usize) -> Result<(), Box<dyn Error>> {
    let want = sample::wanted();
    let engine = MemoryEngine::kept_in(want.clone(), &folder.join("world.json"))?;
    let journal = Journal::at(folder.join("journal"));
    let plan = sovereign_plan::plan(&want, &engine.observe().await?);
    if plan.is_empty() {
        return Ok(());
    }
    let killer = Killer { point, heard: AtomicUsize::new(0) };
    let caller = Caller { command: "up", version: env!("CARGO_PKG_VERSION") };
    apply(&engine, &plan, &journal, caller, &killer, &CancellationToken::new()).await?;
    Ok(())
}
