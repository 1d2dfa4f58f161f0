//! The payload of one version of a secret.

pub mod absence;
pub mod error;
mod escape;
mod json;
pub mod object;
pub mod pointer;
mod sign;
pub mod splice;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::domain::payload::error::{PayloadError, PayloadProblem};
use crate::domain::payload::json::Members;
use crate::domain::payload::object::Object;
use crate::domain::payload::splice::SpliceError;
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

    /// The text values under these top-level keys, in the order of `keys`.
    ///
    /// # Errors
    /// Where the payload is not a JSON object in a `SecretString`, or lacks one of the keys as a text.
    pub fn texts<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Result<Vec<Value>, SpliceError> {
        splice::texts(self.writable()?, keys)
    }

    /// The payload with other texts under these top-level keys. Every byte that is not between the quotes of one of
    /// them stays as it is: white space, order, escapes, a byte order mark, keys of the same name further down.
    ///
    /// # Errors
    /// As [`Payload::texts`].
    pub fn splice(&self, new: &BTreeMap<&str, Value>) -> Result<Value, SpliceError> {
        splice::splice(&self.bytes, self.writable()?, new)
    }

    /// The object of a payload in which values can be replaced.
    fn writable(&self) -> Result<Object<'_>, SpliceError> {
        if self.is_text { Ok(self.object()?) } else { Err(SpliceError::Binary) }
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
        PayloadError::at(&String::from_utf8_lossy(before), before.len(), PayloadProblem::NotUtf8)
    })?;
    let text = without_byte_order_mark(text);
    json::parse_object(text).map_err(|fault| PayloadError::at(text, fault.at, fault.problem))
}

#[cfg(test)]
mod tests;
