//! What of an edge or another unit is on a host: its files, its services. Asked by a script, whose words are parsed as a stranger's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sovereign_hosts::systemd::Names;
use sovereign_model::edge_config::{EdgeConfig, Source};
use sovereign_model::observed::{UnitSeen, UnitState};
use sovereign_model::unit::UnitSpec;
use sovereign_model::{Digest, StackName, UnitName};

/// What the script says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EdgeFiles {
    files: BTreeMap<String, Digest>,
    /// The folders with files of sites.
    folders: BTreeSet<String>,
    services: BTreeMap<String, String>,
    /// The service that starts with the host.
    current: Option<String>,
    /// Sockets of its unit, and how each is.
    pub(super) sockets: BTreeMap<String, String>,
    /// Files of systemd's and of the packet filter's, by name or path.
    pub(super) texts: BTreeMap<String, Digest>,
    /// The port at which the host's SSH server was reached.
    pub(super) ssh_port: Option<u16>,
    /// The rules for packets that are in effect.
    pub(super) loaded: Option<Digest>,
    /// The same as they would be if the files were loaded now.
    pub(super) made: Option<Digest>,
    /// Packages that were asked for and are not installed.
    pub(super) lacks: Vec<String>,
}

impl EdgeFiles {
    /// Reads it; what is not understood is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut files = Self::default();
        let parse = |digest: &str| format!("sha256:{digest}").parse().ok();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or_default();
            match (kind, rest.split_once(' ')) {
                ("current", None) => {
                    files.current =
                        rest.rsplit('/').next().filter(|name| name.ends_with(".service")).map(str::to_owned);
                }
                ("file", Some((digest, name))) => {
                    files.files.extend(parse(digest).map(|digest| (name.to_owned(), digest)));
                }
                ("folder", None) => drop(files.folders.insert(rest.to_owned())),
                ("text", Some((digest, name))) => {
                    files.texts.extend(parse(digest).map(|digest| (name.trim_start().to_owned(), digest)));
                }
                ("socket", Some((state, name))) => drop(files.sockets.insert(name.to_owned(), state.to_owned())),
                ("ssh-port", None) => files.ssh_port = rest.parse().ok(),
                ("lacks", None) => files.lacks.push(rest.to_owned()),
                ("loaded", None) => files.loaded = parse(rest),
                ("made", None) => files.made = parse(rest),
                ("service", Some((state, name))) => drop(files.services.insert(name.to_owned(), state.to_owned())),
                _ => {}
            }
        }
        files
    }

    /// The digest of a file in the edge's folder.
    pub(super) fn digest(&self, name: &str) -> Option<Digest> {
        self.files.get(name).copied()
    }

    /// Whether there is a file of that name in the folder.
    pub(super) fn has(&self, path: &Path) -> bool {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| self.files.contains_key(name))
    }

    /// Whether every key and every folder of files that a configuration names is there.
    pub(super) fn has_all(&self, config: &EdgeConfig) -> bool {
        let keys = config.sites.iter().filter_map(|site| site.webhook_key.as_ref()).chain([&config.link_key]);
        let folders = config.sites.iter().filter_map(|site| match &site.source {
            Source::Folder(folder) => Some(folder),
            _ => None,
        });
        keys.filter_map(|path| path.file_name()?.to_str()).all(|name| self.files.contains_key(name))
            && folders.filter_map(|path| path.to_str()).all(|path| self.folders.contains(path))
    }

    /// Whether the service of this very description is the one that starts with the host.
    pub(super) fn is_current(&self, stack: &StackName, wanted: &UnitSpec) -> bool {
        self.current.as_deref() == Some(&Names::of(stack, wanted).service())
    }

    /// The unit whose files these are, `is_well` when it says so itself; `None` when there is none.
    pub(super) fn unit(
        &self,
        stack: &StackName,
        name: &UnitName,
        wanted: Option<&UnitSpec>,
        is_well: bool,
    ) -> Option<UnitSeen> {
        let names = Names::of_any(stack, name);
        let current = self.current.as_ref().filter(|current| names.is_service(current))?;
        let state = match self.services.get(current)?.as_str() {
            "active" if is_well => UnitState::Healthy,
            "inactive" => UnitState::Stopped,
            "failed" => UnitState::Failed("systemd gave it up".to_owned()),
            _ => UnitState::Unhealthy,
        };
        let wanted = wanted.filter(|wanted| *current == Names::of(stack, wanted).service());
        let spec = wanted.map_or_else(|| Digest::of(current), UnitSpec::digest);
        Some(UnitSeen { state, spec, sockets: Default::default(), superseded: false, data_version: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_files_that_a_configuration_names_are_missed() {
        let config = |folder: &str| -> EdgeConfig {
            let text = format!(
                r#"{{"stack":"shop","datacenter":"home","certificate":{{"chain":"/e/chain.pem","key":"/e/key.pem"}},"store":"/e/store",
                "link-key":"/e/link-1.pem","peers":[],"sites":[{{"site":"leaf","canonical":"https://leaf.test","names":["leaf.test"],
                "app":"static","source":{{"folder":"{folder}"}},"mirrors":[],"admin":"public","webhook-key":null,"epoch":1}}],
                "rules":{{"access-log":"truncated","limits":{{"connections":1,"connections-per-address":1,"requests-per-address":1,
                "head":1,"head-within":1,"body":1,"body-within":1}}}},"access-log":null,"proxy":null,"https-port":443}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let digest = Digest::of("").hex();
        let files = EdgeFiles::parse(&format!("file {digest} link-1.pem\nfolder /e/files/leaf/1f\nfolder\n"));
        assert!(files.has_all(&config("/e/files/leaf/1f")));
        assert!(!files.has_all(&config("/e/files/leaf/2e")));
        assert!(!EdgeFiles::parse("folder /e/files/leaf/1f\n").has_all(&config("/e/files/leaf/1f")));
    }

    #[test]
    fn a_hosts_words_are_read_and_nonsense_is_passed_over() {
        let digest = Digest::of("chain");
        let text = format!(
            "file {} chain.pem\nfile nonsense key.pem\nfile\n\nservice active sovereign-shop.edge-a.home.0123456789ab.service\n\
             current /etc/systemd/system/sovereign-shop.edge-a.home.0123456789ab.service\nwhat is this\n",
            digest.hex()
        );
        let files = EdgeFiles::parse(&text);
        assert_eq!((files.digest("chain.pem"), files.digest("key.pem")), (Some(digest), None));
        assert_eq!(files.current.as_deref(), Some("sovereign-shop.edge-a.home.0123456789ab.service"));
        assert_eq!(files.services.len(), 1);
        assert_eq!(EdgeFiles::parse("current none\n").current, None);
    }
}
