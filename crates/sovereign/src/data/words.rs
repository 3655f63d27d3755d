//! What a program says on its standard error, for a person: cleaned, and no more than one wants to read.

use crate::output::Output;
use crate::output::printable;

/// Lines that are shown; the rest is counted.
const MOST_LINES: usize = 100;
/// Bytes of a line that are shown.
const MOST_BYTES: usize = 500;

/// Takes bytes as they come, shows lines.
pub(super) struct Words {
    output: Output,
    name: String,
    line: Vec<u8>,
    lines: usize,
    last: Option<String>,
}

impl Words {
    pub(super) fn new(output: Output, name: String) -> Self {
        Self { output, name, line: Vec::new(), lines: 0, last: None }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                // What is beyond the bound is not kept either.
                byte if self.line.len() < MOST_BYTES => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = printable(String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim_end());
        if line.trim().is_empty() {
            return;
        }
        self.lines += 1;
        if self.lines <= MOST_LINES {
            self.output.say(format!("{}: {line}", self.name));
        }
        if is_error(&line) || !self.last.as_deref().is_some_and(is_error) {
            self.last = Some(line);
        }
    }

    /// The line that says most of why: the last one that calls itself an error, else the last.
    pub(super) fn end(mut self) -> Option<String> {
        self.end_line();
        if let Some(more) = self.lines.checked_sub(MOST_LINES).filter(|more| *more > 0) {
            self.output.say(format!("{}: {more} more lines", self.name));
        }
        self.last
    }
}

/// Programs point at places in their input after they have said what is wrong.
fn is_error(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["error", "fatal"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_more_than_what_follows_it() {
        let last = |text: &str| {
            let mut words = Words::new(Output::silent(), "load".to_owned());
            words.hear(text.as_bytes());
            words.end()
        };
        assert_eq!(last("ERROR:  no column x\nLINE 1: select x\n    ^\n").as_deref(), Some("ERROR:  no column x"));
        assert_eq!(last("one\ntwo").as_deref(), Some("two"));
    }

    #[test]
    fn the_last_line_is_kept_however_much_is_said() {
        let mut words = Words::new(Output::silent(), "dump".to_owned());
        for number in 0..1000 {
            words.hear(format!("line {number}\r\n").as_bytes());
        }
        words.hear(b"\x1b[31mred");
        words.hear(&[b'x'; 5000]);
        words.hear(b"\n\n  \n");
        let last = words.end().unwrap();
        assert!(last.starts_with("redxxx") && last.len() <= MOST_BYTES, "{last}");
        assert_eq!(Words::new(Output::silent(), "dump".to_owned()).end(), None);
    }
}
