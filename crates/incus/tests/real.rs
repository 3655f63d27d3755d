//! Every call against a real Incus, started for these tests in a folder of its own. It does what it does, so these
//! tests say what the client makes of it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "real/images.rs"]
mod images;
#[path = "real/instances.rs"]
mod instances;
#[path = "real/things.rs"]
mod things;
#[path = "real/world.rs"]
mod world;

use std::process::ExitCode;

use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::{busybox, incusd::Incusd};

use world::World;

const TESTS: &[Test<World>] = &[
    ("a_server_without_what_is_needed_is_refused", things::too_old),
    ("projects_are_made_changed_and_removed", things::projects),
    ("what_somebody_else_changed_is_not_overwritten", things::changed_meanwhile),
    ("a_volume_goes_back_to_its_snapshot", things::volumes),
    ("a_bridge_is_made_and_removed", things::bridge),
    ("an_image_is_named_by_what_it_contains", images::uploaded),
    ("an_image_cut_off_on_the_way_leaves_nothing", images::cut),
    ("an_image_with_another_digest_is_refused", images::other),
    ("an_image_that_is_none_is_refused_in_the_servers_words", images::refused),
    ("an_instance_lives_and_ends", instances::life),
    ("an_instance_keeps_what_we_do_not_know", instances::round_trip),
    ("a_program_ends_with_its_code_and_words", instances::exec),
    ("a_program_that_takes_too_long_is_an_error", instances::late),
    ("files_are_put_read_and_removed", instances::files),
    ("a_restricted_project_has_no_way_to_the_host", instances::restricted),
    ("a_server_that_hangs_is_an_error_in_time", instances::hangs),
    ("what_a_killed_test_left_is_removed_by_the_next_one", world::abandoned),
];

fn main() -> ExitCode {
    let missing = Incusd::missing().or_else(busybox::missing);
    harness::main(TESTS, missing.as_deref(), World::begin)
}
