//! What is wrong with a stack file that is right by itself: what only others can find, at its place in the text.

use toml::de::{DeTable, DeValue};

use super::problem::{self, Finding, ProblemKind, Problems};
use crate::name::DnsName;

/// Something that cannot stay as it is, of one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Whose.
    pub domain: DnsName,
    /// One sentence, without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The complaints as problems of this text, where it names their domains; `None` when there are none.
pub fn complain(file_name: &str, text: &str, complaints: Vec<Complaint>) -> Option<Problems> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let place = |domain: &DnsName| {
        let DeValue::Array(domains) = tree.get_ref().get("domain")?.get_ref() else { return None };
        domains.iter().find_map(|each| {
            let DeValue::Table(table) = each.get_ref() else { return None };
            let name = table.get("name")?;
            let is_it = name.get_ref().as_str()?.parse().as_ref() == Ok(domain);
            is_it.then(|| name.span())
        })
    };
    let finding = |Complaint { domain, message, help }: Complaint| {
        Finding::new(ProblemKind::Conflict, place(&domain).unwrap_or(0..0), message).help(help)
    };
    let findings: Vec<Finding> = complaints.into_iter().map(finding).collect();
    (!findings.is_empty()).then(|| problem::locate(file_name, text, findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_stands_where_its_domain_is_named() {
        let text = "[[domain]]\nname = \"a.example\"\n\n[[domain]]\nname = \"B.example\"\n";
        let complaint = |domain: &str| Complaint {
            domain: domain.parse().unwrap(),
            message: format!("{domain} is wrong"),
            help: "mend it".to_owned(),
        };
        insta::assert_snapshot!(complain("s.toml", text, vec![complaint("b.example")]).unwrap(), @r#"
        error: b.example is wrong
         --> s.toml:5:8
          |
        5 | name = "B.example"
          |        ^^^^^^^^^^^
          = help: mend it

        error: 1 problem in s.toml
        "#);
        assert_eq!(complain("s.toml", text, Vec::new()), None);
        assert!(complain("s.toml", "", vec![complaint("b.example")]).is_some(), "it is said somewhere in any case");
    }
}
