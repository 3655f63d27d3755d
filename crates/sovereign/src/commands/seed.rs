//! `sovereign seed`: the 24 words, shown, checked and brought back. They go over a terminal or a pipe, never through
//! arguments or the environment, which others can read.

use std::io::{self, IsTerminal, Read};

use serde::Serialize;
use sovereign_keys::{RootSeed, SeedError};
use zeroize::Zeroizing;

use crate::cli::PassphraseArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::secrets;

/// More than 24 words of any spacing need.
const LONGEST_INPUT: u64 = 4096;

/// The words, to be written down.
#[derive(Serialize)]
pub(crate) struct Words {
    words: Vec<String>,
    fingerprint: String,
}

impl Report for Words {
    fn show(&self, page: &mut Page) {
        for row in self.words.chunks(6) {
            page.line(row.join(" "));
        }
    }
}

/// `seed show`.
pub(crate) fn show(context: &Context, args: &PassphraseArgs) -> Result<Words, Failure> {
    let declared = Declared::load(context)?;
    let stored = secrets::seed_file(&declared.stack, &declared.state).open()?;
    let seed = stored.unlock(|| secrets::passphrase(context, args.passphrase_file.as_deref()))?;
    let words = seed.words().expose().split_whitespace().map(str::to_owned).collect();
    Ok(Words { words, fingerprint: stored.fingerprint().to_string() })
}

/// Which seed the words were found to be.
#[derive(Debug, Serialize)]
pub(crate) struct Recognised {
    fingerprint: String,
    #[serde(skip)]
    sentence: &'static str,
}

impl Report for Recognised {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("{} (fingerprint {})", self.sentence, self.fingerprint));
    }
}

/// The words are a root seed, but not this stack's.
#[derive(Debug, thiserror::Error)]
#[error("these are 24 good words, but not those of this stack")]
struct OtherWords;

impl Reason for OtherWords {
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign seed show` prints this stack's words: write those down".to_owned())
    }
}

/// `seed verify`. Needs no passphrase: the file keeps a fingerprint to compare with.
pub(crate) fn verify(context: &Context) -> Result<Recognised, Failure> {
    let declared = Declared::load(context)?;
    let stored = secrets::seed_file(&declared.stack, &declared.state).open()?;
    let seed = read_words(context)?;
    if !stored.is(&seed) {
        return Err(OtherWords.into());
    }
    secrets::note_words_seen(&declared.state, stored.fingerprint())?;
    let fingerprint = stored.fingerprint().to_string();
    Ok(Recognised { fingerprint, sentence: "these are the words of this stack" })
}

/// `seed restore`.
pub(crate) fn restore(context: &Context, args: &PassphraseArgs) -> Result<Recognised, Failure> {
    let declared = Declared::load_or_write(context)?;
    let seed = read_words(context)?;
    let passphrase = secrets::new_passphrase(context, args.passphrase_file.as_deref())?;
    sovereign_engine::state::prepare(&declared.state, &declared.stack.name, env!("CARGO_PKG_VERSION"))?;
    secrets::seed_file(&declared.stack, &declared.state).restore(&seed, passphrase.as_ref())?;
    let fingerprint = seed.fingerprint(&declared.stack.name);
    secrets::note_words_seen(&declared.state, &fingerprint)?;
    let fingerprint = fingerprint.to_string();
    Ok(Recognised { fingerprint, sentence: "the root seed is back; `sovereign up` derives everything from it" })
}

/// Standard input ended badly.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the words")]
struct Unreadable(#[source] io::Error);

impl Reason for Unreadable {}

/// The words, from the terminal or a pipe.
///
/// # Errors
/// When they are no root seed.
pub(super) fn read_words(context: &Context) -> Result<RootSeed, Failure> {
    let text = if io::stdin().is_terminal() {
        context.output.ask_secret("The 24 words, in order (they are not shown): ", "pipe them in")?
    } else {
        let mut text = Zeroizing::new(String::with_capacity(LONGEST_INPUT as usize));
        io::stdin().lock().take(LONGEST_INPUT).read_to_string(&mut text).map_err(Unreadable)?;
        text
    };
    Ok(RootSeed::parse(&text).map_err(SeedError::Words)?)
}
