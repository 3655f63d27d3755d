//! Texts that must not be seen: wiped when dropped, hidden from `Debug`, without `Display`.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text. Whoever means to show it says so with [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, to be written to a private file or shown to the operator who asked for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(hidden)")
    }
}

/// What the seed file is encrypted to.
///
/// Used as it is, byte for byte, but for one line end at its end: a passphrase file usually has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passphrase(SecretText);

impl Passphrase {
    /// Takes the text over; `None` when it is empty, which would protect nothing.
    pub fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() { None } else { Some(Self(SecretText::new(text.to_owned()))) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let passphrase = Passphrase::new("correct horse".to_owned()).unwrap();
        assert_eq!(format!("{passphrase:?}"), "Passphrase(SecretText(hidden))");
    }

    #[test]
    fn one_line_end_is_not_part_of_a_passphrase() {
        let plain = Passphrase::new("a b ".to_owned());
        assert_eq!(Passphrase::new("a b \n".to_owned()), plain);
        assert_eq!(Passphrase::new("a b \r\n".to_owned()), plain);
        assert_ne!(Passphrase::new("a b \n\n".to_owned()), plain);
        assert_eq!(Passphrase::new("\n".to_owned()), None);
    }
}
