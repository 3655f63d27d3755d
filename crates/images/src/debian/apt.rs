//! What apt prints, read. Pure; some of it was said by a mirror, so all of it is hostile until parsed.

use std::time::{Duration, SystemTime};

use sovereign_model::Digest;

use super::names::{Architecture, InvalidText, PackageName, Version};

/// A line of apt's that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// Something is missing, or of the wrong kind.
    #[error("in {line:?}, {what} cannot be read")]
    Field {
        /// The line, shortened.
        line: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A name or version that Debian's rules do not allow.
    #[error(transparent)]
    Text(#[from] InvalidText),
}

/// A source that apt is set up with: one for each component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The archive's address, without a slash at its end.
    pub uri: String,
    /// The suite, as in the source.
    pub suite: String,
}

/// How [`targets`] wants them printed.
pub(super) const TARGET_FORMAT: &str = "$(REPO_URI) $(RELEASE)";

/// What `apt-get indextargets --format` printed. Lines that say nothing of use are passed over: they describe sources
/// that nobody asked for.
pub fn targets(text: &str) -> Vec<Target> {
    let mut targets = Vec::new();
    for line in text.lines() {
        let Some((uri, suite)) = line.split_once(' ') else { continue };
        let target = Target { uri: uri.trim_end_matches('/').to_owned(), suite: suite.trim().to_owned() };
        if !target.uri.is_empty() && !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

/// A package that apt would fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: Version,
    /// What it is for.
    pub architecture: Architecture,
    /// Where it is, in full.
    pub uri: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// What `apt-get --print-uris install` printed: one line for each package, `'<address>' <file> <size> SHA256:<digest>`.
///
/// # Errors
/// When a line that describes a package cannot be read.
pub fn offers(text: &str) -> Result<Vec<Offer>, NotUnderstood> {
    text.lines().filter(|line| line.starts_with('\'')).map(offer).collect()
}

fn offer(line: &str) -> Result<Offer, NotUnderstood> {
    let bad = |what| NotUnderstood::Field { line: line.chars().take(200).collect(), what };
    let (uri, rest) = line[1..].split_once('\'').ok_or_else(|| bad("the address"))?;
    let mut fields = rest.split_ascii_whitespace();
    let mut next = |what| fields.next().ok_or_else(|| bad(what));
    let (file, size, hash) = (next("the file's name")?, next("the size")?, next("the digest")?);
    // apt names files <name>_<version>_<architecture>.deb, with %xx for what has another meaning there.
    let stem = file.strip_suffix(".deb").ok_or_else(|| bad("the file's name"))?;
    let mut parts = stem.split('_');
    let mut part = || parts.next().and_then(decoded).ok_or_else(|| bad("the file's name"));
    let (name, version, architecture) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return Err(bad("the file's name"));
    }
    let digits = hash.strip_prefix("SHA256:").ok_or_else(|| bad("the digest"))?;
    Ok(Offer {
        name: name.parse()?,
        version: version.parse()?,
        architecture: architecture.parse()?,
        uri: uri.to_owned(),
        bytes: size.parse().map_err(|_| bad("the size"))?,
        sha256: format!("sha256:{digits}").parse().map_err(|_| bad("the digest"))?,
    })
}

/// Text with its `%xx` replaced; `None` when it is not UTF-8 then, or ends in the midst of one.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |c: Option<u8>| char::from(c?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next())? * 16 + digit(rest.next())?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Text for the path of an address: everything but what is sure to mean itself is written `%xx`.
pub(super) fn encoded(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' | b'~' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02x}")),
        }
        text
    })
}

/// A file that apt could not fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its address, as it was given.
    pub uri: String,
    /// What apt says of it.
    pub reason: String,
}

impl Failure {
    /// Whether the mirror answered that it has no such file.
    pub fn vanished(&self) -> bool {
        // What is not as it should be is told with its digests, in which any number may be.
        let is_gone = ["404", "410"].iter().any(|status| self.reason.starts_with(status));
        is_gone || ["File not found", "(2: No such file or directory)"].iter().any(|sign| self.reason.contains(sign))
    }

    /// Whether what the mirror gave is not what was asked for.
    pub fn foreign(&self) -> bool {
        ["Hash Sum mismatch", "File has unexpected size"].iter().any(|sign| self.reason.contains(sign))
    }
}

