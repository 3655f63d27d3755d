//! The driver: libFuzzer around one of the targets, chosen by the variable `FUZZ_TARGET`.
//!
//! `cargo xtask fuzz` builds this with coverage counters in the crates of this workspace and runs it per target.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sovereign_fuzz::{TARGETS, Target};

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} names no target"))
    })
}

fuzz_target!(|data: &[u8]| (chosen().run)(data));
