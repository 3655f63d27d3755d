//! The program the supervisor's tests supervise with: the real entries of `supervise` and `shim`, impatient, and a
//! small daemon.
//!
//! ```text
//! testbed supervise --state <folder> [--part <part>]
//! testbed shim
//! testbed daemon <control socket> <word>       answers each connection on the socket `https` with the word and its pid
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sovereign_engine::embedded::{Options, Part, Timing, shim, supervise};
use sovereign_model::StateFolder;
use sovereign_runtime::control::{Commands, Refusal, Request, Server};
use sovereign_runtime::lifecycle::{Lifecycle, accept_each};
use sovereign_runtime::sockets;
use tokio::io::AsyncWriteExt as _;

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

struct Well;

impl Commands for Well {
    async fn answer(&self, _: Request) -> Result<Value, Refusal> {
        Ok(json!({ "healthy": true, "pid": std::process::id() }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn daemon(control: &Path, word: &str) -> Result<(), Box<dyn Error>> {
    let control = PathBuf::from(control);
    let lifecycle = Lifecycle::new(Duration::from_secs(1));
    let listener = tokio::net::TcpListener::from_std(sockets::take_listener("https")?)?;
    let server = Server::take_over(&control)?;
    let answer = Arc::new(format!("{word} {}\n", std::process::id()));
    let controlled = lifecycle.clone();
    tokio::spawn(async move { server.serve(Arc::new(Well), &controlled).await });
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
