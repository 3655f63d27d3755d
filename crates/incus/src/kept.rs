//! What is read to be changed and put back, with everything in it that this client does not know.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Something of the server's as it was read. Change its fields and give it to the `update_...` of its kind: fields that
/// are not among them go back as they came, and when somebody else changed it in between, that is an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<T> {
    /// The fields that are used here.
    pub value: T,
    all: Map<String, Value>,
    etag: Option<String>,
}

impl<T: DeserializeOwned + Serialize> Kept<T> {
    pub(crate) fn parse(value: Value, etag: Option<String>) -> Result<Self, String> {
        let Value::Object(all) = value else { return Err("it is not an object".to_owned()) };
        let value = crate::answer::typed(Value::Object(all.clone()))?;
        Ok(Self { value, all, etag })
    }

    /// What is put back: all fields as they came, ours written over them.
    ///
    /// # Panics
    /// Never: the types of this crate are objects in JSON.
    pub(crate) fn to_body(&self) -> Value {
        let value = serde_json::to_value(&self.value).expect("types of this crate serialize to JSON");
        let mut all = self.all.clone();
        if let Value::Object(ours) = value {
            all.extend(ours);
        }
        Value::Object(all)
    }

    pub(crate) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::instance::Instance;

    #[test]
    fn unknown_fields_survive_and_ours_are_written_over() {
        let came = json!({"name": "c", "status": "Running", "config": {"a": "1"}, "invented_later": {"x": [1, 2]}});
        let mut kept = Kept::<Instance>::parse(came, Some("e1".to_owned())).unwrap();
        kept.value.config.insert("b".to_owned(), "2".to_owned());
        let body = kept.to_body();
        assert_eq!(body["invented_later"], json!({"x": [1, 2]}));
        assert_eq!(body["config"], json!({"a": "1", "b": "2"}));
        assert_eq!(kept.etag(), Some("e1"));
    }

    #[test]
    fn what_go_writes_as_null_is_empty() {
        let kept = Kept::<Instance>::parse(json!({"name": "c", "status": "", "config": null, "devices": null}), None);
        assert!(kept.unwrap().value.config.is_empty());
    }

    proptest! {
        #[test]
        fn other_keys_go_back_as_they_came(others: std::collections::BTreeMap<String, String>) {
            let mut all = json!({"name": "c", "status": "Running"});
            for (key, value) in &others {
                all[format!("x-{key}")] = json!(value);
            }
            let body = Kept::<Instance>::parse(all, None).unwrap().to_body();
            for (key, value) in &others {
                prop_assert_eq!(&body[&format!("x-{key}")], &json!(value));
            }
        }
    }
}
