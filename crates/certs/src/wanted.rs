//! Which certificates are wanted: pure, from the stack file.
//!
//! **One certificate for each name.** A name whose challenge fails (its domain has lapsed, its registrar plays up) then
//! stops no other, adding one issues one, and a certificate tells nobody which other names lead to the same site. What
//! that costs are more orders. Let's Encrypt, for one, gives 50 certificates a week for a registered domain and 300 orders
//! in three hours for an account; a renewal that names what it replaces counts for neither (RFC 9773 section 5). So fifty
//! names below one domain have theirs on the first day, and a hundred in the second week, or at the next authority.

use std::collections::BTreeMap;

use sovereign_model::{DnsName, Stack};

/// What authorities are asked for, and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names, each with the domain that it is in.
    pub names: BTreeMap<DnsName, DnsName>,
    /// Names of sites that no authority is asked for: the stack's own issues for them.
    pub left: BTreeMap<DnsName, Why>,
}

/// Why no authority is asked for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// None is declared.
    NoAuthority,
    /// It is in no domain of the stack: nobody could prove that it is ours.
    NoDomain,
    /// A provider answers for its domain, so the stack's name servers cannot prove it.
    Provider,
    /// The stack has no name server that could prove it.
    NoNameServer,
}

impl Why {
    /// What the operator can do about it.
    pub fn help(self) -> &'static str {
        match self {
            Self::NoAuthority => "declare one: [[authority]]",
            Self::NoDomain => "declare the domain that it is in: [[domain]]",
            Self::NoNameServer => {
                "declare a host in a data center that is reached at a fixed address: it gets a name server"
            }
            Self::Provider => "leave out `provider` of the domain, so that the stack's own name servers answer for it",
        }
    }
}

impl Wanted {
    /// The same where there is no name server.
    #[must_use]
    pub fn without_name_servers(mut self) -> Self {
        self.left.extend(std::mem::take(&mut self.names).into_keys().map(|name| (name, Why::NoNameServer)));
        self
    }
}

/// What is wanted of authorities for a stack.
pub fn wanted(stack: &Stack) -> Wanted {
    let mut wanted = Wanted::default();
    for name in stack.sites.values().flat_map(|site| site.all_names()) {
        let why = match stack.domain_of(name) {
            _ if stack.authorities.is_empty() => Why::NoAuthority,
            None => Why::NoDomain,
            Some(domain) if domain.provider.is_some() => Why::Provider,
            Some(domain) => {
                wanted.names.insert(name.clone(), domain.name.clone());
                continue;
            }
        };
        wanted.left.insert(name.clone(), why);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_our_name_servers_can_prove_are_wanted_each_by_itself() {
        let file = |more: &str| {
            format!(
                "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"a\"\n[[datacenter.uplink]]\nname = \"u\"\n\
                 address = \"192.0.2.1\"\n[[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n[[domain]]\n\
                 name = \"example.net\"\nregistrar = \"r\"\nprovider = \"p\"\n[[site]]\nname = \"x\"\napp = \"ghost\"\n\
                 canonical = \"www.example.org\"\nprimary = \"a\"\n\
                 names = [\"example.org\", \"example.net\", \"x.localhost\"]\n{more}"
            )
        };
        let parse = |text: &str| sovereign_model::parse("stack.toml", text, std::path::Path::new("/")).unwrap();
        let none = wanted(&parse(&file("")));
        assert!(none.names.is_empty() && none.left.values().all(|why| *why == Why::NoAuthority));

        let some = wanted(&parse(&file("[[authority]]\nname = \"letsencrypt\"\n")));
        let domain: DnsName = "example.org".parse().unwrap();
        let names = ["example.org", "www.example.org"].map(|name| (name.parse().unwrap(), domain.clone()));
        assert_eq!(some.names, BTreeMap::from(names));
        let left = [("example.net", Why::Provider), ("x.localhost", Why::NoDomain)];
        assert_eq!(some.left, BTreeMap::from(left.map(|(name, why)| (name.parse().unwrap(), why))));
        let none = some.without_name_servers();
        assert!(none.names.is_empty() && none.left.len() == 4);
        assert_eq!(none.left[&"www.example.org".parse().unwrap()], Why::NoNameServer);
    }
}
