//! Builds the Ghost image into a store, and says what it took: `cargo run -p sovereign-images --example build -- <dir>`.
//! With `--offline` after the folder, without the network; with `--repair`, checks an image that is there and builds a
//! damaged one anew.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its caller")]

use std::error::Error;
use std::time::SystemTime;

use sovereign_images::{Environment, Event, ImageError, Options, Progress, Store, ghost};

struct Lines;

impl Progress for Lines {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Started { stage } => eprintln!("{stage:?} ..."),
            Event::Finished { stage, took } => eprintln!("{stage:?}: {took:.1?}"),
            Event::Note { message } => eprintln!("note: {message}"),
            Event::Advanced { .. } => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: build <dir> [--offline] [--repair]")?;
    let flags: Vec<_> = arguments.collect();
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    let store = Store::open(folder)?;
    let environment = Environment::of_this_process();
    let options = Options { offline: has("--offline"), now: SystemTime::now(), environment };
    let told = |error: &ImageError| error.help().inspect(|help| eprintln!("help: {help}"));
    let make = if has("--repair") { ghost::repair } else { ghost::prepare };
    let (image, receipt) = make(&store, ghost::lock(), &options, &Lines).inspect_err(|error| drop(told(error)))?;
    println!("{}", image.root.display());
    eprintln!("{}", image.digest);
    for fetched in receipt.fetched {
        eprintln!("{} packages, {} bytes from {}", fetched.files, fetched.bytes, fetched.host);
    }
    let manifest = store.manifest(image.digest)?;
    eprintln!("{} files, {} bytes", manifest.files, manifest.bytes);
    Ok(())
}
