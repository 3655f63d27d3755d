//! What the stack's domains published before they were taken over: remembered, so that nothing of it vanishes unseen.
//!
//! Promise: as long as a record that was seen would vanish, and the stack file neither keeps nor drops it, no command that
//! deploys goes on. What is remembered is replaced as a whole whenever the domain is looked at again.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};
use sovereign_dns::adopt::{compare, drop_text, record_text, sets};
use sovereign_model::file::{Complaint, complain};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{Domain, Stack};
use sovereign_model::{DnsName, DnsRecord};

use crate::declared::Declared;
use crate::failure::Failure;
use crate::kept_file::{self, KeptFileError};
use crate::secrets;
use crate::stack_file::StackFileError;

/// The format of the file.
const VERSION: u32 = 1;

/// What each domain published. A file that cannot be used is never taken for one that says nothing: what it remembers would
/// vanish unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Adopted {
    version: u32,
    domains: BTreeMap<DnsName, Adoption>,
}

/// What a domain published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Adoption {
    /// When that was seen, in seconds since 1970.
    pub(crate) unix: u64,
    /// Where.
    pub(crate) source: String,
    /// Its records, and DS records at the registry that are not the stack's.
    pub(crate) records: Vec<DnsRecord>,
}

impl Adopted {
    /// What is remembered; nothing where no domain was looked at yet.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub(crate) fn read(state: &StateFolder) -> Result<Self, KeptFileError> {
        let read = kept_file::read(state.adopted(), VERSION)
            .map_err(|error| error.or("remove it, and look at the domains again: `sovereign dns adopt`"))?;
        Ok(read.unwrap_or_else(|| Self { version: VERSION, domains: BTreeMap::new() }))
    }

    /// Remembers what a domain published, instead of what it did before.
    ///
    /// # Errors
    /// When it cannot be written, or what is there cannot be read.
    pub(crate) fn remember(state: &StateFolder, domain: &DnsName, adoption: Adoption) -> Result<(), Failure> {
        let mut adopted = Self::read(state)?;
        adopted.domains.insert(domain.clone(), adoption);
        secrets::private_folder(state.path())?;
        Ok(kept_file::write(&state.adopted(), &adopted)?)
    }

    /// What would vanish of the stack's domains, by what the stack file says now.
    fn complaints(&self, stack: &Stack) -> Vec<Complaint> {
        let of_domain = |domain: &Domain| -> Vec<Complaint> {
            let Some(adoption) = self.domains.get(&domain.name) else { return Vec::new() };
            let vanishing = compare(stack, domain, &adoption.records).vanishing;
            let complaint = |(set, records): (_, Vec<&DnsRecord>)| {
                let drop = drop_text(&set, &domain.name);
                let kept: Vec<String> =
                    records.iter().filter_map(|record| Some(quoted(&record_text(record, &domain.name)?))).collect();
                let (message, help) = if kept.is_empty() {
                    let message = format!("the registry has a DS record for {} that is not the stack's", domain.name);
                    let help = "have the registrar remove it, wait a day, look again with `sovereign dns adopt`; \
                                `drop = [\"@ DS\"]` says that it is on its way";
                    (message, help.to_owned())
                } else {
                    let data: Vec<&str> = records.iter().map(|record| record.data.as_str()).collect();
                    let message = format!("{set} would vanish: {}", data.join(", "));
                    let help =
                        format!("keep it: `records = [{}]`, or let it go: `drop = [\"{drop}\"]`", kept.join(", "));
                    (message, help)
                };
                Complaint { domain: domain.name.clone(), message, help }
            };
            sets(&vanishing).into_iter().map(complaint).collect()
        };
        stack.domains.values().flat_map(of_domain).collect()
    }
}

/// That nothing which was seen of the stack's domains would vanish unseen.
///
/// # Errors
/// With each thing that would, where the stack file names its domain.
pub(crate) fn nothing_vanishes(declared: &Declared) -> Result<(), Failure> {
    let complaints = Adopted::read(&declared.state)?.complaints(&declared.stack);
    if complaints.is_empty() {
        return Ok(());
    }
    let unreadable = |source| StackFileError::Unreadable { path: declared.file.clone(), source };
    let text = fs::read_to_string(&declared.file).map_err(unreadable)?;
    match complain(&declared.file.display().to_string(), &text, complaints) {
        Some(problems) => Err(StackFileError::Wrong(problems).into()),
        None => Ok(()),
    }
}

/// A text as TOML has it.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains('\'') || text.chars().any(char::is_control) {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("\"{escaped}\"");
    }
    format!("'{text}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_so_that_toml_reads_it_as_it_is() {
        for text in ["@ TXT \"a\"", "@ TXT \"it's \\\"so\\\"\"", "@ MX 10 mx.example.net."] {
            let domain: DnsName = "example.org".parse().unwrap();
            let file = format!(
                "version = 1\n[stack]\nname = \"s\"\n[[domain]]\nname = \"{domain}\"\nregistrar = \"r\"\n\
                 records = [{}]\n[[datacenter]]\nname = \"a\"\n[[datacenter.uplink]]\nname = \"u\"\n\
                 address = \"192.0.2.1\"\n[[site]]\nname = \"x\"\napp = \"ghost\"\ncanonical = \"{domain}\"\n\
                 primary = \"a\"\n",
                quoted(text)
            );
            let stack = sovereign_model::parse("s.toml", &file, std::path::Path::new("/")).unwrap();
            assert_eq!(stack.domains[&domain].records, [DnsRecord::parse(text, &domain).unwrap()]);
        }
    }

    #[test]
    fn what_is_remembered_is_read_as_it_was_written_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().join("state"));
        let domain: DnsName = "example.org".parse().unwrap();
        let records = vec![DnsRecord::parse("@ MX 10 Mx.example.net.", &domain).unwrap()];
        let adoption = Adoption { unix: 1, source: "a zone file".to_owned(), records };
        Adopted::remember(&state, &domain, adoption.clone()).unwrap();
        let read = Adopted::read(&state).unwrap();
        assert_eq!(read.domains[&domain], adoption);
        let text = fs::read_to_string(state.adopted()).unwrap();
        fs::write(state.adopted(), text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(matches!(Adopted::read(&state), Err(KeptFileError::Newer { .. })));
        fs::write(state.adopted(), "{}").unwrap();
        assert!(matches!(Adopted::read(&state), Err(KeptFileError::Malformed { .. })));
    }
}
