//! Signs that look like JSON and are none: word processors, chats and web pages put them into what people paste.

/// What is wrong with the sign at the beginning of `rest`, where JSON expects punctuation or the begin of a value; `None`
/// if it is none of those that a paste brings. The text is one of a fixed set, so it carries nothing of the payload.
pub(super) fn foreign(rest: &str) -> Option<&'static str> {
    if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
        return Some("a comment stands here (JSON has none: remove it)");
    }
    match rest.chars().next()? {
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2033}' | '\u{ff02}' => {
            Some("a typographic quotation mark stands here (write a straight \")")
        }
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{2032}' | '`' | '\'' => {
            Some("a single or typographic quotation mark stands here (write a straight \")")
        }
        '\u{a0}' | '\u{202f}' => Some("a no-break space stands here, which looks like a space (write a plain one)"),
        '\u{2000}'..='\u{200a}' | '\u{205f}' | '\u{3000}' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
            Some("a special space or line end stands here, which looks like a plain one (write a plain one)")
        }
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}' => {
            Some("an invisible sign stands here (a zero-width space, byte order mark or the like: remove it)")
        }
        '\u{ff1a}' | '\u{ff0c}' | '\u{ff5b}' | '\u{ff5d}' | '\u{ff3b}' | '\u{ff3d}' => {
            Some("a full-width sign stands here (write the narrow one of JSON)")
        }
        ';' => Some("a semicolon stands here (JSON has commas)"),
        _ => None,
    }
}

/// What is wrong with a text whose object begins only behind signs that a paste brings; `None` if it is no such text.
pub(super) fn before_json(text: &str) -> Option<&'static str> {
    let first = foreign(text)?;
    let begins = |rest: &str| rest.starts_with(['{', '[']);
    if text.starts_with(['/', '#']) {
        let behind = text.lines().skip(1).find(|line| {
            let line = line.trim_start();
            !(line.is_empty() || line.starts_with(['/', '#', '*']))
        });
        return behind.is_some_and(|line| begins(line.trim_start())).then_some(first);
    }
    let behind = text.trim_start_matches(|c: char| c.is_whitespace() || foreign(c.encode_utf8(&mut [0; 4])).is_some());
    begins(behind).then_some(first)
}

#[cfg(test)]
mod tests {
    use crate::domain::payload::Payload;
    use crate::domain::payload::error::{PayloadError, PayloadProblem};

    fn problem(text: &str) -> PayloadError {
        Payload::text(text.to_owned()).object().unwrap_err()
    }

    #[test]
    fn signs_that_a_paste_brings_are_named_where_they_stand() {
        for (text, line, column, said) in [
            ("{\u{201c}A\u{201d}: 1}", 1, 2, "typographic quotation mark"),
            ("{\"A\": \u{201e}x\u{201c}}", 1, 7, "typographic quotation mark"),
            ("{'A': 1}", 1, 2, "single or typographic"),
            ("{\"A\":\u{a0}1}", 1, 6, "no-break space"),
            ("{\"A\": 1,\n\u{200b}\"B\": 2}", 2, 1, "invisible sign"),
            ("{\n  // the port\n  \"A\": 1}", 2, 3, "a comment stands here"),
            ("{\"A\": 1 /* x */}", 1, 9, "a comment stands here"),
            ("{\"A\": 1, # x\n}", 1, 10, "a comment stands here"),
            ("{\"A\"\u{ff1a} 1}", 1, 5, "full-width"),
            ("{\"A\": 1; \"B\": 2}", 1, 8, "a semicolon"),
            ("\u{a0}{\"A\": 1}", 1, 1, "no-break space"),
            ("// the app\n{\"A\": 1}", 1, 1, "a comment stands here"),
            ("{\"A\": \"x\u{201d},\n\"B\": \"y\"}", 1, 11, "missing or typographic"),
            ("[1, 2]\u{feff}", 1, 7, "invisible sign"),
        ] {
            let error = problem(text);
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.to_string().contains(said), "{text:?}: {error}");
        }
        for plain in ["# a shell file\nA=1", "'x'", "\u{201c}x\u{201d}", "it's"] {
            assert_eq!(problem(plain).problem, PayloadProblem::PlainText, "{plain:?}");
        }
    }
}
