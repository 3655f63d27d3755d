//! Landlock (landlock(7)): the kernel keeps a process and its children to named paths, root or not.
//!
//! A process inside may also not look into, trace or signal one outside.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::Instruction;
use super::root::{DEVICES, ETC, SYSTEM};

/// The newest version whose meaning is known here; an older kernel gives what it has.
const NEWEST: ABI = ABI::V6;

/// What libraries read about the machine and about their own process.
const ABOUT: [&str; 3] = ["/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu"];

/// Raises the fence around this process for good.
pub(super) fn raise(instruction: &Instruction) -> Result<(), String> {
    let read = AccessFs::from_read(NEWEST);
    let all = AccessFs::from_all(NEWEST);
    let use_device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let system = SYSTEM.iter().chain(&ETC).chain(&ABOUT).map(PathBuf::from);
    let own_folders = ["/tmp", "/dev/shm"].into_iter().filter(|_| instruction.user.is_some()).map(PathBuf::from);
    let raised = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.add_rules(path_beneath_rules(system, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&instruction.read, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&instruction.write, all)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(own_folders, all)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, use_device)))
        .and_then(|rules| rules.restrict_self())
        .map_err(|error| error.to_string())?;
    match raised.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("this kernel has it switched off or is older than 5.13".to_owned()),
    }
}