/// What apt complained of: lines `E: Failed to fetch <address>  <reason>`, with lines that go on about it.
pub fn failures(stderr: &str) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    let mut open = false;
    for line in stderr.lines() {
        let plain: String = line.chars().filter(|c| !c.is_control()).collect();
        let said = ["E: ", "W: "].iter().find_map(|mark| plain.strip_prefix(mark));
        match said.map(|said| said.strip_prefix("Failed to fetch ")) {
            Some(Some(failure)) => {
                let (uri, reason) = failure.split_once(' ').unwrap_or((failure, ""));
                failures.push(Failure { uri: uri.to_owned(), reason: reason.trim().to_owned() });
                open = true;
            }
            Some(None) => open = false,
            None => {
                if let Some(last) = failures.last_mut().filter(|_| open) {
                    last.reason = format!("{} {}", last.reason, plain.trim()).trim().to_owned();
                }
            }
        }
    }
    failures
}

/// Why apt does not take what a mirror offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not signed by the keys that were given, or not at all.
    Signature,
    /// It says itself that it is too old.
    Expired,
    /// It is from the future: one of the two clocks is wrong.
    NotYet,
    /// None of these: mostly the network.
    Other,
}

/// What apt's complaints come to. A signature that is wrong weighs more than anything that was said besides.
pub fn refusal(stderr: &str) -> Refusal {
    let says = |signs: &[&str]| signs.iter().any(|sign| stderr.contains(sign));
    if says(&["GPG error", "is not signed", "NO_PUBKEY", "BADSIG", "EXPKEYSIG", "REVKEYSIG", "no longer signed"]) {
        Refusal::Signature
    } else if says(&["is expired (invalid since"]) {
        Refusal::Expired
    } else if says(&["is not valid yet"]) {
        Refusal::NotYet
    } else {
        Refusal::Other
    }
}

/// What apt complains of in its own words: its errors, or its warnings where there are none.
pub fn complaints(stderr: &str) -> String {
    let lines = |mark: &str| {
        let plain = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        stderr.lines().filter_map(|line| Some(plain(line.strip_prefix(mark)?))).collect::<Vec<_>>()
    };
    let (errors, warnings) = (lines("E: "), lines("W: "));
    let mut said = if errors.is_empty() { warnings } else { errors };
    said.dedup();
    said.truncate(6);
    said.join("; ")
}

