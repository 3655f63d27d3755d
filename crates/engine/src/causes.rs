//! An error and its causes as one line.

use std::error::Error;

/// `cannot read a: no such file`: for places that keep or send text. Errors shown to people are rendered elsewhere.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
