//! What Secrets Manager answered for one version of a secret.

mod json;
pub mod splice;

use std::fmt;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::domain::payload::json::{Members, Node};
use crate::domain::value::Value;

/// The payload of one version of a secret: `SecretString` or `SecretBinary` of `GetSecretValue`.
///
/// The memory is overwritten when the payload is dropped; `Debug` shows nothing of it. The JSON in it is parsed at
/// most once, however many bindings share the payload.
pub struct Payload {
    bytes: Zeroizing<Vec<u8>>,
    /// Whether it is a `SecretString`.
    is_text: bool,
    parsed: OnceLock<Result<Members, PayloadError>>,
}

/// Why a payload is no JSON object, and where. Carries nothing of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} (line {line}, column {column}){}", .problem.what(), Detail(*.problem))]
pub struct PayloadError {
    /// What is wrong.
    pub problem: PayloadProblem,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1, in characters. A byte order mark is not counted, as editors do not show it.
    pub column: usize,
}

/// What makes a payload no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadProblem {
    /// Nothing or only white space.
    Empty,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Text that is not JSON and does not look like an object.
    PlainText,
    /// JSON, but another kind of value.
    OtherJson(JsonKind),
    /// Malformed JSON; the text is one of a fixed set.
    Syntax(&'static str),
    /// The same key twice in one object, at any depth. The position is that of the second one.
    DuplicateKey,
}

impl PayloadProblem {
    /// Whether the payload was never meant to be a JSON object, and so may be wanted whole.
    pub(super) fn is_other_content(self) -> bool {
        matches!(self, Self::NotUtf8 | Self::PlainText | Self::OtherJson(_))
    }

    fn what(self) -> &'static str {
        match self {
            Self::Empty => "it is empty",
            Self::NotUtf8 => "it is binary data, or text in another encoding than UTF-8",
            Self::PlainText => "it is plain text",
            Self::OtherJson(JsonKind::Array) => "it is a JSON array",
            Self::OtherJson(JsonKind::String) => "it is a JSON string",
            Self::OtherJson(JsonKind::Number) => "it is a JSON number",
            Self::OtherJson(JsonKind::Boolean) => "it is a JSON boolean",
            Self::OtherJson(JsonKind::Null) => "it is a JSON null",
            Self::Syntax(_) => "it is malformed JSON",
            Self::DuplicateKey => "it has the same key twice in one JSON object",
        }
    }
}

struct Detail(PayloadProblem);

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PayloadProblem::Syntax(detail) => write!(f, ": {detail}"),
            _ => Ok(()),
        }
    }
}

/// A kind of JSON value other than an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `[..]`
    Array,
    /// `".."`
    String,
    /// Such as `42`.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`
    Null,
}

impl Payload {
    /// A `SecretString`.
    #[must_use]
    pub fn text(text: String) -> Self {
        Self { is_text: true, ..Self::binary(text.into_bytes()) }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A `SecretBinary`, after the API's own Base64 is undone.
    #[must_use]
    pub fn binary(bytes: Vec<u8>) -> Self {
        Self { bytes: Zeroizing::new(bytes), is_text: false, parsed: OnceLock::new() }
    }

    /// The whole payload, byte for byte.
    #[must_use]
    pub fn whole(&self) -> Value {
        Value::from(self.bytes.as_slice())
    }

    /// The JSON object that the payload is. Bytes that are the UTF-8 text of an object count like text.
    ///
    /// The text must be JSON by RFC 8259 in full, with no key twice in one object (at any depth) and at most 128
    /// levels. A byte order mark before it is skipped (RFC 8259 §8.1 allows that, and Windows tools write one).
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if it is anything else.
    pub fn object(&self) -> Result<Object<'_>, PayloadError> {
        let parsed = self.parsed.get_or_init(|| parse(&self.bytes));
        let members = parsed.as_ref().map_err(|error| *error)?;
        // Offsets of the members refer to the text behind the byte order mark.
        let text = std::str::from_utf8(&self.bytes).map(without_byte_order_mark).unwrap_or_default();
        Ok(Object { text, members })
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload(..)")
    }
}

fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn parse(bytes: &[u8]) -> Result<Members, PayloadError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.split_at(error.valid_up_to()).0;
        locate(&String::from_utf8_lossy(before), before.len(), PayloadProblem::NotUtf8)
    })?;
    let text = without_byte_order_mark(text);
    json::parse_object(text).map_err(|fault| locate(text, fault.at, fault.problem))
}

/// Turns a byte offset into line and column.
fn locate(text: &str, at: usize, problem: PayloadProblem) -> PayloadError {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    PayloadError { problem, line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// The JSON object of a [`Payload`].
#[derive(Clone, Copy)]
pub struct Object<'a> {
    text: &'a str,
    members: &'a Members,
}

impl<'a> Object<'a> {
    /// The field that a JSON key selects: the member of exactly that name, or, if there is none and the key starts
    /// with `/`, what it points to as a JSON Pointer (RFC 6901). [`Field::key`] tells the member it lies in.
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
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Field(..)")
    }
}

/// The top-level key that a JSON key reaches into if it is a JSON Pointer: the first token of `/a~1b/c` is `a/b`.
/// Nothing if the key does not start with `/` or has a wrong escape. (A member literally named so goes first.)
#[must_use]
pub fn pointer_root(key: &str) -> Option<String> {
    unescape_token(key.strip_prefix('/')?.split('/').next()?)
}

/// Undoes the escapes of a reference token (RFC 6901 §4).
fn unescape_token(token: &str) -> Option<String> {
    let mut plain = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests;
