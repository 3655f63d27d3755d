//! The stack file's JSON Schema (draft 2020-12), for editors.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::format::{FILE, Key, Kind, Presence, Section};

/// The schema of the whole file. Keys that the format does not have are denied everywhere.
pub fn json_schema() -> Value {
    let mut schema = section(&FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Sovereign stack file");
    schema
}

fn section(section: &Section) -> Value {
    let properties: Map<String, Value> = section.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        section.keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "description": section.about,
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Integer { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Number { least, most } => json!({ "type": "number", "minimum": least, "maximum": most }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Text(form) => text(form),
        Kind::Texts(form) => json!({ "type": "array", "items": text(form), "uniqueItems": true }),
        Kind::Words(words) => {
            let usable: Vec<&str> = words.iter().filter(|word| word.instead.is_none()).map(|word| word.text).collect();
            json!({ "type": "string", "enum": usable })
        }
        Kind::Section(of) => section(of),
        Kind::Sections { of, least } => json!({ "type": "array", "items": section(of), "minItems": least }),
    };
    schema["description"] = json!(key.about);
    if let Presence::Default(written) = key.presence {
        schema["default"] = from_toml(written);
    }
    schema
}

fn text(form: Form) -> Value {
    match form {
        Form::Address => json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] }),
        Form::Socket => json!({ "type": "string", "pattern": "^(\\[[0-9A-Fa-f:.]+\\]|[0-9.]+):[0-9]{1,5}$" }),
        Form::UplinkAddress => {
            json!({ "type": "string", "anyOf": [{ "const": "dynamic" }, { "format": "ipv4" }, { "format": "ipv6" }] })
        }
        _ => match form.pattern() {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        },
    }
}

/// A default as JSON.
fn from_toml(written: &str) -> Value {
    let table: Map<String, Value> =
        toml::from_str(&format!("value = {written}")).expect("the defaults of the format are TOML");
    table["value"].clone()
}
