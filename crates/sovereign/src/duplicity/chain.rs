//! Which files an archive consists of, from its manifests. Pure.
//!
//! A *set* is one backup: a full one, or an increment since another set. It has volumes, and a manifest that names the
//! SHA-1 of each. A chain is a full set with the increments that follow.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::output::printable;

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    /// How the names of its files begin.
    pub(super) name: String,
    /// The set it goes on from; `None` for a full one.
    since: Option<String>,
    /// What it is the state of, as in names: `20261125T180320Z`.
    pub(super) at: Moment,
    /// The SHA-1 of each volume, hex, by number.
    pub(super) volumes: BTreeMap<u32, String>,
}

impl Set {
    /// From the name and the text of a manifest that was made readable; `None` for another file.
    pub(super) fn parse(file: &str, manifest: &str) -> Option<Self> {
        let name = file.strip_suffix(".manifest")?;
        let (since, at) = if let Some(at) = name.strip_prefix("duplicity-full.") {
            (None, at)
        } else {
            let (since, at) = name.strip_prefix("duplicity-inc.")?.split_once(".to.")?;
            (Some(since.to_owned()), at)
        };
        let (mut volumes, mut number) = (BTreeMap::new(), None);
        for line in manifest.lines() {
            if let Some(rest) = line.strip_prefix("Volume ") {
                number = rest.trim_end_matches(':').parse().ok();
            } else if let (Some(sum), Some(number)) = (line.trim_start().strip_prefix("Hash SHA1 "), number) {
                volumes.insert(number, sum.trim().to_ascii_lowercase());
            }
        }
        Some(Self { name: name.to_owned(), since, at: Moment(at.to_owned()), volumes })
    }
}

/// Whose volume a file is, and which; `None` for what is no volume.
pub(super) fn volume(file: &str) -> Option<(&str, u32)> {
    let (set, rest) = file.rsplit_once(".vol")?;
    let (number, kind) = rest.split_once('.')?;
    let number = number.parse().ok()?;
    matches!(kind, "difftar" | "difftar.gz" | "difftar.gpg").then_some((set, number))
}

/// The sets that the state at a moment consists of, in their order; the newest state without one. None when all came later.
pub(super) fn at<'s>(sets: &'s [Set], time: Option<&Moment>) -> Vec<&'s Set> {
    let is_in_time = |set: &&Set| time.is_none_or(|time| set.at.0 <= time.0);
    let full = sets.iter().filter(|set| set.since.is_none()).filter(is_in_time).max_by(|a, b| a.at.0.cmp(&b.at.0));
    let mut chain: Vec<&Set> = full.into_iter().collect();
    while let Some(last) = chain.last() {
        let follows = |set: &&Set| set.since.as_ref() == Some(&last.at.0) && set.at.0 > last.at.0;
        let Some(next) = sets.iter().filter(is_in_time).find(follows) else { break };
        chain.push(next);
    }
    chain
}

/// A moment as it is in the names of files: `20261125T180320Z`. Shown, and typed, with all its signs:
/// `2026-11-25T18:03:20Z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment(String);

/// What is no moment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time looks like 2026-11-25T18:03:20Z, in UTC, or like 2026-11-25 for the beginning of that day")]
pub(crate) struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        const FORM: &[u8] = b"0000-00-00T00:00:00Z";
        let text = text.to_ascii_uppercase(); // RFC 3339, 5.6: small letters are as good
        let fits = |byte: &u8, form: &u8| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
        let is = |form: &[u8]| text.len() == form.len() && text.as_bytes().iter().zip(form).all(|(b, f)| fits(b, f));
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        match (is(FORM), is(&FORM[..10])) {
            (true, _) => Ok(Self(digits)),
            (_, true) => Ok(Self(format!("{digits}T000000Z"))),
            _ => Err(NoMoment),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |from, to| self.0.get(from..to);
        match (part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15)) {
            (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) => {
                write!(f, "{year}-{month}-{day}T{hour}:{minute}:{second}Z")
            }
            _ => f.write_str(&printable(&self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MANIFEST: &str = "Hostname vm\nLocaldir src\nVolume 1:\n    StartingPath   .  \n    EndingPath     a 16\n    \
                            Hash SHA1 CCFB97382017ed922fea366cb5720a4d608343aa\nVolume 2:\n    Hash SHA1 4566\nFilelist 1\n    new      a\n";

    fn set(file: &str) -> Set {
        Set::parse(file, MANIFEST).unwrap()
    }

    #[test]
    fn a_manifest_says_which_volumes_there_are() {
        let full = set("duplicity-full.20261125T180320Z.manifest");
        assert_eq!(full.volumes.len(), 2);
        assert_eq!(full.volumes[&1], "ccfb97382017ed922fea366cb5720a4d608343aa");
        assert_eq!(volume("duplicity-full.20261125T180320Z.vol12.difftar.gpg"), Some((full.name.as_str(), 12)));
        assert_eq!(volume("duplicity-full.20261125T180320Z.vol1.difftar.gpg.part"), None);
        assert_eq!(volume("duplicity-full-signatures.20261125T180320Z.sigtar.gpg"), None);
        assert_eq!(Set::parse("duplicity-full-signatures.20261125T180320Z.sigtar.gz", ""), None);
        assert_eq!(full.at.to_string(), "2026-11-25T18:03:20Z");
    }

    #[test]
    fn a_state_is_a_full_set_and_what_follows_it() {
        let sets = [
            "duplicity-inc.20261125T180320Z.to.20261126T000000Z.manifest",
            "duplicity-full.20261125T180320Z.manifest",
            "duplicity-inc.20261126T000000Z.to.20261127T000000Z.manifest",
            "duplicity-full.20250101T000000Z.manifest",
            "duplicity-inc.20250101T000000Z.to.20250102T000000Z.manifest",
        ]
        .map(set);
        let state = |time: Option<&str>| {
            let time = time.map(|time| time.parse().unwrap());
            at(&sets, time.as_ref()).into_iter().map(|set| set.at.0[2..8].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(state(None), ["261125", "261126", "261127"]);
        assert_eq!(state(Some("2026-11-26T23:59:59Z")), ["261125", "261126"]);
        assert_eq!(state(Some("2026-11-26")), ["261125", "261126"]);
        assert_eq!(state(Some("2026-11-25")), ["250101", "250102"]);
        assert_eq!(state(Some("2024-12-31")), Vec::<String>::new());
        let circle = ["duplicity-full.2.manifest", "duplicity-inc.2.to.1.manifest", "duplicity-inc.1.to.2.manifest"];
        assert_eq!(at(&circle.map(set), None).len(), 1);
        assert_eq!(at(&[], None).len(), 0);
        for bad in ["", "3D", "2026-11-25T18:03:20", "2026-11-25T18:03:20+", "20261125T180320Z", "now"] {
            assert_eq!(bad.parse::<Moment>(), Err(NoMoment), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_manifest_is_taken_apart(file in ".{0,60}", text in "(Volume [0-9]{0,12}:\n|    Hash SHA1 .{0,9}\n|.{0,20}\n){0,9}") {
            let _ = Set::parse(&file, &text);
            let _ = Set::parse("duplicity-full.20261125T180320Z.manifest", &text);
            let _ = (file.parse::<Moment>(), Moment(file.clone()).to_string(), volume(&file));
        }
    }
}
