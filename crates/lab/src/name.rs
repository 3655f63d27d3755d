//! What a lab is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Interfaces are named after it, and the kernel has 15 bytes for one: the name, `br`, and the number of a data center.
const LONGEST: usize = 10;

/// The name of a lab: a short DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// Why a text cannot be the name of a lab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a lab: a-z, 0-9 and '-', up to {LONGEST}, beginning with a letter")]
pub struct InvalidLabName(String);

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LabName {
    fn default() -> Self {
        Self("lab".to_owned())
    }
}

impl FromStr for LabName {
    type Err = InvalidLabName;

    fn from_str(text: &str) -> Result<Self, InvalidLabName> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        let is_name = begins && !text.ends_with('-') && text.len() <= LONGEST && text.bytes().all(is_plain);
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidLabName(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for LabName {
    type Error = InvalidLabName;

    fn try_from(text: String) -> Result<Self, InvalidLabName> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_into_the_name_of_an_interface() {
        for good in ["lab", "l2", "six-hosts1"] {
            assert_eq!(good.parse::<LabName>().unwrap().to_string(), good);
        }
        for bad in ["", "Lab", "-lab", "lab-", "2nd", "eleven-char", "a/b", "ü"] {
            assert!(bad.parse::<LabName>().is_err(), "{bad:?}");
        }
    }
}
