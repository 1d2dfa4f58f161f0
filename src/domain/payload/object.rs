//! The JSON object of a payload, read by key.

use std::fmt;
use std::ops::Range;

use crate::domain::payload::json::{Members, Node};
use crate::domain::payload::pointer::unescape_token;
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

    /// The value that a JSON key selects, as [`Object::field`] and [`Field::value`]. `null` counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.field(key).and_then(|field| field.value())
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
