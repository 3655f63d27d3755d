//! Secrets that somebody else has made, as they were given: what a provider of DNS knows the stack by.
//!
//! Each lies in a file of its own, for its owner alone (0600). They follow from nothing, so they are backed up.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::secret::SecretText;

/// The secret in this file, without the space around it; `None` where there is none.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> io::Result<Option<SecretText>> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(|text| SecretText::new(text.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_stands_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.secret");
        assert_eq!(read(&path).unwrap(), None);
        for (text, secret) in [("", None), (" \n", None), ("abc\n", Some("abc")), ("a b\r\n", Some("a b"))] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), secret.map(|secret| SecretText::new(secret.to_owned())));
        }
        fs::write(&path, [0xff]).unwrap();
        assert!(read(&path).is_err());
    }
}
