//! The stack file for a lab: its data centers and hosts, and one site to begin with.

use std::fmt::Write as _;

use sovereign_model::stack::Reach;

use crate::shape::{Lab, LabDatacenter};

/// What an operator would write about such a world.
pub(crate) fn text(lab: &Lab) -> String {
    let mut text = format!(
        "# What `sovereign lab up` made under the name {name}. This file is yours to change.\n\
         version = 1\n\n[stack]\nname = \"{name}\"\n",
        name = lab.name
    );
    // Writing to a text does not fail.
    for datacenter in &lab.datacenters {
        let _ = write!(text, "\n[[datacenter]]\nname = \"{}\"\nengine = \"incus\"\n", datacenter.name);
        if datacenter.reach != Reach::Direct {
            let _ = writeln!(text, "lan = [\"{}\"]", datacenter.network());
        }
        let _ = write!(text, "\n[[datacenter.uplink]]\nname = \"lab\"\n{}port = 443\nhttp = 80\n", uplink(datacenter));
        for host in &datacenter.hosts {
            let _ = write!(text, "\n[[datacenter.host]]\nname = \"{}\"\naddress = \"{}\"\n", host.name, host.address);
        }
    }
    let names: Vec<&str> = lab.datacenters.iter().map(|datacenter| datacenter.name.as_str()).collect();
    if let Some((primary, mirrors)) = names.split_first() {
        let mirrors: Vec<String> = mirrors.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = write!(
            text,
            "\n[[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.{}.test\"\nadmin = \"lan\"\nprimary = \"{primary}\"\nmirrors = [{}]\n",
            lab.name,
            mirrors.join(", ")
        );
    }
    text
}

/// What an operator knows of the line.
fn uplink(datacenter: &LabDatacenter) -> String {
    match (datacenter.reach, datacenter.hosts.first()) {
        (Reach::Direct, Some(first)) => format!("address = \"{}\"\n", first.address),
        (Reach::Forwarded, _) => format!("address = \"{}\"\nreach = \"forwarded\"\n", datacenter.public()),
        _ => "address = \"dynamic\"\nreach = \"outbound-only\"\n".to_owned(),
    }
}
