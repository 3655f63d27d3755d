//! What a server says in JSON: the envelope of every answer, parsed as a stranger's words.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An answer, by its own word. The HTTP status is no guide: a request that was waited for may fail under a 200.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Done; this is it.
    Sync(Value),
    /// Begun: an operation, as it was when it began.
    Async(Operation),
    /// Refused.
    Error { status: u16, message: String },
}

/// How a server's messages are shown: no longer than this, on one line.
const LONGEST_MESSAGE: usize = 2000;

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Sync,
    Async,
    Error,
}

impl Answer {
    /// Parses an answer.
    ///
    /// # Errors
    /// In words, when it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Envelope { kind, error, error_code, metadata } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(match kind {
            Kind::Sync => Self::Sync(metadata),
            Kind::Async => Self::Async(typed(metadata)?),
            Kind::Error => Self::Error { status: error_code, message: one_line(&error) },
        })
    }
}

/// What the server works on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Operation {
    pub(crate) id: String,
    /// `task`, `websocket` or `token`.
    #[serde(default)]
    pub(crate) class: String,
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) status_code: u16,
    #[serde(default)]
    pub(crate) may_cancel: bool,
    #[serde(default)]
    pub(crate) err: String,
    /// What it made.
    #[serde(default)]
    pub(crate) metadata: Value,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Going,
    Done,
    Failed,
}

impl Operation {
    /// By the status codes of the API: 200 succeeded, 400 and 401 failed and cancelled; what is below is on its way.
    pub(crate) const fn state(&self) -> State {
        match self.status_code {
            200 => State::Done,
            ..200 => State::Going,
            _ => State::Failed,
        }
    }

    /// What it does, in the server's words.
    pub(crate) fn what(&self) -> String {
        if self.description.is_empty() { "the operation".to_owned() } else { one_line(&self.description) }
    }

    /// Why it failed, in the server's words.
    pub(crate) fn why(&self) -> String {
        match self.status_code {
            401 if self.err.is_empty() => "it was cancelled".to_owned(),
            _ if self.err.is_empty() => "the server does not say why".to_owned(),
            _ => one_line(&self.err),
        }
    }
}

/// A value as one of our types.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// For fields that Go writes as `null` when they are empty.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_answer_is_read() {
        let sync = br#"{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":{"a":1}}"#;
        assert_eq!(Answer::parse(sync), Ok(Answer::Sync(serde_json::json!({"a": 1}))));

        let begun = br#"{"type":"async","status":"Operation created","status_code":100,"operation":"/1.0/operations/1f?project=p",
            "metadata":{"id":"1f","class":"task","description":"Creating instance","status":"Running","status_code":103,"may_cancel":false,"err":"","metadata":null}}"#;
        let Ok(Answer::Async(operation)) = Answer::parse(begun) else { panic!("it is an operation") };
        assert_eq!((operation.id.as_str(), operation.state()), ("1f", State::Going));

        let refused = br#"{"type":"error","status":"","status_code":0,"operation":"","error_code":404,"error":"Instance\nnot found","metadata":null}"#;
        let message = "Instance not found".to_owned();
        assert_eq!(Answer::parse(refused), Ok(Answer::Error { status: 404, message }));
    }

    #[test]
    fn codes_tell_how_far_an_operation_is() {
        let at = |status_code| Operation {
            id: String::new(),
            class: String::new(),
            description: String::new(),
            status_code,
            may_cancel: false,
            err: String::new(),
            metadata: Value::Null,
        };
        for (code, state) in [(103, State::Going), (105, State::Going), (200, State::Done), (400, State::Failed)] {
            assert_eq!(at(code).state(), state);
        }
        assert_eq!(at(401).why(), "it was cancelled");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for strange in ["", "{}", "[]", "null", r#"{"type":"other"}"#, r#"{"type":"async","metadata":{}}"#] {
            assert!(Answer::parse(strange.as_bytes()).is_err(), "{strange}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_looked_at(bytes: Vec<u8>) {
            let _ = Answer::parse(&bytes);
        }

        #[test]
        fn so_can_any_json_in_the_shape_of_an_answer(kind in "sync|async|error", metadata in json(), error in json()) {
            let text = serde_json::json!({"type": kind, "metadata": metadata, "error": error, "error_code": error}).to_string();
            if let Ok(Answer::Async(operation)) = Answer::parse(text.as_bytes()) {
                let _ = (operation.state(), operation.what(), operation.why());
            }
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        let keys = prop_oneof![Just("id".to_owned()), Just("status_code".to_owned()), Just("err".to_owned()), ".*"];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
