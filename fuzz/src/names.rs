//! What name servers say.

use sovereign_model::dns_message::{Answer, Question};

/// Whatever a server answers, it is text without anything that steers a terminal, and as long as it may be.
pub(crate) fn answer(data: &[u8]) {
    let question = Question::new("example.org", "MX").expect("a name and a type");
    let read = [Answer::read(data, 7, &question), Answer::read_further(data, 7, &question)];
    for answer in read.into_iter().flatten() {
        for record in answer.answer.iter().chain(&answer.authority).chain(&answer.additional) {
            let text = record.to_string();
            assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
            assert!(!record.owner.contains(char::is_uppercase), "{text:?}");
        }
    }
}
