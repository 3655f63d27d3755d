//! Landlock (landlock(7)): the kernel keeps a process and its children to named paths and ports, root or not.
//!
//! A process inside may also not look into, trace or signal one outside, nor connect to its abstract unix sockets.
//! Left out: unix sockets in the file system, which kernels before Landlock's ninth version let it connect to; a root
//! folder of the unit's own ([`super::root`]) has none but its own.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, NetPort, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Instruction;
use super::root::{DEVICES, ETC, SYSTEM};

/// The newest version whose meaning is known here; an older kernel gives what it has.
const NEWEST: ABI = ABI::V6;

/// What libraries read about the machine and about their own process.
const ABOUT: [&str; 3] = ["/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu"];

/// Raises the fence around this process for good. `own_root`: whether it has a root folder, and thus `/tmp`, of its own.
/// Says what of it this kernel cannot do.
pub(super) fn raise(instruction: &Instruction, own_root: bool) -> Result<Option<String>, String> {
    let read = AccessFs::from_read(NEWEST);
    let all = AccessFs::from_all(NEWEST);
    let use_device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let system = SYSTEM.iter().chain(&ETC).chain(&ABOUT).map(PathBuf::from);
    let own_folders = ["/tmp", "/dev/shm"].into_iter().filter(|_| own_root).map(PathBuf::from);
    let ports = instruction.connect.iter().flatten();
    let ports = ports.map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let raised = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| match instruction.connect {
            Some(_) => rules.handle_access(AccessNet::ConnectTcp | AccessNet::BindTcp),
            None => Ok(rules),
        })
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.add_rules(path_beneath_rules(system, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&instruction.read, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&instruction.write, all)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(own_folders, all)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, use_device)))
        .and_then(|rules| rules.add_rules(ports))
        .and_then(|rules| rules.restrict_self())
        .map_err(|error| error.to_string())?;
    let knows_ports =
        matches!(raised.landlock, LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V4);
    match raised.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => {
            let ports_missing = instruction.connect.is_some() && !knows_ports;
            Ok(ports_missing.then(|| "ports: this kernel is older than 6.7".to_owned()))
        }
        RulesetStatus::NotEnforced => Err("this kernel has it switched off or is older than 5.13".to_owned()),
    }
}
