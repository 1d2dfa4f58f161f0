//! The JSON object of a payload, read by key.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use crate::domain::alike::alike;
use crate::domain::payload::absence::Absence;
use crate::domain::payload::error::PayloadError;
use crate::domain::payload::json::{self, Fault, Members, Node};
use crate::domain::payload::pointer::{pointer_root, pointer_to, unescape_token};
use crate::domain::value::Value;

/// The JSON object of a payload.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    /// The text of the payload behind a byte order mark.
    pub(super) text: &'a str,
    pub(super) members: &'a Members,
}

impl<'a> Object<'a> {
    /// The field that a JSON key selects: the member of exactly that name, or, if there is none and the key starts
    /// with `/`, what it points to as a JSON Pointer (RFC 6901). [`Field::key`] names the member that contains it.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Field<'a>> {
        if let Some((name, node)) = self.members.get(self.text, key) {
            return Some(Field { text: self.text, key: name, node });
        }
        let mut tokens = key.strip_prefix('/')?.split('/').map(unescape_token);
        let (name, mut node) = self.members.get(self.text, &tokens.next()??)?;
        for token in tokens {
            node = node.child(self.text, &token?)?;
        }
        Some(Field { text: self.text, key: name, node })
    }

    /// The name of the top-level member that a JSON key selects or points into, if there is one.
    #[must_use]
    pub fn root(&self, key: &str) -> Option<&'a str> {
        let literal = self.members.get(self.text, key);
        let root = literal.or_else(|| self.members.get(self.text, &pointer_root(key)?))?;
        Some(root.0)
    }

    /// The value that a JSON key selects: as [`Object::field`] does, and where a JSON Pointer meets a string that is
    /// itself JSON, it goes on into that. `null` counts as absent.
    ///
    /// # Errors
    ///
    /// Why the key selects nothing.
    pub fn find(&self, key: &str) -> Result<Value, Absence> {
        self.find_within(key, &mut ReadTexts::default(), &mut { u64::MAX })
    }

    /// The same in at most as many steps as are left, each of which reads a byte of a text that is JSON. What earlier keys of
    /// this object had read is not read again.
    ///
    /// # Errors
    ///
    /// Why the key selects nothing, or that the steps do not suffice.
    pub fn find_within(&self, key: &str, texts: &mut ReadTexts, steps: &mut u64) -> Result<Value, Absence> {
        if let Some((_, node)) = self.members.get(self.text, key) {
            return node.value(self.text).ok_or(Absence::Null);
        }
        let tokens = key.strip_prefix('/').and_then(|rest| rest.split('/').map(unescape_token).collect());
        let Some(tokens): Option<Vec<String>> = tokens else { return Err(Absence::Nothing { alike: None }) };
        let first = tokens.first().and_then(|first| self.members.get(self.text, first));
        let Some((_, node)) = first else { return Err(Absence::Nothing { alike: None }) };
        descend((self.text, node), Walk { tokens: &tokens, done: 1, text: None, depth: 0 }, texts, steps)
    }

    /// The value that a JSON key selects, as [`Object::find`].
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.find(key).ok()
    }

    /// All members, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let text = self.text;
        self.members.iter(text).map(move |(key, node)| Field { text, key, node })
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Object(..)")
    }
}

/// One value in an [`Object`].
#[derive(Clone, Copy)]
pub struct Field<'a> {
    text: &'a str,
    key: &'a str,
    node: &'a Node,
}

impl<'a> Field<'a> {
    /// The name of the top-level member that the value is, or lies in.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The value as it is published: the characters of a string, the JSON text of a number, boolean, object or
    /// array as it was written (no digit of a number is lost), and nothing for `null`.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        self.node.value(self.text)
    }

    /// The range of the text between the quotes; `None` if the value is no string.
    pub(super) fn inside(&self) -> Option<Range<usize>> {
        self.node.inside()
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Field(..)")
    }
}

/// How far a JSON Pointer is followed.
#[derive(Clone, Copy)]
struct Walk<'t> {
    tokens: &'t [String],
    /// How many of them are behind.
    done: usize,
    /// How many tokens lead to the last text that was entered.
    text: Option<usize>,
    /// How many texts were entered.
    depth: usize,
}

/// Texts of one object that are JSON, each read once however many keys lie in it: by their JSON Pointers and by the number
/// of texts that they lie in, since a text can be that of a text.
#[derive(Default)]
pub struct ReadTexts(BTreeMap<(String, usize), Rc<ReadText>>);

struct ReadText {
    text: Value,
    node: Result<Node, Fault>,
}

impl ReadText {
    fn as_str(&self) -> &str {
        std::str::from_utf8(self.text.expose()).unwrap_or_default()
    }
}

impl fmt::Debug for ReadTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTexts(..)")
    }
}

