//! What the lines of data centers do not let them do, however well everything runs. Nothing of it is trouble.

use sovereign_model::Stack;
use sovereign_model::stack::{Datacenter, EngineKind, Reach, UplinkAddress};

use super::{Problem, problem};

/// What is said of each data center that the others cannot simply reach.
pub(super) fn limits(stack: &Stack) -> Vec<Problem> {
    let on_hosts = stack.datacenters.values().filter(|datacenter| datacenter.engine == EngineKind::Incus);
    on_hosts.filter_map(|datacenter| limit(stack, datacenter)).collect()
}

fn limit(stack: &Stack, datacenter: &Datacenter) -> Option<Problem> {
    let open: Vec<_> = datacenter.uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly).collect();
    if open.is_empty() {
        let written = stack.sites.values().filter(|site| site.primary == datacenter.name);
        let written: Vec<&str> = written.map(|site| site.name.as_str()).collect();
        let mut message =
            "it can only dial out: no reader from elsewhere is led there, no registry can be told a name server \
                           there, and the others do not see whether it lives"
                .to_owned();
        if !written.is_empty() {
            message.push_str(&format!("; {} is written there over links that it dials", written.join(", ")));
        }
        let help = match &datacenter.lan {
            lan if lan.is_empty() => "its own readers can be: say with `lan` which networks they are in".to_owned(),
            _ => format!("its own readers are, once their router asks: `sovereign dns lan {}`", datacenter.name),
        };
        return Some(problem(&datacenter.name, message, Some(&help)));
    }
    let answers = stack.domains.values().any(|domain| domain.provider.is_none());
    if answers && open.iter().all(|uplink| uplink.address == UplinkAddress::Dynamic) {
        let message = "its address changes: readers are led there wherever it is, and no registry can be told a name server there";
        let help = "a domain needs two others that stay: in other data centers, or a friend's as a `[[secondary]]`";
        return Some(problem(&datacenter.name, message, Some(help)));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_a_line_does_not_allow_is_said() {
        let text = "version = 1\n[stack]\nname = \"s\"\n\
             [[datacenter]]\nname = \"rack\"\nengine = \"incus\"\n[[datacenter.uplink]]\nname = \"isp\"\n\
             address = \"192.0.2.1\"\n[[datacenter.host]]\nname = \"rack-1\"\naddress = \"192.0.2.1\"\n\
             [[datacenter]]\nname = \"home\"\nengine = \"incus\"\n[[datacenter.uplink]]\nname = \"dsl\"\n\
             address = \"dynamic\"\nreach = \"forwarded\"\n[[datacenter.host]]\nname = \"home-1\"\naddress = \"10.0.0.5\"\n\
             [[datacenter]]\nname = \"cabin\"\nengine = \"incus\"\nlan = [\"10.1.0.0/16\"]\n[[datacenter.uplink]]\n\
             name = \"lte\"\naddress = \"dynamic\"\nreach = \"outbound-only\"\n[[datacenter.host]]\nname = \"cabin-1\"\n\
             address = \"10.1.0.5\"\n\
             [[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n\
             [[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"example.org\"\nprimary = \"cabin\"\nmirrors = [\"rack\"]\n";
        let stack = sovereign_model::parse("stack.toml", text, Path::new("/")).unwrap();
        let told = limits(&stack)
            .into_iter()
            .map(|said| format!("{}: {}\n  {}", said.subject, said.message, said.help.unwrap()));
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r"
        cabin: it can only dial out: no reader from elsewhere is led there, no registry can be told a name server there, and the others do not see whether it lives; blog is written there over links that it dials
          its own readers are, once their router asks: `sovereign dns lan cabin`
        home: its address changes: readers are led there wherever it is, and no registry can be told a name server there
          a domain needs two others that stay: in other data centers, or a friend's as a `[[secondary]]`
        ");
    }
}
