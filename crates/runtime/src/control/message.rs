//! Requests and responses as bytes: pure, and safe to feed with anything.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PROTOCOL;
use crate::signed::accepts;

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The command's name.
    pub command: String,
    /// What belongs to it, by name. Never `protocol` or `command`.
    pub fields: Map<String, Value>,
}

impl Request {
    /// The command without anything else.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), fields: Map::new() }
    }

    /// The same with one more field.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Reads the field `name`; a missing one reads like JSON's `null`.
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Result<T, Refusal> {
        let value = self.fields.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value)
            .map_err(|error| Refusal::new(format!("field {name:?} of command {:?}: {error}", self.command)))
    }

    /// The refusal of a command that the daemon does not have.
    pub fn unknown(&self) -> Refusal {
        Refusal::new(format!("there is no command {:?}", self.command))
    }

    /// The line to send, with its line feed.
    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut all = self.fields.clone();
        all.insert("protocol".into(), PROTOCOL.into());
        all.insert("command".into(), self.command.clone().into());
        line_of(&Value::Object(all))
    }

    /// Reads a request's line.
    ///
    /// # Errors
    /// What the daemon answers instead: the line is not a request, or one of a protocol that is not spoken.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else {
            return Err(Refusal::new("a request is one JSON object on one line"));
        };
        // The protocol comes first: in one we do not speak, nothing else need be as we think.
        let protocol = fields.remove("protocol").as_ref().and_then(Value::as_u64).unwrap_or(0);
        if !u32::try_from(protocol).is_ok_and(|protocol| accepts(PROTOCOL, protocol)) {
            return Err(unspoken(protocol));
        }
        match fields.remove("command") {
            Some(Value::String(command)) => Ok(Self { command, fields }),
            _ => Err(Refusal::new("a request names its \"command\"")),
        }
    }
}

fn unspoken(protocol: u64) -> Refusal {
    let refusal = Refusal::new(format!("protocol {protocol} was asked, this daemon speaks {PROTOCOL}"));
    if protocol > PROTOCOL.into() {
        refusal.help("the daemon is older than the command line: `sovereign up` brings it along")
    } else {
        refusal.help("the daemon is newer than the command line: use the `sovereign` that last ran `up`")
    }
}

/// A daemon's no, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What the operator can do about it.
    pub help: Option<String>,
}

impl Refusal {
    /// A no without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// The same with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A no that carries an error with all its causes.
    pub fn because(error: &dyn std::error::Error, help: Option<String>) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self { message, help }
    }
}

/// A response, as sent.
pub(super) fn response_line(answer: Result<Value, Refusal>) -> Vec<u8> {
    line_of(&match answer {
        Ok(value) => serde_json::json!({"protocol": PROTOCOL, "ok": value}),
        Err(Refusal { message, help }) => {
            serde_json::json!({"protocol": PROTOCOL, "error": {"message": message, "help": help}})
        }
    })
}

/// Reads a response's line; `None` when it is none. Of any protocol: `ok` and `error` stay what they are, so that a
/// newer daemon can still tell an older command line why it is refused.
pub fn parse_response(line: &[u8]) -> Option<Result<Value, Refusal>> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else { return None };
    fields.get("protocol").filter(|protocol| protocol.is_u64())?;
    match (fields.remove("ok"), fields.remove("error")) {
        (Some(value), None) => Some(Ok(value)),
        (None, Some(error)) => serde_json::from_value(error).ok().map(Err),
        _ => None,
    }
}

fn line_of(value: &Value) -> Vec<u8> {
    // JSON escapes line feeds inside texts, so that the only one is the line's end.
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<Request, Refusal> {
        Request::parse(value.to_string().as_bytes())
    }

    #[test]
    fn only_our_protocol_is_answered_and_help_says_who_is_older() {
        assert_eq!(parse(&json!({"protocol": 1, "command": "status"})), Ok(Request::new("status")));
        let newer = parse(&json!({"protocol": 2, "command": "status"})).unwrap_err();
        assert_eq!(newer.message, "protocol 2 was asked, this daemon speaks 1");
        assert!(newer.help.unwrap().contains("daemon is older"));
        for wrong in [json!(0), json!("1"), json!(1.5), json!(u64::MAX), Value::Null] {
            assert!(parse(&json!({"protocol": wrong, "command": "status"})).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_are_read_with_types() {
        let request = parse(&json!({"protocol": 1, "command": "stop", "unit": "edge@home"})).unwrap();
        assert_eq!(request.field::<String>("unit"), Ok("edge@home".to_owned()));
        assert_eq!(request.field::<Option<u32>>("grace"), Ok(None));
        assert!(request.field::<u32>("unit").unwrap_err().message.contains("\"unit\" of command \"stop\""));
    }

    #[test]
    fn a_refusal_carries_all_causes() {
        let error = crate::file::FileError { path: "/a".into(), source: std::io::Error::other("no space") };
        assert_eq!(Refusal::because(&error, None).message, "cannot write /a: no space");
    }

    proptest! {
        #[test]
        fn garbage_is_answered_and_never_panics(line: Vec<u8>, text in ".{0,80}") {
            prop_assert!(Request::parse(&line).is_err());
            let _ = Request::parse(text.as_bytes());
            let _ = parse_response(&line);
            let _ = parse_response(text.as_bytes());
        }

        #[test]
        fn almost_requests_never_panic(protocol in "[-0-9.eE\"]{0,5}", command in "[\\[\\]{}\",:a-z0-9]{0,12}") {
            let _ = Request::parse(format!("{{\"protocol\":{protocol},\"command\":{command}}}").as_bytes());
            let _ = parse_response(format!("{{\"protocol\":{protocol},\"ok\":{command}}}").as_bytes());
        }

        #[test]
        fn a_request_survives_the_line(command in ".{0,20}", name in "[a-z]{1,6}x", text in ".{0,40}") {
            let request = Request::new(command).with(&name, text);
            let line = request.to_line();
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(Request::parse(&line), Ok(request));
        }

        #[test]
        fn an_answer_survives_the_line(message in ".{0,40}", help in proptest::option::of(".{0,40}"), ok: bool) {
            let answer = if ok { Ok(Value::from(message)) } else { Err(Refusal { message, help }) };
            prop_assert_eq!(parse_response(&response_line(answer.clone())), Some(answer));
        }
    }
}