/// Follows the rest of a JSON Pointer from a node.
fn descend(
    (text, mut node): (&str, &Node),
    mut walk: Walk<'_>,
    texts: &mut ReadTexts,
    steps: &mut u64,
) -> Result<Value, Absence> {
    while let Some(token) = walk.tokens.get(walk.done) {
        if node.inside().is_some() {
            return enter((text, node), walk, texts, steps);
        }
        let Some(child) = node.child(text, token) else {
            let names = match node {
                Node::Object(_, members) => alike(token, members.iter(text).map(|(key, _)| key)),
                _ => None,
            };
            return Err(match walk.text {
                Some(length) => {
                    Absence::InText { pointer: pointer_to(&walk.tokens[..length]), is_json: true, alike: names }
                }
                None => Absence::Nothing { alike: names },
            });
        };
        node = child;
        walk.done += 1;
    }
    node.value(text).ok_or(Absence::Null)
}

/// Goes on in the JSON that a string is. Each level doubles the escapes of its text, so there are few.
fn enter(
    (text, node): (&str, &Node),
    walk: Walk<'_>,
    texts: &mut ReadTexts,
    steps: &mut u64,
) -> Result<Value, Absence> {
    let pointer = pointer_to(&walk.tokens[..walk.done]);
    let place = (pointer.clone(), walk.depth);
    let read = if let Some(read) = texts.0.get(&place) {
        read.clone()
    } else {
        let length = node.inside().map_or(0, |inside| inside.len());
        *steps = steps.checked_sub(length as u64).ok_or(Absence::TooCostly)?;
        let text = node.value(text).unwrap_or_default();
        let node = json::parse_value(std::str::from_utf8(text.expose()).unwrap_or_default());
        let read = Rc::new(ReadText { text, node });
        texts.0.insert(place, read.clone());
        read
    };
    match &read.node {
        Ok(node) => {
            descend((read.as_str(), node), Walk { text: Some(walk.done), depth: walk.depth + 1, ..walk }, texts, steps)
        }
        Err(fault) if fault.problem.is_no_json() => Err(Absence::InText { pointer, is_json: false, alike: None }),
        Err(fault) => {
            let error = PayloadError::at(read.as_str(), fault.at, fault.problem);
            Err(Absence::Malformed { pointer, error })
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::payload::Payload;
    use crate::domain::payload::absence::Absence;

    #[test]
    fn a_pointer_goes_on_into_a_text_that_is_json_however_often_it_is_wrapped() {
        let wrap = |text: &str| serde_json::to_string(text).unwrap();
        let inner = r#"{"host": "db", "ports": [5432, {"x/y": null}], "note": ""}"#;
        let twice = format!(r#"{{"inner": {}}}"#, wrap(inner));
        let text = format!(
            r#"{{"config": {}, "twice": {}, "quoted": {}, "plain": "host", "empty": "", "number": 1, "cut": "{{\"host\": ",
                "double": "{{\"a\": 1, \"a\": 2}}"}}"#,
            wrap(inner),
            wrap(&twice),
            wrap(&wrap(inner)),
        );
        let payload = Payload::text(text);
        let object = payload.object().unwrap();
        for (key, value) in [
            ("/config/host", "db"),
            ("/config/note", ""),
            ("/config/ports", r#"[5432, {"x/y": null}]"#),
            ("/config/ports/0", "5432"),
            ("/config", inner),
            ("/twice/inner/host", "db"),
            ("/quoted/host", "db"),
        ] {
            assert_eq!(object.find(key).unwrap().expose(), value.as_bytes(), "{key}");
            assert_eq!(object.root(key).unwrap(), key.split('/').nth(1).unwrap());
        }
        let text = |pointer: &str, is_json, alike: Option<&str>| Absence::InText {
            pointer: pointer.to_owned(),
            is_json,
            alike: alike.map(str::to_owned),
        };
        for (key, absence) in [
            ("/config/port", text("/config", true, None)),
            ("/config/HOST", text("/config", true, Some("host"))),
            ("/config/ports/2", text("/config", true, None)),
            ("/config/ports/1/x~1y", Absence::Null),
            ("/plain/x", text("/plain", false, None)),
            ("/empty/x", text("/empty", false, None)),
            ("/number/x", Absence::Nothing { alike: None }),
            ("/none/x", Absence::Nothing { alike: None }),
            ("/twice/inner/none", text("/twice/inner", true, None)),
            ("/~2", Absence::Nothing { alike: None }),
        ] {
            assert_eq!(object.find(key).err(), Some(absence), "{key}");
        }
        for key in ["/cut/host", "/double/a"] {
            assert!(matches!(object.find(key), Err(Absence::Malformed { .. })), "{key}");
        }
    }
}
