//! The encoding of a value at its source.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::domain::value::Value;

/// The encoding to undo before a value is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Publish the value unchanged.
    #[default]
    None,
    /// Decode Base64 (RFC 4648 §4, the standard alphabet). Padding may be there or not; spaces, tabs and line ends
    /// are skipped, since `base64` and PEM tools wrap lines.
    Base64,
}

/// A value is not what its [`Encoding`] says. Carries nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is not Base64 in the standard alphabet (A-Z a-z 0-9 + /)")]
pub struct DecodeError;

pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Encoding {
    /// The value with the encoding undone.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the value is not encoded that way.
    pub fn decode(self, value: Value) -> Result<Value, DecodeError> {
        match self {
            Self::None => Ok(value),
            Self::Base64 => decode_base64(value.expose()),
        }
    }
}

/// Decodes Base64 as described at [`Encoding::Base64`].
pub(crate) fn decode_base64(encoded: &[u8]) -> Result<Value, DecodeError> {
    let mut compact = Zeroizing::new(Vec::with_capacity(encoded.len()));
    compact.extend(encoded.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut decoded = Zeroizing::new(vec![0; base64::decoded_len_estimate(compact.len())]);
    let length = BASE64.decode_slice(&*compact, &mut decoded).map_err(|_| DecodeError)?;
    decoded.truncate(length);
    Ok(Value::from(std::mem::take(&mut *decoded)))
}

/// The Base64 text of some bytes: standard alphabet, padded, one line.
pub(crate) fn encode_base64(bytes: &[u8]) -> Value {
    let mut encoded = Zeroizing::new(vec![0; base64::encoded_len(bytes.len(), true).unwrap_or(0)]);
    let length = BASE64.encode_slice(bytes, &mut encoded).unwrap_or(0);
    encoded.truncate(length);
    Value::from(std::mem::take(&mut *encoded))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::domain::render::encoding::{DecodeError, Encoding, encode_base64};
    use crate::domain::value::Value;

    fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
        Encoding::Base64.decode(Value::from(text)).map(|value| value.expose().to_vec())
    }

    #[test]
    fn base64_with_and_without_padding_and_line_ends() {
        for text in ["aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGQ", "aGVs\r\nbG8g\n d29y\tbGQ=\n", " aGVsbG8gd29ybGQ = "] {
            assert_eq!(decode(text).unwrap(), b"hello world", "{text:?}");
        }
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("/+8=").unwrap(), [0xff, 0xef]);
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["_-8=", "a", "aGVsbG8!", "aGVs=bG8=", "aGVsbG8==", "é", "aGVsbG9=", "-----BEGIN KEY-----"] {
            assert_eq!(decode(text), Err(DecodeError), "{text:?}");
        }
    }

    #[test]
    fn none_changes_nothing() {
        assert_eq!(Encoding::None.decode(Value::from("aGk=")).unwrap().expose(), b"aGk=");
    }

    proptest! {
        #[test]
        fn base64_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 1..80_usize) {
            let encoded = encode_base64(&bytes);
            let text = std::str::from_utf8(encoded.expose()).unwrap();
            prop_assert_eq!(decode(text).unwrap(), bytes.clone());
            prop_assert_eq!(decode(text.trim_end_matches('=')).unwrap(), bytes.clone());
            let wrapped: Vec<_> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(decode(&wrapped.join("\n")).unwrap(), bytes);
        }

        #[test]
        fn any_text_decodes_or_is_an_error(text in ".{0,60}") {
            let _ = decode(&text);
        }
    }
}
