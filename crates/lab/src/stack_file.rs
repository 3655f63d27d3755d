//! The stack file for a lab: its data centers and hosts, and one site to begin with.

use std::fmt::Write as _;

use crate::shape::Lab;

/// What an operator would write about such a world.
pub(crate) fn text(lab: &Lab) -> String {
    let mut text = format!(
        "# The lab {name}, as `sovereign lab up` made it. It is yours to change: it is written anew only by `lab up`.\n\
         version = 1\n\n[stack]\nname = \"{name}\"\n",
        name = lab.name
    );
    // Writing to a text does not fail.
    for datacenter in &lab.datacenters {
        let _ = write!(text, "\n[[datacenter]]\nname = \"{}\"\nengine = \"incus\"\n", datacenter.name);
        if let Some(first) = datacenter.hosts.first() {
            let _ = write!(
                text,
                "\n[[datacenter.uplink]]\nname = \"lab\"\naddress = \"{}\"\nport = 443\nhttp = 80\n",
                first.address
            );
        }
        for host in &datacenter.hosts {
            let _ = write!(text, "\n[[datacenter.host]]\nname = \"{}\"\naddress = \"{}\"\n", host.name, host.address);
        }
    }
    let names: Vec<&str> = lab.datacenters.iter().map(|datacenter| datacenter.name.as_str()).collect();
    if let Some((primary, mirrors)) = names.split_first() {
        let mirrors: Vec<String> = mirrors.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = write!(
            text,
            "\n[[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.{}.test\"\nprimary = \"{primary}\"\nmirrors = [{}]\n",
            lab.name,
            mirrors.join(", ")
        );
    }
    text
}
