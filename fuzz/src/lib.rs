//! What parses bytes of strangers, fed with any bytes at all.
//!
//! A target is a plain function that panics when a promise is broken: that nothing panics is the least of them; the
//! rest are properties, like "a page rewritten in pieces is the page rewritten whole". `cargo xtask fuzz` drives them
//! with coverage guidance; this crate's own tests run every seed and every input that ever broke something
//! (`corpus/<target>/`) through them without any driver.
//!
//! Left out: parsers of other people (TLS, HTTP/1.1 and HTTP/2 framing, TOML, JSON, gzip), which are fuzzed where they
//! are made. What reaches us through them is fuzzed here.

mod applications;
mod archive;
mod authorities;
mod hosts;
mod local;
mod names;
mod pages;
mod requests;

/// Something to feed bytes to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its folder of seeds.
    pub name: &'static str,
    /// Who writes these bytes.
    pub from: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "stack-file", from: "the operator, or whoever sends them a file", run: local::stack_file },
    Target { name: "target", from: "readers", run: requests::target },
    Target { name: "route", from: "readers", run: requests::route },
    Target { name: "proxied", from: "readers, where a proxy in front is trusted", run: requests::proxied },
    Target { name: "respond", from: "readers", run: requests::respond },
    Target { name: "terms", from: "applications and peers", run: applications::terms },
    Target { name: "rewrite", from: "applications and peers", run: pages::rewrite },
    Target { name: "webhook", from: "Ghost, or whoever has its key", run: applications::webhook },
    Target { name: "notice", from: "peers", run: applications::notice },
    Target { name: "discover", from: "applications and peers", run: pages::discover },
    Target { name: "store-head", from: "a disk", run: local::store_head },
    Target { name: "store-record", from: "a disk", run: local::store_record },
    Target { name: "signed", from: "whoever can write a daemon's folder", run: local::signed },
    Target { name: "control", from: "whoever can reach a control socket", run: local::control },
    Target { name: "sockets", from: "the environment", run: local::sockets },
    Target { name: "outgoing-log", from: "Ghost", run: applications::outgoing_log },
    Target { name: "dump", from: "a host's database", run: archive::dump },
    Target { name: "unpack", from: "package registries", run: applications::unpack },
    Target { name: "image-files", from: "a disk", run: local::image_files },
    Target { name: "apt", from: "Debian's mirrors", run: local::apt },
    Target { name: "addresses", from: "Debian's mirrors", run: local::addresses },
    Target { name: "archive-wire", from: "hosts whose data is backed up", run: archive::wire },
    Target { name: "incus-answer", from: "hosts that run an Incus", run: incus_answer },
    Target { name: "host-facts", from: "hosts, before and after they are the stack's", run: hosts::facts },
    Target { name: "certificate", from: "authorities", run: authorities::certificate },
    Target { name: "challenge-answer", from: "name servers, or whoever answers for them", run: authorities::answer },
    Target { name: "dns-answer", from: "name servers, whosever they are", run: names::answer },
    Target { name: "learned", from: "edges of other data centers", run: names::learned },
    Target { name: "trial-head", from: "whoever answers at an uplink", run: names::trial_head },
    Target { name: "words", from: "the operator", run: local::words },
];

/// What an Incus says goes back to it whole, or is none of Incus's.
fn incus_answer(data: &[u8]) {
    sovereign_incus::stranger::look_at(data);
}

/// The bytes as text, where a text is what arrives.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Fields from lines of `name: value`; what HTTP does not allow is left out, as an HTTP implementation would.
fn fields(text: &[u8]) -> http::HeaderMap {
    let lines = text.split(|byte| *byte == b'\n').take(100);
    let named = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = http::HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    });
    let mut fields = http::HeaderMap::new();
    for (name, value) in named {
        fields.append(name, value);
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// How many bent inputs each target is given.
    const BENT: u32 = 500;

    fn seeds(target: &Target) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// Every seed, and every input that once broke something.
    #[test]
    fn the_corpus_breaks_nothing() {
        for target in TARGETS {
            let seeds = seeds(target);
            assert!(!seeds.is_empty(), "{} has no seed", target.name);
            seeds.iter().for_each(|seed| (target.run)(seed));
            (target.run)(b"");
        }
    }

    /// The same numbers at every run: a gate that fails by chance is none. Who looks for new ones is the driver.
    struct Numbers(u64);

    impl Numbers {
        /// One below `end`, by xorshift.
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % end.max(1) as u64).unwrap()
        }

        /// A part of something that long.
        fn part(&mut self, length: usize) -> std::ops::Range<usize> {
            let start = self.below(length + 1);
            start..start + self.below((length - start).min(64) + 1)
        }
    }

    /// A seed with one to four things wrong with it.
    fn bent(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.below(4) {
            let part = numbers.part(bytes.len());
            match numbers.below(6) {
                0 => bytes.truncate(part.start),
                1 => drop(bytes.drain(part)),
                2 => {
                    let again = bytes[part.clone()].to_vec();
                    bytes.splice(part.end..part.end, again);
                }
                3 => {
                    let foreign = other[numbers.part(other.len())].to_vec();
                    bytes.splice(part, foreign);
                }
                4 => {
                    let byte = *b"\0\xff\n\r \"'\\/.:;,=-09{}[]<".get(numbers.below(22)).unwrap();
                    bytes.insert(part.start, byte);
                }
                _ => {
                    let bit = 1 << numbers.below(8);
                    bytes.get_mut(part.start).into_iter().for_each(|byte| *byte ^= bit);
                }
            }
        }
        bytes
    }

    #[test]
    fn what_is_nearly_a_seed_breaks_nothing() {
        let mut numbers = Numbers(0x5eed);
        for target in TARGETS {
            let seeds = seeds(target);
            for _ in 0..BENT {
                let [seed, other] = [(); 2].map(|()| &seeds[numbers.below(seeds.len())]);
                let input = bent(seed, other, &mut numbers);
                std::panic::catch_unwind(|| (target.run)(&input))
                    .unwrap_or_else(|_| panic!("{} broke by {:?}", target.name, input.escape_ascii().to_string()));
            }
        }
    }
}
