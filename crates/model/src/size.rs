//! Amounts of bytes, as operators write them: `512 MB`, `20 GB`, `32 KiB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// So many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// The units a size can have, and what each stands for. Decimal ones are those of disks and network providers.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size")]
pub struct InvalidSize(String);

impl FromStr for ByteSize {
    type Err = InvalidSize;

    /// A whole number and a unit, a space between them or not.
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let invalid = || InvalidSize(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (digits, unit) = text.split_at(end);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(invalid)?;
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        count.checked_mul(*factor).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    /// The shortest exact spelling: what was written, for sizes that people write.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, factor): &&(&str, u64)| self.0.is_multiple_of(*factor) && self.0 >= *factor;
        let (unit, factor) = UNITS.iter().filter(exact).max_by_key(|(_, factor)| *factor).unwrap_or(&UNITS[0]);
        write!(f, "{} {unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        let read = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(read("20 GB"), Ok(20_000_000_000));
        assert_eq!(read("32KiB"), Ok(32_768));
        assert_eq!(read("1 gb"), Ok(1_000_000_000));
        assert_eq!(read("0 B"), Ok(0));
        for wrong in ["", "20", "GB", "2.5 GB", "-1 GB", "20  GB", "20 GB ", "99999999999 TB", "1 XB"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ByteSize(32 << 10).to_string(), "32 KiB");
        assert_eq!(ByteSize(5_000_000_000).to_string(), "5 GB");
        assert_eq!(ByteSize(0).to_string(), "0 B");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in any::<u64>()) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
    }
}
