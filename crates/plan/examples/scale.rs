//! How long planning takes, and how that grows: `cargo run --release -p sovereign-plan --example scale`.
//!
//! Each row is a generated stack that was never brought up (every step is planned) and the same stack brought up
//! (nothing is). Times are the best of a few runs.

#![expect(clippy::print_stdout, reason = "an example that prints its figures")]
#![expect(clippy::unwrap_used, reason = "generated input is valid")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sovereign_model::{Observed, Stack};
use sovereign_plan::{desired, plan};

#[path = "../tests/common/mod.rs"]
mod common;

/// `mirrors` data centers besides its primary keep each site; half of the sites are Ghost.
fn stack_file(datacenters: usize, hosts: usize, sites: usize, mirrors: usize) -> String {
    let mut file = "version = 1\n[stack]\nname = \"scale\"\n".to_owned();
    for dc in 0..datacenters {
        let port = 1024 + dc;
        write!(
            file,
            "[[datacenter]]\nname = \"dc{dc}\"\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"127.0.0.1\"\nport = {port}\n"
        )
        .unwrap();
        for host in 0..hosts {
            writeln!(file, "[[datacenter.host]]\nname = \"host{host}\"").unwrap();
        }
    }
    for site in 0..sites {
        let primary = site % datacenters;
        let mirrors: Vec<String> =
            (1..=mirrors).map(|step| format!("\"dc{}\"", (primary + step) % datacenters)).collect();
        let app = if site % 2 == 0 { "app = \"ghost\"" } else { "app = \"static\"\nfolder = \"/srv/files\"" };
        write!(
            file,
            "[[site]]\nname = \"site{site}\"\n{app}\ncanonical = \"site{site}.example.org\"\nprimary = \"dc{primary}\"\n\
             names = [\"site{site}.example.net\"]\nmirrors = [{}]\n",
            mirrors.join(", ")
        )
        .unwrap();
    }
    file
}

fn best<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let timed = |_| {
        let start = Instant::now();
        let value = run();
        (start.elapsed(), value)
    };
    (0..5).map(timed).min_by_key(|(time, _)| *time).unwrap()
}

fn main() {
    println!(
        "data centers x hosts x sites | mirrors of each | parse | want | plan | steps | plan when nothing changes"
    );
    for (datacenters, hosts, sites, mirrors) in
        [(100, 10, 100, 3), (100, 10, 100, 99), (100, 10, 1000, 3), (100, 10, 1000, 99), (1000, 10, 1000, 3)]
    {
        let file = stack_file(datacenters, hosts, sites, mirrors);
        let (parsing, stack): (_, Stack) =
            best(|| sovereign_model::parse("stack.toml", &file, Path::new("/srv")).unwrap());
        let world = common::world(&stack, 0);
        let (wanting, want) = best(|| desired(&stack, &world).unwrap());
        let (planning, first) = best(|| plan(&want, &Observed::default()));
        let mut seen = Observed::default();
        common::apply(&first, &want, &mut seen);
        let (idle, second) = best(|| plan(&want, &seen));
        assert!(second.is_empty());
        println!(
            "{datacenters} x {hosts} x {sites} | {mirrors} | {parsing:.1?} | {wanting:.1?} | {planning:.1?} | {} | {idle:.1?}",
            first.steps.len()
        );
    }
}