/// When a suite was made, from its signed index. Debian writes dates as mail does, in UTC.
pub fn made(release: &str) -> Option<u64> {
    let date = release.lines().find_map(|line| line.strip_prefix("Date:"))?.trim();
    let date = date.strip_suffix("UTC").or_else(|| date.strip_suffix("GMT")).or_else(|| date.strip_suffix("+0000"))?;
    let made = httpdate::parse_http_date(&format!("{}GMT", date.replace(",  ", ", 0"))).ok()?;
    made.duration_since(SystemTime::UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
}

/// The packages that dpkg has installed, from its status file: names and versions, sorted.
pub fn installed(status: &str) -> Vec<(String, String)> {
    let mut installed: Vec<_> = status.split("\n\n").filter_map(stanza).collect();
    installed.sort();
    installed
}

fn stanza(stanza: &str) -> Option<(String, String)> {
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    (field("Status")? == "install ok installed").then_some((field("Package")?.to_owned(), field("Version")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn offers_are_read_with_epochs_and_pluses() {
        let text = format!(
            "Reading package lists...\n\
             'http://mirror.test/debian/pool/main/o/openssh/openssh-server_9.2p1-2%2bdeb12u6_amd64.deb' \
             openssh-server_1%3a9.2p1-2+deb12u6_amd64.deb 456400 SHA256:{HASH}\n\
             'copy:/repo/pool/tzdata_2025b_all.deb' tzdata_2025b_all.deb 0 SHA256:{HASH}\n"
        );
        let offers = offers(&text).unwrap();
        let seen: Vec<_> =
            offers.iter().map(|o| format!("{} {} {} {}", o.name, o.version, o.architecture, o.bytes)).collect();
        assert_eq!(seen, ["openssh-server 1:9.2p1-2+deb12u6 amd64 456400", "tzdata 2025b all 0"]);
    }

    #[test]
    fn half_an_offer_is_an_error_and_no_panic() {
        let whole = format!("'http://m/a_1_all.deb' aa_1_all.deb 5 SHA256:{HASH}");
        assert!(offers(&whole).is_ok());
        for damaged in [
            "'http://m/a_1_all.deb".to_owned(),
            "'http://m/a_1_all.deb' aa_1_all.deb 5".to_owned(),
            whole.replace("SHA256", "MD5Sum"),
            whole.replace(" 5 ", " five "),
            whole.replace("aa_1_all.deb", "aa_1.deb"),
            whole.replace("aa_1_all.deb", "aa_1_all_more.deb"),
            whole.replace("aa_1_all.deb", "%2e%2e%2f_1_all.deb"),
            whole.replace("aa_1_all.deb", "aa%_1_all.deb"),
        ] {
            assert!(offers(&damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn failures_tell_what_vanished_from_what_was_out_of_reach() {
        let stderr = "E: Failed to fetch http://m/pool/a.deb  404  Not Found [IP: 10.0.0.1 80]\n\
            E: Failed to fetch copy:/r/b.deb  Failed to stat - stat (2: No such file or directory)\n\
            E: Failed to fetch http://m/pool/c.deb  Could not connect to m:80 (10.0.0.1). - connect (111: Connection refused)\n\
            E: Failed to fetch http://m/pool/d.deb  Hash Sum mismatch\n   Hashes of expected file: SHA256:1404410\n\
            E: Download Failed\n more\n";
        let failures = failures(stderr);
        let seen: Vec<_> = failures.iter().map(|failure| (failure.vanished(), failure.foreign())).collect();
        assert_eq!(seen, [(true, false), (true, false), (false, false), (false, true)]);
        assert_eq!(failures[3].reason, "Hash Sum mismatch Hashes of expected file: SHA256:1404410");
    }

    #[test]
    fn refusals_are_told_apart() {
        for (said, expected) in [
            ("W: GPG error: http://m b InRelease: ... NO_PUBKEY 0E98", Refusal::Signature),
            ("E: The repository 'http://m b Release' is not signed.", Refusal::Signature),
            ("E: Release file for http://m/InRelease is expired (invalid since 9d 1h). Updates ...", Refusal::Expired),
            ("E: Release file for http://m is not valid yet (invalid for another 3h)", Refusal::NotYet),
            ("E: Failed to fetch http://m/InRelease  Could not resolve 'm'", Refusal::Other),
        ] {
            assert_eq!(refusal(said), expected, "{said}");
        }
    }

    #[test]
    fn targets_are_read_once_each_without_their_slash() {
        let text = "http://m/debian/ bookworm\nhttp://m/debian/ bookworm\nhttp://m/s/ bookworm-security\n\nodd\n";
        let target = |uri: &str, suite: &str| Target { uri: uri.to_owned(), suite: suite.to_owned() };
        assert_eq!(targets(text), [target("http://m/debian", "bookworm"), target("http://m/s", "bookworm-security")]);
    }

    #[test]
    fn dates_are_read_as_debian_writes_them() {
        let release = "Origin: Debian\nDate: Sat, 17 May 2025 10:12:13 UTC\nValid-Until: ...\n";
        assert_eq!(made(release), Some(1_747_476_733));
        assert_eq!(made("Date: Thu,  1 Jan 1970 00:00:09 UTC"), Some(9));
        assert_eq!(made("Date: yesterday"), None);
        assert_eq!(made(""), None);
    }

    #[test]
    fn only_what_is_wholly_installed_counts() {
        let status = "Package: b\nStatus: install ok installed\nVersion: 2\n\n\
                      Package: a\nStatus: install ok half-configured\nVersion: 1\n\n\
                      Package: a\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/a 1\n";
        assert_eq!(installed(status), [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_output_panics(bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = (offers(&text), offers(&format!("'{text}")), targets(&text), failures(&text));
            let _ = (refusal(&text), complaints(&text), made(&text), made(&format!("Date: {text}")), installed(&text));
        }

        #[test]
        fn what_was_encoded_is_decoded(text: String) {
            prop_assert_eq!(decoded(&encoded(&text)), Some(text));
        }

        #[test]
        fn a_damaged_offer_is_refused_or_another_offer(at in 0_usize..120, byte in 32_u8..127) {
            let whole = format!("'http://m/a_1_all.deb' aa_1%3a2_all.deb 5 SHA256:{HASH}");
            let mut bytes = whole.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(offers) = offers(&String::from_utf8(bytes).unwrap()) {
                prop_assert!(offers.len() <= 1);
            }
        }
    }
}
