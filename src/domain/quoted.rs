//! Short, safe quotations for error messages.

use std::fmt;

/// How many characters of a text a message repeats.
const LIMIT: usize = 80;

/// Quotes text that is no secret (a reference, a key name, a glob) in a message: in backticks, control
/// characters escaped, cut after 80 characters. A message stays one readable line whatever the input was.
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for (count, c) in self.0.chars().enumerate() {
            if count == LIMIT {
                f.write_str("…")?;
                break;
            }
            // Invisible characters are the usual reason why a text is refused that seems right.
            let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
            if c.is_control() || (c.is_whitespace() && c != ' ') || invisible {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        f.write_str("`")
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::quoted::Quoted;

    #[test]
    fn quotations_are_one_bounded_line() {
        assert_eq!(Quoted("DB_HOST").to_string(), "`DB_HOST`");
        assert_eq!(Quoted("a\nb\u{200b}").to_string(), "`a\\u{a}b\\u{200b}`");
        let long = Quoted(&"x".repeat(10_000)).to_string();
        assert_eq!(long, format!("`{}…`", "x".repeat(80)));
    }
}
