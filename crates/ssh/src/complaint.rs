//! What ssh says before it gives up.

/// The sentence that says most, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// One line, without control characters.
    pub line: String,
    /// What it means.
    pub why: Why,
}

/// Why ssh gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The host has not the key that was given.
    OtherHost,
    /// The host lets none of our keys in.
    KeyRefused,
    /// Anything else: the network, mostly.
    Other,
}

impl Complaint {
    /// From what ssh wrote to its standard error; `None` when that says nothing.
    pub fn of(said: &[u8]) -> Option<Self> {
        let said = String::from_utf8_lossy(said);
        let mut lines = said.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
        let line = lines.rfind(|line| !line.trim().is_empty() && !line.starts_with("Warning: Permanently added"))?;
        let says = |text: &str| line.contains(text);
        let why = if says("Host key verification failed") || says("no matching host key type") {
            Why::OtherHost
        } else if says("Permission denied") || says("Too many authentication failures") {
            Why::KeyRefused
        } else {
            Why::Other
        };
        Some(Self { line, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_why() {
        let why = |said: &str| Complaint::of(said.as_bytes()).map(|complaint| complaint.why);
        assert_eq!(why("@@@ CHANGED\r\nHost key verification failed.\r\n\r\n"), Some(Why::OtherHost));
        let other = "Unable to negotiate with ::1 port 22: no matching host key type found. Their offer: ssh-rsa\n";
        assert_eq!(why(other), Some(Why::OtherHost));
        assert_eq!(why("root@atlas: Permission denied (publickey).\r\n"), Some(Why::KeyRefused));
        assert_eq!(why("ssh: connect to host atlas port 22: Connection refused\r\n"), Some(Why::Other));
        assert_eq!(why("Warning: Permanently added 'x' to the list of known hosts.\n \n"), None);
        assert_eq!(Complaint::of(b"a \x1b[31m\xffred\n").unwrap().line, "a [31m\u{fffd}red");
    }
}
