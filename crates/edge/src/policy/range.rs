//! `Range` with one byte range (RFC 9110 section 14).

use std::ops::Range;

/// What a `Range` field asks of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole: no range, several, another unit, or nonsense; all of them may be ignored (section 14.2).
    Whole,
    /// This part; never empty, within the body.
    Part(Range<u64>),
    /// A part that lies outside: 416.
    Outside,
}

/// What `field` asks of a body of `length` bytes.
pub(super) fn wanted(field: &[u8], length: u64) -> Wanted {
    parse(field, length).unwrap_or(Wanted::Whole)
}

fn parse(field: &[u8], length: u64) -> Option<Wanted> {
    let text = std::str::from_utf8(field).ok()?.trim();
    let (unit, ranges) = text.split_once('=')?;
    let (first, last) = ranges.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = match (number(first.trim())?, number(last.trim())?) {
        (Some(first), Some(last)) if first > last => return None,
        (Some(first), last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
        (None, Some(suffix)) => length.saturating_sub(suffix)..length,
        (None, None) => return None,
    };
    Some(if range.is_empty() { Wanted::Outside } else { Wanted::Part(range) })
}

/// `Some(None)` for nothing, `None` for anything that is not a number.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_range() {
        let wanted = |field: &str| wanted(field.as_bytes(), 10);
        assert_eq!(wanted("bytes=0-3"), Wanted::Part(0..4));
        assert_eq!(wanted("Bytes = 4-"), Wanted::Part(4..10));
        assert_eq!(wanted("bytes=-3"), Wanted::Part(7..10));
        assert_eq!(wanted("bytes=-99"), Wanted::Part(0..10));
        assert_eq!(wanted("bytes=9-99999999999999999999999"), Wanted::Part(9..10));
        assert_eq!(wanted("bytes=10-"), Wanted::Outside);
        assert_eq!(wanted("bytes=-0"), Wanted::Outside);
        for ignored in ["bytes=3-2", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes", "bytes=a-b", "bytes=+1-2"] {
            assert_eq!(wanted(ignored), Wanted::Whole, "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_body(field in "bytes ?= ?[0-9-]{0,12}|\\PC*", length in 0u64..1000) {
            if let Wanted::Part(range) = wanted(field.as_bytes(), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
