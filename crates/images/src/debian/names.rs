//! Names and versions of Debian packages, and where an archive keeps them: text that goes into addresses, file names
//! and arguments, so nothing is let in that would mean something else there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longer than any in Debian, and short enough for a file name beside the two others.
const LONGEST: usize = 100;

/// Paths in an archive are about a hundred bytes.
const LONGEST_PATH: usize = 400;

/// The text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct InvalidText {
    /// What was given, shortened.
    pub text: String,
    /// What was wanted.
    pub what: &'static str,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidText;

            fn from_str(text: &str) -> Result<Self, InvalidText> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(InvalidText { text: text.chars().take(LONGEST).collect(), what: $what })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidText;

            fn try_from(text: String) -> Result<Self, InvalidText> {
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

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

text_type! {
    /// The name of a package (Debian Policy, section 5.6.1).
    PackageName, "the name of a Debian package", |text| {
        let name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.".contains(&c);
        (2..=LONGEST).contains(&text.len())
            && text.bytes().all(name)
            && text.as_bytes()[0].is_ascii_alphanumeric()
    }
}

text_type! {
    /// The version of a package, with epoch and revision (Debian Policy, section 5.6.12).
    Version, "the version of a Debian package", |text| {
        (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.~:".contains(&c))
            && text.as_bytes()[0].is_ascii_digit()
    }
}

text_type! {
    /// What a package or a machine is for, as Debian calls it: `amd64`, `all`.
    Architecture, "a Debian architecture", |text| {
        (2..=LONGEST).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && text.as_bytes()[0].is_ascii_alphanumeric()
    }
}

text_type! {
    /// A suite or a component: `bookworm-updates`, `main`.
    SuiteName, "the name of a suite or component", |text| {
        (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.".contains(&c))
            && text.as_bytes()[0].is_ascii_alphanumeric()
    }
}

text_type! {
    /// Where a package lies below its archive: `pool/main/b/bash/bash_5.2.15-2+b8_amd64.deb`.
    PoolPath, "the path of a package in an archive", |text| {
        let segment = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.~_:".contains(&c))
        };
        text.len() <= LONGEST_PATH && text.ends_with(".deb") && text.split('/').all(segment)
    }
}

impl Architecture {
    /// This machine's; `None` where no image is built.
    pub fn here() -> Option<Self> {
        Some(Self(match std::env::consts::ARCH {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            _ => return None,
        }))
    }

    /// What the kernel, and Incus, call it.
    pub fn kernel_name(&self) -> &str {
        match self.0.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_debian_has_is_taken() {
        for name in ["bash", "libstdc++6", "g++", "0ad", "libc6-dev", "python3.11"] {
            assert!(name.parse::<PackageName>().is_ok(), "{name}");
        }
        for version in ["1:9.2p1-2+deb12u6", "5.2.15-2+b8", "252.38-1~deb12u1", "20230311+deb12u1"] {
            assert!(version.parse::<Version>().is_ok(), "{version}");
        }
        assert!("pool/main/g/gcc-12/libstdc++6_12.2.0-14+deb12u1_amd64.deb".parse::<PoolPath>().is_ok());
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for name in ["", "a", "-bash", "Bash", "a b", "a,b", "a/b", "a;b", "a$b", "?essential", "a:b"] {
            assert!(name.parse::<PackageName>().is_err(), "{name}");
        }
        for path in
            ["", "/a.deb", "../a.deb", "a//b.deb", "a/./b.deb", "a", "a b.deb", "a%2fb.deb", "a?.deb", "http://h/a.deb"]
        {
            assert!(path.parse::<PoolPath>().is_err(), "{path}");
        }
        for version in ["", "v1", "-1", "1 2", "1/2", "1_2"] {
            assert!(version.parse::<Version>().is_err(), "{version}");
        }
    }

    proptest! {
        #[test]
        fn what_was_let_in_stays_below_its_folder(text in "[a-z./]{0,20}\\.deb") {
            if let Ok(path) = text.parse::<PoolPath>() {
                let joined = std::path::Path::new("/archive").join(path.as_str());
                let plain = joined.components().all(|part| !matches!(part, std::path::Component::ParentDir));
                prop_assert!(joined.starts_with("/archive") && plain);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (text.parse::<PackageName>(), text.parse::<Version>(), text.parse::<Architecture>());
            let _ = (text.parse::<PoolPath>(), text.parse::<SuiteName>());
        }
    }
}
