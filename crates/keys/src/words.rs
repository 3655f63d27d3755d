//! 24 words as a person types them, and what is wrong with them in terms a person can act on.

use std::fmt;

use bip39::{Language, Mnemonic};

/// The number of words for 256 bits (BIP-39).
pub(crate) const WORDS: usize = 24;

/// A word that is not in the list.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// Which one, counted from 1.
    pub position: usize,
    /// The word of the list that is most like it. As secret as the words themselves: shown to the operator in help,
    /// never in logs.
    pub nearest: Option<&'static str>,
}

impl fmt::Debug for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnknownWord(position {})", self.position)
    }
}

/// Why words are not a root seed. The words themselves are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Too few or too many.
    #[error("{found} words were given; a root seed has {WORDS}")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// Some words are not in the list.
    #[error("{}", not_in_the_list(words))]
    Unknown {
        /// All of them, in order.
        words: Vec<UnknownWord>,
    },
    /// Every word is in the list, but together they are not what was written down.
    #[error("the checksum of the words is wrong")]
    Checksum,
}

fn not_in_the_list(words: &[UnknownWord]) -> String {
    let positions: Vec<String> = words.iter().map(|word| word.position.to_string()).collect();
    match positions.as_slice() {
        [one] => format!("word {one} is not in the BIP-39 English list"),
        all => format!("words {} are not in the BIP-39 English list", all.join(", ")),
    }
}

impl WordsError {
    /// What the operator can do about it. May contain words of the seed: for the terminal, not for logs.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Count { .. } => Some("give all 24 words in order, with spaces or line ends between them".into()),
            Self::Unknown { words } => {
                let guesses: Vec<String> = words
                    .iter()
                    .filter_map(|word| {
                        word.nearest.map(|nearest| format!("word {}: did you mean {nearest:?}?", word.position))
                    })
                    .collect();
                if guesses.is_empty() { None } else { Some(guesses.join(" ")) }
            }
            Self::Checksum => Some(
                "one word is another word of the list, or two are swapped: compare with what was written down".into(),
            ),
        }
    }
}

/// Reads 24 words in any case, separated by any white space, with or without numbers before them ("1. abandon").
pub(crate) fn parse(text: &str) -> Result<Mnemonic, WordsError> {
    let words: Vec<String> =
        text.split_whitespace().map(bare).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    if words.len() != WORDS {
        return Err(WordsError::Count { found: words.len() });
    }
    let unknown: Vec<UnknownWord> = (1..)
        .zip(&words)
        .filter(|(_, word)| Language::English.find_word(word).is_none())
        .map(|(position, word)| UnknownWord { position, nearest: nearest(word) })
        .collect();
    if !unknown.is_empty() {
        return Err(WordsError::Unknown { words: unknown });
    }
    Mnemonic::parse_in_normalized(Language::English, &words.join(" ")).map_err(|_| WordsError::Checksum)
}

/// The word without numbers and punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphabetic())
}

/// The word of the list that was probably meant. Four letters are enough to tell the words of the list apart (BIP-39),
/// so a word that begins right is taken by its beginning.
fn nearest(word: &str) -> Option<&'static str> {
    let list = Language::English.word_list();
    let begins_like = |candidate: &&&'static str| word.len() >= 4 && word.get(..4) == candidate.get(..4);
    if let Some(found) = list.iter().find(begins_like) {
        return Some(found);
    }
    let likeness = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    list.iter()
        .map(|candidate| (likeness(candidate), *candidate))
        .min()
        .filter(|(edits, _)| *edits <= 2)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// BIP-39's own test vector for 256 zero bits.
    const ZERO: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

    #[test]
    fn words_are_read_as_people_write_them() {
        let plain = parse(ZERO).unwrap();
        let numbered: Vec<String> =
            (1..).zip(ZERO.split_whitespace()).map(|(n, word)| format!("{n:>2}. {}\n", word.to_uppercase())).collect();
        assert_eq!(parse(&numbered.concat()).unwrap(), plain);
    }

    #[test]
    fn a_wrong_word_is_named_by_position_and_the_nearest_is_offered() {
        let error = parse(&ZERO.replace(" art", " artt").replacen("abandon", "abandn", 1)).unwrap_err();
        assert_eq!(error.to_string(), "words 1, 24 are not in the BIP-39 English list");
        assert_eq!(error.help().unwrap(), r#"word 1: did you mean "abandon"? word 24: did you mean "art"?"#);
        assert!(!format!("{error:?}").contains("abandon"), "{error:?}");
    }

    #[test]
    fn count_and_checksum_are_told_apart() {
        assert_eq!(parse("abandon art"), Err(WordsError::Count { found: 2 }));
        assert_eq!(parse(&ZERO.replace("art", "zoo")), Err(WordsError::Checksum));
    }

    proptest! {
        // Each case compares 24 words with all 2048 of the list.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn anything_typed_is_answered(text in "\\PC{0,300}", some in proptest::collection::vec("[a-zà-ü]{1,9}", 24)) {
            let _ = parse(&text);
            if let Err(error) = parse(&some.join(" ")) {
                let _ = (error.to_string(), error.help());
            }
        }
    }
}
