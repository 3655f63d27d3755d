//! The pages and schemas that are made from the format agree with it, and with what is committed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::path::Path;

use serde_json::{Value, json};
use sovereign_model::file::{default_file, json_schema, reference_markdown};

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stack-file.md");
    let page = reference_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == page,
        "docs/stack-file.md drifted from the format: UPDATE_DOCS=1 cargo test -p sovereign-model reference"
    );
}

#[test]
fn the_default_file_fits_the_schema() {
    let file: Value = toml::from_str(default_file()).unwrap();
    assert_eq!(misfits(&json_schema(), &file, "file"), Vec::<String>::new());
}

#[test]
fn the_schema_refuses_what_the_parser_refuses() {
    let fit = || toml::from_str::<Value>(default_file()).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut file = fit();
        change(&mut file);
        misfits(&json_schema(), &file, "file")
    };
    assert_eq!(refused(&|file| file["colour"] = json!("red")), ["file: unknown key colour"]);
    assert_eq!(refused(&|file| drop(file["stack"].as_object_mut().unwrap().remove("name"))), ["file.stack: no name"]);
    assert_eq!(refused(&|file| file["version"] = json!(2)), ["file.version: 2 > 1"]);
    assert_eq!(
        refused(&|file| file["site"][0]["app"] = json!("wordpress")),
        ["file.site[0].app: not one of the words"]
    );
    assert_eq!(refused(&|file| file["datacenter"] = json!([])), ["file.datacenter: too few"]);
    assert_eq!(refused(&|file| file["site"][0]["names"] = json!("a")), ["file.site[0].names: not an array"]);
}

#[test]
fn the_schema_is_closed_everywhere() {
    fn walk(schema: &Value, path: &str) {
        if schema["type"] == "object" {
            assert_eq!(schema["additionalProperties"], json!(false), "{path}");
            for (key, below) in schema["properties"].as_object().unwrap() {
                assert!(below["description"].is_string(), "{path}.{key} is described");
                walk(below, &format!("{path}.{key}"));
            }
        }
        if schema["type"] == "array" {
            walk(&schema["items"], path);
        }
    }
    walk(&json_schema(), "file");
}

/// As much of JSON Schema as ours uses, patterns and formats left out.
fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    match schema["type"].as_str().unwrap() {
        "object" => {
            let Some(object) = value.as_object() else { return vec![format!("{path}: not an object")] };
            for required in schema["required"].as_array().unwrap() {
                let key = required.as_str().unwrap();
                if !object.contains_key(key) {
                    found.push(format!("{path}: no {key}"));
                }
            }
            for (key, value) in object {
                match schema["properties"].get(key) {
                    Some(below) => found.extend(misfits(below, value, &format!("{path}.{key}"))),
                    None => found.push(format!("{path}: unknown key {key}")),
                }
            }
        }
        "array" => {
            let Some(items) = value.as_array() else { return vec![format!("{path}: not an array")] };
            if (items.len() as u64) < schema["minItems"].as_u64().unwrap_or(0) {
                found.push(format!("{path}: too few"));
            }
            for (index, item) in items.iter().enumerate() {
                found.extend(misfits(&schema["items"], item, &format!("{path}[{index}]")));
            }
        }
        "string" => {
            if !value.is_string() {
                found.push(format!("{path}: not a string"));
            } else if schema.get("enum").is_some_and(|words| !words.as_array().unwrap().contains(value)) {
                found.push(format!("{path}: not one of the words"));
            }
        }
        "integer" | "number" => match value.as_f64() {
            None => found.push(format!("{path}: not a number")),
            Some(number) if number < schema["minimum"].as_f64().unwrap() => {
                found.push(format!("{path}: {value} < {}", schema["minimum"]));
            }
            Some(number) if number > schema["maximum"].as_f64().unwrap() => {
                found.push(format!("{path}: {value} > {}", schema["maximum"]));
            }
            Some(_) => {}
        },
        "boolean" => {
            if !value.is_boolean() {
                found.push(format!("{path}: not a boolean"));
            }
        }
        other => found.push(format!("{path}: this test does not know the type {other}")),
    }
    found
}
