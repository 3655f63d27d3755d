//! What a home's router, or the resolver that its devices ask, is told so that names lead to the hosts of the home's own
//! data center: pure, in the words of what routers run.
//!
//! Domains that the stack's own name servers answer for are asked there: their answers differ by who asks, follow who lives, and
//! are signed. Of other domains the names themselves are written down. Resolvers that take answers with private addresses
//! for an attack (DNS rebinding) are told that these are none.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;
use sovereign_model::dns_record::is_within;
use sovereign_model::names::{Lan, Names};
use sovereign_model::{DatacenterName, DnsName};

/// What leads to the hosts of a data center on its own networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnLan {
    /// The domains that name servers there answer for.
    pub domains: Vec<DnsName>,
    /// Where they are asked. Empty where there are none.
    pub name_servers: Vec<IpAddr>,
    /// All names of sites there.
    pub names: Vec<DnsName>,
    /// Where those lead.
    pub edges: Vec<IpAddr>,
}

impl OnLan {
    /// Of a data center, whose name servers are beside its edges where there are domains to answer for.
    pub fn of(names: &Names, datacenter: &DatacenterName, lan: &Lan) -> Self {
        let here = names.sites.iter().filter(|site| site.datacenters.contains(datacenter));
        let here: Vec<DnsName> = here.flat_map(|site| site.names.clone()).collect();
        let is_here = |domain: &DnsName| here.iter().any(|name| is_within(name.as_str(), domain.as_str()));
        let domains: Vec<DnsName> =
            names.domains.iter().map(|domain| domain.name.clone()).filter(|domain| is_here(domain)).collect();
        let name_servers = if domains.is_empty() { Vec::new() } else { lan.edges.clone() };
        Self { domains, name_servers, names: here, edges: lan.edges.clone() }
    }

    /// The names that no name server there answers for.
    fn written(&self) -> impl Iterator<Item = &DnsName> {
        let is_asked = |name: &DnsName| self.domains.iter().any(|domain| is_within(name.as_str(), domain.as_str()));
        self.names.iter().filter(move |name| !is_asked(name))
    }

    /// Each domain with each of its name servers.
    fn asked(&self) -> impl Iterator<Item = (&DnsName, &IpAddr)> {
        self.domains.iter().flat_map(|domain| self.name_servers.iter().map(move |server| (domain, server)))
    }

