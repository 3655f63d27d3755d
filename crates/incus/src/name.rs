//! Names of Incus's things, a type for each kind.
//!
//! What the server allows is wider for some kinds than for others. Checked here is what keeps a name a name: it is one
//! part of a path and of one line, whoever made it up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longer than any name Incus takes.
const LONGEST: usize = 255;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the name of anything in Incus")]
pub struct InvalidName(String);

fn check(text: &str) -> Result<(), InvalidName> {
    let strange = |c: char| c == '/' || c.is_control();
    if text.is_empty() || text.len() > LONGEST || matches!(text, "." | "..") || text.contains(strange) {
        // Whoever sent it gets no page to fill.
        return Err(InvalidName(text.chars().take(LONGEST).collect()));
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
                check(text).map(|()| Self(text.to_owned()))
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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

names!(
    /// The name of a project.
    ProjectName,
    /// The name of an instance.
    InstanceName,
    /// The name of a network.
    NetworkName,
    /// The name of a storage pool.
    PoolName,
    /// The name of a custom volume in a pool.
    VolumeName,
    /// The name of a snapshot of an instance or a volume.
    SnapshotName,
    /// The name of a profile.
    ProfileName,
    /// The name of a member of a cluster.
    MemberName,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for good in ["h1", "my profile", "a.b", "ü"] {
            assert_eq!(good.parse::<ProfileName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad:?}");
        }
    }
}
