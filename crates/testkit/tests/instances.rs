//! Instances of a host in a real Incus, which has a network of its own: run, replaced, brought back, ended, and what
//! passes between them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "instances/data.rs"]
mod data;
#[path = "instances/packets.rs"]
mod packets;
#[path = "instances/replaced.rs"]
mod replaced;
#[path = "instances/world.rs"]
mod world;

use std::process::ExitCode;

use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::{busybox, incusd::Incusd};

use world::World;

const TESTS: &[Test<World>] = &[
    ("an_image_that_is_cut_off_leaves_nothing_and_few_questions_are_asked", replaced::image_cut),
    ("a_unit_runs_and_is_replaced_beside_the_one_before", replaced::beside),
    ("what_does_not_become_well_goes_again_and_the_old_one_stays", replaced::not_well),
    ("what_must_not_run_twice_is_stopped_first_and_brought_back", replaced::stop_first),
    ("what_a_cut_run_left_is_mended", replaced::cut),
    ("an_instance_with_our_name_that_is_not_ours_is_left_alone", replaced::foreign),
    ("data_that_was_converted_goes_back_when_the_new_one_is_not_well", data::back),
    ("data_that_was_converted_goes_back_after_a_run_that_was_cut", data::cut),
    ("what_a_description_names_passes_and_nothing_else", packets::filtered),
    ("a_member_of_a_cluster_has_its_own_instances", replaced::clustered),
    ("nothing_is_left_of_a_stack", replaced::purged),
];

fn main() -> ExitCode {
    let missing = Incusd::missing().or_else(busybox::missing);
    harness::main(TESTS, missing.as_deref(), World::begin)
}
