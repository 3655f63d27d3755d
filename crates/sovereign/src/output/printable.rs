//! Lines that somebody else wrote.

/// What an application writes must not steer the terminal: its colors are left out, other controls are shown as such.
pub(crate) fn printable(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            // A control sequence ends with its first byte from @ to ~ (ECMA-48, 5.4).
            '\u{1b}' if rest.as_str().starts_with('[') => {
                rest.by_ref().skip(1).find(|c| ('@'..='~').contains(c));
            }
            c if c.is_control() && c != '\t' => shown.push(char::REPLACEMENT_CHARACTER),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_log_cannot_steer_the_terminal() {
        assert_eq!(printable("a \u{1b}[36mINFO\u{1b}[39m b\tc"), "a INFO b\tc");
        assert_eq!(printable("\u{1b}]0;title\u{7}"), "\u{fffd}]0;title\u{fffd}");
        assert_eq!(printable("cut \u{1b}[3"), "cut ");
    }
}
