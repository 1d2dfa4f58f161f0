//! New values in a payload of which every other byte stays as it is.

use std::collections::BTreeMap;

use crate::domain::payload::error::PayloadError;
use crate::domain::payload::object::Object;
use crate::domain::quoted::Quoted;
use crate::domain::value::{Buffer, Value};

/// Why new values cannot be put into a payload. Carries nothing of the payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// The payload is a `SecretBinary`.
    #[error("the secret holds binary data, and a value can only be made in a JSON text; store the secret as text")]
    Binary,
    /// The payload is no JSON object.
    #[error("the secret holds no JSON object: {0}; correct it, since a value can only be made under a key of one")]
    NoObject(#[from] PayloadError),
    /// A key is not there.
    #[error("the secret has no top-level key {}; add it with any text", Quoted(.0))]
    Absent(String),
    /// The value under a key is no text.
    #[error("the key {} of the secret holds no text; put its value into double quotes", Quoted(.0))]
    NoText(String),
    /// A value is no text.
    #[error("the new value of the key {} is no text", Quoted(.0))]
    NewIsNoText(String),
}

/// The text values under these top-level keys, in the order of `keys`.
pub(super) fn texts<'k>(
    object: Object<'_>,
    keys: impl IntoIterator<Item = &'k str>,
) -> Result<Vec<Value>, SpliceError> {
    keys.into_iter()
        .map(|key| match object.field(key).filter(|field| field.key() == key) {
            None => Err(SpliceError::Absent(key.to_owned())),
            Some(field) if field.inside().is_none() => Err(SpliceError::NoText(key.to_owned())),
            Some(field) => field.value().ok_or_else(|| SpliceError::NoText(key.to_owned())),
        })
        .collect()
}

/// The bytes of a payload with other texts under these top-level keys of its object.
pub(super) fn splice(bytes: &[u8], object: Object<'_>, new: &BTreeMap<&str, Value>) -> Result<Value, SpliceError> {
    texts(object, new.keys().copied())?;
    let mut replacements = Vec::with_capacity(new.len());
    for (key, value) in new {
        let text = std::str::from_utf8(value.expose()).map_err(|_| SpliceError::NewIsNoText((*key).to_owned()))?;
        let inside = object.field(key).and_then(|field| field.inside());
        replacements.push((inside.ok_or_else(|| SpliceError::NoText((*key).to_owned()))?, text));
    }
    replacements.sort_by_key(|(inside, _)| inside.start);
    // The object's text begins behind a byte order mark.
    let skipped = bytes.len() - object.text.len();
    let grown: usize = replacements.iter().map(|(_, text)| text.len()).sum();
    let mut spliced = Buffer::with_capacity(bytes.len() + grown);
    let mut at = 0;
    for (inside, text) in replacements {
        spliced.extend(&bytes[at..skipped + inside.start]);
        escape(text, &mut spliced);
        at = skipped + inside.end;
    }
    spliced.extend(&bytes[at..]);
    Ok(spliced.into())
}

