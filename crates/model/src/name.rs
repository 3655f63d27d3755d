//! Names: one type for each kind, so that two of them cannot be swapped.
//!
//! Operator-chosen names (stack, data center, host, site) are DNS labels, because they end up in file names, unit
//! names and, later, host names. [`DnsName`] is a full host name by RFC 1123 section 2.1.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing between the quotes.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than the kind allows.
    #[error("{text:?} has {length} characters, {most} are allowed")]
    TooLong {
        /// What was given.
        text: String,
        /// Its length in bytes.
        length: usize,
        /// The limit.
        most: usize,
    },
    /// A character outside the kind's alphabet.
    #[error("{text:?} contains {character:?}; allowed are a-z, 0-9 and '-'")]
    Character {
        /// What was given.
        text: String,
        /// The first offending character.
        character: char,
    },
    /// A label that begins or ends with a hyphen (RFC 1123 section 2.1), or is empty (two dots in a row).
    #[error("{text:?} has a part that is empty or begins or ends with '-'")]
    Edge {
        /// What was given.
        text: String,
    },
    /// An https origin was expected.
    #[error("{text:?} is not an origin like https://blog.example.org or https://blog.example.org:8443")]
    Origin {
        /// What was given.
        text: String,
    },
}

/// RFC 1035, section 2.3.4.
const LONGEST_LABEL: usize = 63;

/// What runs is called after its site, and after what it is: `ghost-<site>`. Files are named so, not hosts.
const LONGEST_UNIT: usize = LONGEST_LABEL + 32;

fn check_label(text: &str, whole: &str) -> Result<(), InvalidName> {
    check_label_within(LONGEST_LABEL, text, whole)
}

fn check_label_within(most: usize, text: &str, whole: &str) -> Result<(), InvalidName> {
    if text.len() > most {
        return Err(InvalidName::TooLong { text: whole.to_owned(), length: text.len(), most });
    }
    if let Some(character) = text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        return Err(InvalidName::Character { text: whole.to_owned(), character });
    }
    if text.is_empty() || text.starts_with('-') || text.ends_with('-') {
        return Err(InvalidName::Edge { text: whole.to_owned() });
    }
    Ok(())
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> Result<String, InvalidName> = $check;
                check(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

fn label(text: &str) -> Result<String, InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    check_label(text, text)?;
    Ok(text.to_owned())
}

fn dns_name(text: &str) -> Result<String, InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > 253 {
        return Err(InvalidName::TooLong { text: text.to_owned(), length: text.len(), most: 253 });
    }
    let lower = text.to_ascii_lowercase();
    for part in lower.split('.') {
        check_label(part, text)?;
    }
    Ok(lower)
}

fn unit_name(text: &str) -> Result<String, InvalidName> {
    let Some((unit, datacenter)) = text.split_once('@') else {
        return label(text);
    };
    check_label_within(LONGEST_UNIT, unit, text)?;
    check_label(datacenter, text)?;
    Ok(text.to_owned())
}

text_type!(
    /// The name of a whole stack: a DNS label.
    StackName, label
);
text_type!(
    /// The name of a data center: a DNS label.
    DatacenterName, label
);
text_type!(
    /// The name of a host in a data center: a DNS label.
    HostName, label
);
text_type!(
    /// The name of a site: a DNS label.
    SiteName, label
);
text_type!(
    /// The name of a copy of the archive: a DNS label.
    CopyName, label
);
text_type!(
    /// The name of an authority that issues certificates: a DNS label.
    AuthorityName, label
);
text_type!(
    /// The name of a secondary, somebody else's name server: a DNS label.
    SecondaryName, label
);
text_type!(
    /// The name of a provider of DNS that is told what a domain is to have: a DNS label.
    ProviderName, label
);
text_type!(
    /// The name of an image, `ghost` for instance: a DNS label.
    ImageName, label
);
text_type!(
    /// A host name by RFC 1123 section 2.1, lower case, without a trailing dot.
    DnsName, dns_name
);
text_type!(
    /// The name of something that runs at a data center, written `<unit>@<data center>`: `ghost-blog@home`, `edge@office`.
    UnitName, unit_name
);
/// A DNS name that is registered with a registrar.
pub type DomainName = DnsName;

impl UnitName {
    /// `unit` at `datacenter`.
    ///
    /// # Errors
    /// When `unit` is no label; what is called after a site may be longer than one.
    pub fn at(unit: &str, datacenter: &DatacenterName) -> Result<Self, InvalidName> {
        format!("{unit}@{datacenter}").parse()
    }
}

/// Where a site is reached: scheme `https`, a host name and a port (RFC 6454 section 4).
///
/// Displayed as browsers write it: the port is left out when it is 443.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    host: DnsName,
    port: u16,
}

impl Origin {
    /// `https://host:port`.
    pub fn https(host: DnsName, port: u16) -> Self {
        Self { host, port }
    }

    /// The host name.
    pub fn host(&self) -> &DnsName {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What belongs after `https://`, and into a `Host` field: the host, and the port unless it is 443.
    pub fn authority(&self) -> String {
        if self.port == 443 { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Origin {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::Origin { text: text.to_owned() };
        let authority = text.strip_prefix("https://").ok_or_else(invalid)?;
        let (host, port) = match authority.split_once(':') {
            // Digits only: `parse` would take a sign too.
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                (host, port.parse::<NonZeroU16>().map_err(|_| invalid())?.get())
            }
            Some(_) => return Err(invalid()),
            None => (authority, 443),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}
