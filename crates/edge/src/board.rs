//! Words of those who renew certificates, carried from edge to edge: what one says at its edge is heard beside all others.
//!
//! Promise: what is carried was said by whom it says, and of each only its latest word; an edge that was taken over can hold
//! words back and cannot make any up. Kept in memory alone: who said a thing says it again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sovereign_model::renewer_word::{LONGEST_WORD, Word};
use sovereign_model::{EdgeName, StackName};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::signed::{is_attested, parse_trust};

/// The latest word of each.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<EdgeName, Word>>);

impl Board {
    fn words(&self) -> MutexGuard<'_, BTreeMap<EdgeName, Word>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a word, if it holds and is later than what is here; whether it was taken.
    pub(crate) fn take(&self, word: Word, stack: &StackName, trust: &VerifyingKey) -> bool {
        let is_later =
            |words: &BTreeMap<EdgeName, Word>| words.get(&word.by).is_none_or(|before| before.number < word.number);
        // Signatures are looked at without keeping others waiting.
        if !is_later(&self.words()) || !is_short(&word) || !holds(&word, stack, trust) {
            return false;
        }
        let mut words = self.words();
        let taken = is_later(&words);
        if taken {
            words.insert(word.by.clone(), word);
        }
        taken
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Word> {
        self.words().values().cloned().collect()
    }

    /// Of each the number of its latest word.
    pub(crate) fn known(&self) -> BTreeMap<EdgeName, u64> {
        self.words().iter().map(|(by, word)| (by.clone(), word.number)).collect()
    }

    /// Those that are later than what is known elsewhere.
    pub(crate) fn later_than(&self, known: &BTreeMap<EdgeName, u64>) -> Vec<Word> {
        let is_later = |word: &&Word| known.get(&word.by).is_none_or(|number| *number < word.number);
        self.words().values().filter(is_later).cloned().collect()
    }
}

fn is_short(word: &Word) -> bool {
    let texts =
        word.challenges.iter().map(|(name, texts)| name.as_str().len() + texts.iter().map(String::len).sum::<usize>());
    texts.sum::<usize>() <= LONGEST_WORD
}

fn holds(word: &Word, stack: &StackName, trust: &VerifyingKey) -> bool {
    let is_signed = |key: &str, statement: &[u8], signature: &str| {
        parse_trust(key).is_ok_and(|key| is_attested(&key, statement, signature))
    };
    word.holds(stack, &hex::encode(trust.as_bytes()), is_signed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sovereign_model::renewer_word::warrant_statement;
    use sovereign_runtime::SigningKey;
    use sovereign_runtime::signed::attest;

    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes(&[byte; 32])
    }

    /// A word of `home/atlas`, whose key `by` was vouched for with `operator`.
    fn word(operator: &SigningKey, by: &SigningKey, number: u64, text: &str) -> Word {
        let stack: StackName = "lab".parse().unwrap();
        let (name, public): (EdgeName, _) = ("home/atlas".parse().unwrap(), hex::encode(by.verifying_key().as_bytes()));
        let mut word = Word {
            warrant: attest(operator, &warrant_statement(&stack, &name, &public)),
            by: name,
            key: public,
            number,
            challenges: BTreeMap::from([("www.example.org".parse().unwrap(), BTreeSet::from([text.to_owned()]))]),
            signature: String::new(),
        };
        word.signature = attest(by, &word.statement(&stack));
        word
    }

    #[test]
    fn the_latest_word_of_each_is_carried_and_none_that_somebody_else_made_up() {
        let (operator, renewer, board) = (key(7), key(8), Board::default());
        let (stack, trust) = ("lab".parse().unwrap(), operator.verifying_key());
        let take = |word: &Word| board.take(word.clone(), &stack, &trust);
        let first = word(&operator, &renewer, 1, "a");
        assert!(take(&first) && !take(&first), "once");
        let made_up = [
            word(&renewer, &renewer, 2, "b"),
            word(&key(9), &renewer, 2, "b"),
            Word { signature: attest(&operator, b"b"), ..word(&operator, &renewer, 2, "b") },
            Word { number: 2, ..first.clone() },
            Word { by: "office".parse().unwrap(), ..first.clone() },
            word(&operator, &renewer, 2, &"b".repeat(LONGEST_WORD)),
        ];
        assert!(made_up.iter().all(|word| !take(word)));
        let later = word(&operator, &renewer, 3, "c");
        assert!(take(&later) && !take(&word(&operator, &renewer, 2, "b")), "what is older comes too late");
        assert_eq!(board.all(), std::slice::from_ref(&later));
        assert_eq!(board.later_than(&BTreeMap::new()), [later]);
        assert!(board.later_than(&board.known()).is_empty());
    }
}
