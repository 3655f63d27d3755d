//! Words for the shell of a host. sshd hands what it is to run to the user's shell as one text, so words are made into
//! one here, and nowhere else.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The words as one text that every POSIX shell takes apart into the same words, whatever bytes they are of (but NUL,
/// which no argument can have).
pub(crate) fn command<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> OsString {
    let mut text = Vec::new();
    for word in words {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.push(b'\'');
        for byte in word.as_bytes() {
            match byte {
                // Nothing means anything between these quotes but their end.
                b'\'' => text.extend(b"'\\''"),
                _ => text.push(*byte),
            }
        }
        text.push(b'\'');
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shell_takes_it_apart_again(words in vec(vec(1..=255_u8, 0..40), 1..6)) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
            let mut script = OsString::from("printf '%s\\0' ");
            script.push(command(words.iter().map(OsString::as_os_str)));
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), &[0]].concat()).collect();
            prop_assert_eq!(output.stdout, expected);
        }
    }
}