    /// For dnsmasq, which most small routers run, and Pi-hole too: lines of its configuration.
    pub fn dnsmasq(&self) -> String {
        let mut text = String::new();
        // A String takes all.
        for (domain, server) in self.asked() {
            let _ = writeln!(text, "server=/{domain}/{server}");
        }
        for domain in &self.domains {
            let _ = writeln!(text, "rebind-domain-ok=/{domain}/");
        }
        for name in self.written() {
            let edges: Vec<String> = self.edges.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "host-record={name},{}", edges.join(","));
        }
        text
    }

    /// For OpenWrt: commands on the router.
    pub fn openwrt(&self) -> String {
        let mut text = String::new();
        // A String takes all.
        for (domain, server) in self.asked() {
            let _ = writeln!(text, "uci add_list dhcp.@dnsmasq[0].server='/{domain}/{server}'");
        }
        for domain in &self.domains {
            let _ = writeln!(text, "uci add_list dhcp.@dnsmasq[0].rebind_domain='{domain}'");
        }
        for (name, edge) in self.written().flat_map(|name| self.edges.iter().map(move |edge| (name, edge))) {
            let _ = writeln!(
                text,
                "uci add dhcp domain; uci set dhcp.@domain[-1].name='{name}'; uci set dhcp.@domain[-1].ip='{edge}'"
            );
        }
        text.push_str("uci commit dhcp\nservice dnsmasq restart\n");
        text
    }

    /// For unbound: a part of its configuration.
    pub fn unbound(&self) -> String {
        let mut text = "server:\n".to_owned();
        // A String takes all.
        for domain in &self.domains {
            let _ = writeln!(text, "  private-domain: \"{domain}\"");
        }
        for (name, edge) in self.written().flat_map(|name| self.edges.iter().map(move |edge| (name, edge))) {
            let kind = if edge.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "  local-data: \"{name}. IN {kind} {edge}\"");
        }
        for domain in &self.domains {
            let _ = writeln!(text, "stub-zone:\n  name: \"{domain}\"");
            for server in &self.name_servers {
                let _ = writeln!(text, "  stub-addr: {server}");
            }
            // Where none of them answers, the way from the root is left.
            text.push_str("  stub-first: yes\n");
        }
        text
    }

    /// For whatever takes nothing of that: lines of a hosts file, of a device or a resolver.
    pub fn hosts(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(DnsName::as_str).collect();
        self.edges.iter().map(|edge| format!("{edge} {}\n", names.join(" "))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(text: &str) -> OnLan {
        let all = "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
             lan = [\"192.168.1.0/24\", \"2001:db8:1::/64\"]\n[[datacenter.uplink]]\nname = \"dsl\"\naddress = \"dynamic\"\n\
             reach = \"forwarded\"\n[[datacenter.host]]\nname = \"a\"\naddress = \"192.168.1.5\"\n\
             [[datacenter.host]]\nname = \"b\"\naddress = \"2001:db8:1::6\"\n\
             [[datacenter]]\nname = \"rack\"\n[[datacenter.uplink]]\nname = \"isp\"\naddress = \"192.0.2.1\"\n"
            .to_owned();
        let stack = sovereign_model::parse("stack.toml", &(all + text), Path::new("/")).unwrap();
        let home = "home".parse().unwrap();
        OnLan::of(&Names::of(&stack), &home, &stack.datacenters[&home].lan().unwrap())
    }

    const SITES: &str = "[[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example.org\"\nnames = [\"shop.example.net\"]\n\
         primary = \"home\"\n[[site]]\nname = \"elsewhere\"\napp = \"ghost\"\ncanonical = \"away.example.org\"\n\
         primary = \"rack\"\n";

    #[test]
    fn routers_are_told_who_to_ask_and_what_nobody_there_answers() {
        let ours = "[[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n[[domain]]\nname = \"example.com\"\nregistrar = \"r\"\n\
             [[domain]]\nname = \"example.net\"\nregistrar = \"r\"\nprovider = \"p\"\n";
        let lan = of(&format!("{ours}{SITES}"));
        let texts = [lan.dnsmasq(), lan.openwrt(), lan.unbound(), lan.hosts()];
        insta::assert_snapshot!(texts.join("---\n"), @r#"
        server=/example.org/192.168.1.5
        server=/example.org/2001:db8:1::6
        rebind-domain-ok=/example.org/
        host-record=shop.example.net,192.168.1.5,2001:db8:1::6
        ---
        uci add_list dhcp.@dnsmasq[0].server='/example.org/192.168.1.5'
        uci add_list dhcp.@dnsmasq[0].server='/example.org/2001:db8:1::6'
        uci add_list dhcp.@dnsmasq[0].rebind_domain='example.org'
        uci add dhcp domain; uci set dhcp.@domain[-1].name='shop.example.net'; uci set dhcp.@domain[-1].ip='192.168.1.5'
        uci add dhcp domain; uci set dhcp.@domain[-1].name='shop.example.net'; uci set dhcp.@domain[-1].ip='2001:db8:1::6'
        uci commit dhcp
        service dnsmasq restart
        ---
        server:
          private-domain: "example.org"
          local-data: "shop.example.net. IN A 192.168.1.5"
          local-data: "shop.example.net. IN AAAA 2001:db8:1::6"
        stub-zone:
          name: "example.org"
          stub-addr: 192.168.1.5
          stub-addr: 2001:db8:1::6
          stub-first: yes
        ---
        192.168.1.5 blog.example.org shop.example.net
        2001:db8:1::6 blog.example.org shop.example.net
        "#);
    }

    #[test]
    fn where_nobody_answers_names_are_written_down() {
        let lan = of(SITES);
        assert!(lan.name_servers.is_empty() && lan.domains.is_empty());
        assert!(
            lan.dnsmasq().starts_with("host-record=blog.example.org,192.168.1.5,2001:db8:1::6\n"),
            "{}",
            lan.dnsmasq()
        );
        assert!(!lan.unbound().contains("stub-zone"), "{}", lan.unbound());
    }
}
