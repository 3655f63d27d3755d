//! What name servers say, and whoever is asked on their behalf.

use http::{HeaderMap, HeaderValue};
use sovereign_dns::probe;
use sovereign_dns::trial::judge_head;
use sovereign_model::agent_config::LEARNED_FIELD;
use sovereign_model::dns_message::{Answer, Question};
use sovereign_model::trial::Heard;

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

/// Wherever an edge says that others are, a field a line, what is read of it would be told in the same words.
pub(crate) fn learned(data: &[u8]) {
    let mut fields = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append(LEARNED_FIELD, value);
        }
    }
    let read = probe::learned(&fields);
    assert!(read.len() <= fields.len());
    for (datacenter, address) in &read {
        let told = HeaderValue::try_from(format!("{datacenter} {address}")).expect("visible ASCII");
        assert!(
            probe::learned(&HeaderMap::from_iter([(http::HeaderName::from_static(LEARNED_FIELD), told)]))
                .contains(&(datacenter.clone(), *address))
        );
    }
}

/// Whatever is said over plain HTTP, one line of text is made of it.
pub(crate) fn trial_head(data: &[u8]) {
    match judge_head(data) {
        Heard::Ours => assert!(data.starts_with(b"HTTP/1.")),
        Heard::Other(says) => assert!(!says.chars().any(char::is_control), "{says:?}"),
        heard => panic!("{heard:?} is not heard of an answer"),
    }
}
