//! The bytes of one secret value.

use std::fmt;

use zeroize::Zeroizing;

/// The bytes of one secret value, under one key of a Kubernetes Secret.
///
/// The memory is overwritten when the value is dropped. A value cannot be serialized or displayed, and `Debug`
/// shows neither content nor length; [`Value::expose`] is the only way to the bytes, so that a search for
/// that name finds all code that handles them.
#[derive(Clone, Default)]
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// The bytes. The caller must not log, display or store them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// A value under construction.
///
/// A growing `Vec` leaves unwiped copies of its content behind at each reallocation; this one wipes them.
#[derive(Default)]
pub(crate) struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity() * 2)));
            grown.extend_from_slice(&self.0);
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn push(&mut self, c: char) {
        self.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Buffer> for Value {
    fn from(buffer: Buffer) -> Self {
        Self(buffer.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::value::{Buffer, Value};

    #[test]
    fn debug_shows_neither_content_nor_length() {
        assert_eq!(format!("{:?}", Value::from("hunter2")), "Value(..)");
        assert_eq!(format!("{:#?}", Value::from("")), "Value(..)");
    }

    #[test]
    fn a_buffer_keeps_what_it_was_given_while_it_grows() {
        let mut buffer = Buffer::default();
        for _ in 0..1000 {
            buffer.extend(b"ab");
            buffer.push('é');
        }
        assert_eq!(buffer.len(), 4000);
        assert_eq!(Value::from(buffer).expose(), "abé".repeat(1000).as_bytes());
    }
}
