//! The escapes of JSON strings.

use std::ops::Range;

use crate::domain::value::Buffer;

/// Whether a code unit is the first half of a surrogate pair.
pub(super) fn is_leading_surrogate(unit: u32) -> bool {
    (0xD800..=0xDBFF).contains(&unit)
}

/// Whether a code unit is the second half of a surrogate pair.
pub(super) fn is_trailing_surrogate(unit: u32) -> bool {
    (0xDC00..=0xDFFF).contains(&unit)
}

/// Decodes the inside of a string that the reader has accepted.
pub(super) fn decode(inside: &str) -> Buffer {
    let mut decoded = Buffer::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((plain, escape)) = rest.split_once('\\') {
        decoded.extend(plain.as_bytes());
        let mut chars = escape.chars();
        let c = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let mut unit = hexadecimal(escape, 1..5);
                chars = escape[5..].chars();
                if is_leading_surrogate(unit) {
                    let trailing = hexadecimal(escape, 7..11);
                    chars = escape[11..].chars();
                    unit = 0x1_0000 + ((unit - 0xD800) << 10) + (trailing - 0xDC00);
                }
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            Some(c) => c,
            None => break,
        };
        decoded.push(c);
        rest = chars.as_str();
    }
    decoded.extend(rest.as_bytes());
    decoded
}

fn hexadecimal(text: &str, digits: Range<usize>) -> u32 {
    u32::from_str_radix(&text[digits], 16).unwrap_or_default()
}
