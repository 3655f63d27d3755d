//! A text that nobody must read by accident.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret: shown by no `Debug`, compared by value, handed out only by [`Secret::expose`].
///
/// It serializes as plain text, for the 0600 file or the owner-only socket that it belongs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from view.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
