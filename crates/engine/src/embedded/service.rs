//! A systemd unit that starts the supervisor at boot (systemd.service(5)).

use std::fmt::Write as _;
use std::path::Path;

use sovereign_hosts::systemd;
use sovereign_model::StackName;

/// Whose systemd keeps the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The user's own: `systemctl --user`, with lingering so that it runs without a login.
    User,
    /// The machine's, for root.
    System,
}

/// The unit's file name.
pub fn unit_name(stack: &StackName) -> String {
    format!("sovereign-{stack}.service")
}

/// The unit's text.
///
/// The stop command lets units end in order and returns when all have; what it left, systemd kills
/// (`KillMode=mixed`). `Restart=on-failure` brings back a keeper and a supervisor that died together, and not those that
/// `down` has sent away.
pub fn unit_text(scope: Scope, stack: &StackName, program: &Path, state: &Path) -> String {
    let mut text = String::new();
    let words = |more: &[&str]| {
        let [program, state] = [program, state].map(|path| path.to_string_lossy());
        systemd::words([&program, "supervise", "--state", &state].into_iter().chain(more.iter().copied()))
    };
    let target = match scope {
        Scope::User => "default.target",
        Scope::System => "multi-user.target",
    };
    let lines = [
        "[Unit]",
        &format!("Description=Sovereign stack {stack}"),
        "After=network-online.target",
        "Wants=network-online.target",
        "",
        "[Service]",
        &format!("ExecStart={}", words(&[])),
        &format!("ExecStop={}", words(&["--part", "rest"])),
        "Restart=on-failure",
        "RestartSec=1",
        "KillMode=mixed",
        "TimeoutStopSec=120",
        "Delegate=yes",
        "",
        "[Install]",
        &format!("WantedBy={target}"),
    ];
    for line in lines {
        writeln!(text, "{line}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_supervisor_of_one_stack() {
        let text = unit_text(
            Scope::User,
            &"mine".parse().unwrap(),
            Path::new("/home/a b/sovereign"),
            Path::new("/home/a b/100%/mine"),
        );
        insta::assert_snapshot!(text, @r#"
        [Unit]
        Description=Sovereign stack mine
        After=network-online.target
        Wants=network-online.target

        [Service]
        ExecStart="/home/a b/sovereign" supervise --state "/home/a b/100%%/mine"
        ExecStop="/home/a b/sovereign" supervise --state "/home/a b/100%%/mine" --part rest
        Restart=on-failure
        RestartSec=1
        KillMode=mixed
        TimeoutStopSec=120
        Delegate=yes

        [Install]
        WantedBy=default.target
        "#);
    }
}
