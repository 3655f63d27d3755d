//! What hosts say of themselves.

use sovereign_hosts::facts::Asked;
use sovereign_hosts::ready::open_before;
use sovereign_hosts::{Facts, Requirements, findings};

/// Whatever a host says, it is judged, and nothing of it reaches a terminal as anything but text.
pub(crate) fn facts(data: &[u8]) {
    let Ok(facts) = Facts::parse(data, Asked { before: 1_000_000.0, after: 1_000_001.0 }) else { return };
    let (Ok(stack), Ok(datacenter), Ok(host)) = ("shop".parse(), "home".parse(), "atlas".parse()) else { return };
    let required = Requirements {
        stack,
        seed: "seed".to_owned(),
        datacenter,
        host,
        disk: Some("/dev/sdb".to_owned()),
        others: Default::default(),
    };
    for finding in findings(&facts, &required) {
        let told = [Some(finding.sentence), finding.help];
        let is_text = |text: &String| text.chars().all(|c| !c.is_control());
        assert!(told.iter().flatten().all(is_text), "{told:?}");
    }
    for listener in open_before(&facts) {
        assert!(listener.owners.iter().all(|owner| owner.chars().all(|c| !c.is_control())));
    }
}
