//! The lab that an operator rehearses with: two data centers of three hosts. Run by `cargo xtask prove lab`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap fails the test; figures are worth seeing"
)]

mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sovereign_lab::{HostStatus, Shape, Silent};
use sovereign_testkit::harness::{self, Test};

use world::World;

const TESTS: &[Test<World>] = &[("six_hosts_are_there_within_four_minutes", six)];

/// With the root file system in the cache.
const MUST: Duration = Duration::from_secs(4 * 60);

fn main() -> ExitCode {
    let asked = std::env::args().any(|argument| argument == "--ignored");
    let (tests, missing) = if asked { (TESTS, world::missing()) } else { (&[][..], None) };
    harness::main(tests, missing.as_deref(), World::begin)
}

fn six(world: &World) {
    let shape = Shape::new("six".parse().unwrap(), 2, 3);
    let began = Instant::now();
    let made = world.run(world.up(&shape, &Silent)).unwrap();
    let all = began.elapsed();
    let status = world.run(sovereign_lab::status(&world.client, &made.lab)).unwrap();
    assert!(status.hosts.len() == 6 && status.hosts.iter().all(HostStatus::is_well), "{status:?}");
    let began = Instant::now();
    world.run(world.up(&shape, &Silent)).unwrap();
    let again = began.elapsed();
    let began = Instant::now();
    world.run(world.down("six"));
    let down = began.elapsed();
    assert_eq!(world.run(world.things()), world.before);
    println!(
        "six hosts: {all:.1?}, of which {:.1?} from the image in Incus to the last host that let us in;",
        made.took
    );
    println!("found as they are in {again:.1?}; removed in {down:.1?}");
    assert!(all < MUST, "{all:?}");
}
