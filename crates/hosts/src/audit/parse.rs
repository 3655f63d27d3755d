//! From a host's words to [`Seen`].

use super::{File, Seen};

/// The first line. A shell may print things of its own before it.
const FIRST: &str = "sovereign-audit\t1";
/// The last line, by which a text that was cut off is known.
const LAST: &str = "end";
/// More of one kind are not believed, and so are differences.
const MOST: usize = 20_000;
/// Longer lines are cut.
const LONGEST: usize = 2000;

/// The text is not what the script prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSeen {
    /// It does not begin as it should.
    #[error("its answer does not begin with {FIRST:?}")]
    Beginning,
    /// It was cut off.
    #[error("its answer ends in the middle")]
    CutOff,
}

impl Seen {
    /// Reads what the script printed; what is not understood is passed over, and so is found missing.
    ///
    /// # Errors
    /// When it was not printed by the script, or not all of it.
    pub fn parse(answer: &[u8]) -> Result<Self, NotSeen> {
        let text = String::from_utf8_lossy(answer);
        let mut lines = text.lines();
        if !lines.any(|line| line == FIRST) {
            return Err(NotSeen::Beginning);
        }
        let (mut seen, mut wanted, mut compares) = (Self::default(), std::collections::BTreeMap::new(), false);
        for line in lines {
            if line == LAST {
                seen.wanted = compares.then_some(wanted);
                return Ok(seen);
            }
            let Some((key, value)) = line.split_once('\t') else { continue };
            match (key, value.split_once('\t')) {
                ("compares", None) => compares = value == "yes",
                ("loaded", Some((table, line))) => push(seen.loaded.entry(clean(table)).or_default(), line),
                ("wanted", Some((table, line))) => push(wanted.entry(clean(table)).or_default(), line),
                ("at-boot", Some((file, line))) if seen.at_boot.len() < MOST => {
                    push(seen.at_boot.entry(clean(file)).or_default(), line);
                }
                ("text", Some((unit, line))) if seen.has_room(unit) => {
                    let text = seen.units.entry(clean(unit)).or_default().text.get_or_insert_default();
                    if text.len() < 1 << 20 {
                        text.push_str(line);
                        text.push('\n');
                    }
                }
                ("show", Some((unit, line))) if seen.has_room(unit) => {
                    if let Some((name, value)) = line.split_once('=') {
                        let properties = &mut seen.units.entry(clean(unit)).or_default().properties;
                        properties.insert(clean(name), clean(value));
                    }
                }
                (_, None) => seen.note(key, value),
                _ => {}
            }
        }
        Err(NotSeen::CutOff)
    }

    fn note(&mut self, key: &str, value: &str) {
        let (first, rest) = value.split_once(' ').unwrap_or((value, ""));
        match key {
            "table" if self.tables.len() < MOST => drop(self.tables.insert(clean(value))),
            "link" if self.has_room(first) => self.units.entry(clean(first)).or_default().link = Some(clean(rest)),
            "runs" if self.has_room(first) => {
                let (digest, path) = rest.split_once(' ').unwrap_or((rest, ""));
                self.units.entry(clean(first)).or_default().runs = Some((clean(digest), clean(path)));
            }
            "file" if self.files.len() < MOST => {
                if let Some((path, file)) = File::parse(value) {
                    self.files.insert(path.into(), file);
                }
            }
            "changed" => push(&mut self.changed, value),
            "program" if self.programs.len() < MOST => drop(self.programs.insert(clean(rest).into(), clean(first))),
            "authorized" => push(&mut self.authorized, value.trim()),
            _ => {}
        }
    }

    fn has_room(&self, unit: &str) -> bool {
        self.units.len() < MOST || self.units.contains_key(unit)
    }
}

impl File {
    /// From `750 root sovereign d /var/lib/...`.
    fn parse(line: &str) -> Option<(String, Self)> {
        let mut fields = line.splitn(5, ' ');
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let owner = format!("{}:{}", clean(fields.next()?), clean(fields.next()?));
        let kind = fields.next()?.chars().next()?;
        Some((clean(fields.next()?), Self { mode, owner, kind }))
    }
}

fn push(lines: &mut Vec<String>, line: &str) {
    if lines.len() < MOST {
        lines.push(clean(line));
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