/// The inside of a JSON string ([RFC 8259 §7](https://www.rfc-editor.org/rfc/rfc8259#section-7)).
fn escape(text: &str, into: &mut Buffer) {
    for c in text.chars() {
        match c {
            '"' => into.extend(b"\\\""),
            '\\' => into.extend(b"\\\\"),
            c if u32::from(c) < 0x20 => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let code = u32::from(c) as usize;
                into.extend(&[b'\\', b'u', b'0', b'0', DIGITS[code >> 4], DIGITS[code & 15]]);
            }
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use super::*;
    use crate::domain::payload::Payload;

    fn spliced(text: &str, new: &[(&str, &str)]) -> Result<String, SpliceError> {
        let new = new.iter().map(|(key, value)| (*key, Value::from(*value))).collect();
        let value = Payload::text(text.to_owned()).splice(&new)?;
        Ok(String::from_utf8(value.expose().to_vec()).unwrap())
    }

    #[test]
    fn only_what_stands_between_the_quotes_changes() {
        let text = "\u{feff}{\r\n\t\"a\" : \"old\\n\", \"b\":{\"a\":\"deep\"},\"\\u0063\": \"x\"\n} ";
        let after = "\u{feff}{\r\n\t\"a\" : \"n\\\"ew\", \"b\":{\"a\":\"deep\"},\"\\u0063\": \"y\\\\\"\n} ";
        assert_eq!(spliced(text, &[("c", "y\\"), ("a", "n\"ew")]).unwrap(), after);
        assert_eq!(spliced(text, &[]).unwrap(), text);
    }

    #[test]
    fn what_is_no_text_of_a_top_level_key_is_refused_without_a_word_of_the_payload() {
        for (text, key, said) in [
            (r#"{"b":"hunter2"}"#, "a", "no top-level key"),
            (r#"{"b":{"a":"hunter2"}}"#, "/b/a", "no top-level key"),
            (r#"{"a":7}"#, "a", "holds no text"),
            (r#"{"a":null}"#, "a", "holds no text"),
            (r#"{"a":["hunter2"]}"#, "a", "holds no text"),
            (r#"{"a":"1","a":"2"}"#, "a", "same key twice"),
            ("hunter2", "a", "plain text"),
        ] {
            let error = spliced(text, &[(key, "new")]).unwrap_err();
            assert!(error.to_string().contains(said), "{text}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let binary = Payload::binary(br#"{"a":"1"}"#.to_vec());
        assert_eq!(binary.splice(&BTreeMap::from([("a", Value::from("x"))])).unwrap_err(), SpliceError::Binary);
        assert_eq!(spliced(r#"{"/a":"1"}"#, &[("/a", "2")]).unwrap(), r#"{"/a":"2"}"#);
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            ".{0,8}".prop_map(Json::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[abk\"\\\\é]{0,3}", inner, 0..4)
                    .prop_map(|map| Json::Object(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The text of a value with white space of all kinds and escapes where they are possible.
    fn written(value: &Json, space: &str, escaped: bool) -> String {
        let string = |text: &str| {
            if escaped {
                let units = text.encode_utf16().fold(String::new(), |all, unit| all + &format!("\\u{unit:04x}"));
                format!("\"{units}\"")
            } else {
                Json::from(text).to_string()
            }
        };
        match value {
            Json::String(text) => string(text),
            Json::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| written(item, space, escaped)).collect();
                format!("[{space}{}{space}]", items.join(&format!("{space},{space}")))
            }
            Json::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(key, value)| format!("{}{space}:{space}{}", string(key), written(value, space, escaped)))
                    .collect();
                format!("{{{space}{}{space}}}", members.join(&format!("{space},{space}")))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn the_new_text_is_there_and_the_rest_is_as_it_was(
            mut object in prop::collection::btree_map("[abk\"\\\\é]{0,3}", json(), 0..5),
            deep in json(), new in ".{0,12}", escaped in any::<bool>(),
            space in prop_oneof![Just(""), Just(" "), Just("\r\n\t ")],
        ) {
            object.insert("deep".to_owned(), json!({"key": "k", "more": [{"key": "k"}, deep]}));
            let before: Map<String, Json> = object.clone().into_iter().chain([("key".to_owned(), json!("@@old@@"))]).collect();
            let text = written(&Json::Object(before), space, escaped);
            let result = spliced(&text, &[("key", &new)]).unwrap();
            let old = if escaped { "\\u0040\\u0040\\u006f\\u006c\\u0064\\u0040\\u0040" } else { "@@old@@" };
            let (head, tail) = text.split_once(old).unwrap();
            let middle = result.strip_prefix(head).unwrap().strip_suffix(tail).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{middle}\"")).unwrap(), new.clone());
            let after: Json = serde_json::from_str(&result).unwrap();
            let expected: Map<String, Json> = object.into_iter().chain([("key".to_owned(), Json::from(new))]).collect();
            prop_assert_eq!(after, Json::Object(expected));
        }
    }
}
