//! A strict JSON reader that remembers *where* everything is instead of copying it.
//!
//! A general JSON library keeps the last of two equal keys without a word, rounds numbers (or refuses `1e400`), and
//! copies escaped strings into memory that nobody wipes. This reader reads the text once and keeps byte
//! ranges; values are decoded when asked for, into memory that is wiped. Its tests compare it with `serde_json` on
//! generated and damaged texts: what is accepted, what it means, and where an error is.

use std::ops::Range;

use crate::domain::payload::error::{JsonKind, PayloadProblem};
use crate::domain::payload::escape::{decode, is_leading_surrogate, is_trailing_surrogate};
use crate::domain::payload::sign;
use crate::domain::value::Value;

/// How many objects and arrays may be nested; deeper texts are refused rather than risk the stack.
const MAX_DEPTH: usize = 128;

/// The white space of JSON.
const SPACE: [char; 4] = [' ', '\n', '\r', '\t'];

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: PayloadProblem,
}

/// A JSON value, by its range in the text.
pub(super) enum Node {
    Null,
    /// A number or boolean.
    Scalar(Range<usize>),
    /// The inside of a string, without its quotes.
    String {
        inside: Range<usize>,
        escaped: bool,
    },
    Array(Range<usize>, Vec<Node>),
    Object(Range<usize>, Members),
}

/// The members of an object.
pub(super) struct Members {
    /// In the order of the text.
    entries: Vec<(Key, Node)>,
    /// Positions in `entries`, ordered by key.
    by_key: Vec<usize>,
}

enum Key {
    /// A key without escapes, by its range.
    Plain(Range<usize>),
    /// A key that had escapes, decoded. (Key names are no secrets.)
    Decoded(Box<str>),
}

impl Key {
    fn as_str<'a>(&'a self, text: &'a str) -> &'a str {
        match self {
            Self::Plain(range) => &text[range.clone()],
            Self::Decoded(key) => key,
        }
    }
}

impl Members {
    pub(super) fn get<'a>(&'a self, text: &'a str, key: &str) -> Option<(&'a str, &'a Node)> {
        let found = self.by_key.binary_search_by(|&at| self.entries[at].0.as_str(text).cmp(key)).ok()?;
        let (key, node) = &self.entries[self.by_key[found]];
        Some((key.as_str(text), node))
    }

    pub(super) fn iter<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        self.entries.iter().map(move |(key, node)| (key.as_str(text), node))
    }
}

impl Node {
    /// The child that a token of a JSON Pointer selects.
    pub(super) fn child<'a>(&'a self, text: &'a str, token: &str) -> Option<&'a Node> {
        match self {
            Self::Object(_, members) => members.get(text, token).map(|(_, node)| node),
            Self::Array(_, items) => {
                let is_index = token == "0" || !token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit());
                if is_index { items.get(token.parse::<usize>().ok()?) } else { None }
            }
            _ => None,
        }
    }

    /// The range between the quotes of a string.
    pub(super) fn inside(&self) -> Option<Range<usize>> {
        match self {
            Self::String { inside, .. } => Some(inside.clone()),
            _ => None,
        }
    }

    pub(super) fn value(&self, text: &str) -> Option<Value> {
        match self {
            Self::Null => None,
            Self::Scalar(range) | Self::Array(range, _) | Self::Object(range, _) => {
                Some(Value::from(&text[range.clone()]))
            }
            Self::String { inside, escaped: false } => Some(Value::from(&text[inside.clone()])),
            Self::String { inside, escaped: true } => Some(decode(&text[inside.clone()]).into()),
        }
    }
}

/// Reads a text that must be one JSON object.
pub(super) fn parse_object(text: &str) -> Result<Members, Fault> {
    let kind = match parse_value(text)? {
        Node::Object(_, members) => return Ok(members),
        Node::Array(..) => JsonKind::Array,
        Node::String { .. } => JsonKind::String,
        Node::Null => JsonKind::Null,
        Node::Scalar(range) => match text.as_bytes()[range.start] {
            b't' | b'f' => JsonKind::Boolean,
            _ => JsonKind::Number,
        },
    };
    let at = text.len() - text.trim_start_matches(SPACE).len();
    Err(Fault { at, problem: PayloadProblem::OtherJson(kind) })
}

/// Reads a text that must be one JSON value. What does not begin like an object or array is plain text, unless it is
/// JSON in full.
pub(super) fn parse_value(text: &str) -> Result<Node, Fault> {
    let mut reader = JsonReader { text, at: 0, depth: 0 };
    reader.skip_space();
    let start = reader.at;
    match reader.peek() {
        None => Err(Fault { at: start, problem: PayloadProblem::Empty }),
        Some(b'{' | b'[') => reader.document(),
        Some(_) => reader.document().map_err(|_| {
            let problem = sign::before_json(&text[start..]).map_or(PayloadProblem::PlainText, PayloadProblem::Syntax);
            Fault { at: start, problem }
        }),
    }
}

struct JsonReader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// What was read at the current byte, or the problem there.
type Parsed<T> = Result<T, Fault>;

impl JsonReader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The problem at the current byte; if the text ends here, that is the problem.
    fn unexpected<T>(&self, problem: &'static str) -> Parsed<T> {
        let problem = if self.at >= self.text.len() { "it ends too early (the end may be cut off)" } else { problem };
        Err(Fault { at: self.at, problem: PayloadProblem::Syntax(problem) })
    }

    /// The same between values, where a sign may stand that looks like JSON and is none: then that is the problem.
    fn misplaced<T>(&self, problem: &'static str) -> Parsed<T> {
        self.unexpected(sign::foreign(&self.text[self.at..]).unwrap_or(problem))
    }

    fn document(&mut self) -> Parsed<Node> {
        let node = self.value()?;
        self.skip_space();
        if self.at < self.text.len() {
            return self.misplaced("there is more text after the end of the value");
        }
        Ok(node)
    }

    fn value(&mut self) -> Parsed<Node> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => {
                let (inside, escaped) = self.string()?;
                Ok(Node::String { inside, escaped })
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true").map(Node::Scalar),
            Some(b'f') => self.word("false").map(Node::Scalar),
            Some(b'n') => self.word("null").map(|_| Node::Null),
            _ => self.misplaced("expected a value (text stands in double quotes)"),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Parsed<Node>) -> Parsed<Node> {
        if self.depth == MAX_DEPTH {
            return self.unexpected("objects and arrays are nested more than 128 levels deep");
        }
        self.depth += 1;
        let node = read(self)?;
        self.depth -= 1;
        Ok(node)
    }

    fn object(&mut self) -> Parsed<Node> {
        let start = self.at;
        self.at += 1;
        let mut entries = Vec::new();
        let mut positions = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.skip_space();
                positions.push(self.at);
                if self.peek() != Some(b'"') {
                    return self.misplaced(if !entries.is_empty() && self.peek() == Some(b'}') {
                        "there is a comma too many before `}`"
                    } else {
                        "expected a key in double quotes"
                    });
                }
                let (inside, escaped) = self.string()?;
                let key = if escaped {
                    let decoded = decode(&self.text[inside]);
                    Key::Decoded(String::from_utf8_lossy(decoded.as_ref()).into())
                } else {
                    Key::Plain(inside)
                };
                self.skip_space();
                if self.peek() != Some(b':') {
                    return self.misplaced("expected `:` after a key");
                }
                self.at += 1;
                let node = self.value()?;
                entries.push((key, node));
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => {
                        self.at += 1;
                        break;
                    }
                    _ => return self.misplaced("expected `,` or `}` (a comma may be missing after the entry before)"),
                }
            }
        }
        let members = self.members(entries, &positions)?;
        Ok(Node::Object(start..self.at, members))
    }

    /// Orders the entries by key, which brings equal keys together.
    fn members(&self, entries: Vec<(Key, Node)>, positions: &[usize]) -> Parsed<Members> {
        let key = |at: usize| entries[at].0.as_str(self.text);
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        by_key.sort_by(|&a, &b| key(a).cmp(key(b)));
        let second = by_key.windows(2).filter(|pair| key(pair[0]) == key(pair[1])).map(|pair| positions[pair[1]]).min();
        match second {
            Some(at) => Err(Fault { at, problem: PayloadProblem::DuplicateKey }),
            None => Ok(Members { entries, by_key }),
        }
    }

    fn array(&mut self) -> Parsed<Node> {
        let start = self.at;
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::Array(start..self.at, items));
        }
        loop {
            self.skip_space();
            if !items.is_empty() && self.peek() == Some(b']') {
                return self.unexpected("there is a comma too many before `]`");
            }
            items.push(self.value()?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Node::Array(start..self.at, items));
                }
                _ => return self.misplaced("expected `,` or `]` (a comma may be missing after the item before)"),
            }
        }
    }

    fn word(&mut self, word: &str) -> Parsed<Range<usize>> {
        let start = self.at;
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return self.unexpected("expected `true`, `false` or `null` (text stands in double quotes)");
            }
            self.at += 1;
        }
        Ok(start..self.at)
    }

    fn number(&mut self) -> Parsed<Node> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return self.unexpected("a number has a leading zero (put it in double quotes to keep it)");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Node::Scalar(start..self.at))
    }

    fn digits(&mut self) -> Parsed<()> {
        let Some(b'0'..=b'9') = self.peek() else {
            return self.unexpected("a number lacks a digit");
        };
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// Reads a string; gives the range between the quotes and whether it has escapes.
    fn string(&mut self) -> Parsed<(Range<usize>, bool)> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let inside = start..self.at;
                    self.at += 1;
                    return Ok((inside, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(byte) if byte >= b' ' => self.at += 1,
                _ => {
                    return self.unexpected(
                        "a line end or control character stands inside a string (write it as \\n), or the quotation mark \
                         that closes the string is missing or typographic",
                    );
                }
            }
        }
    }

    /// Checks what follows a backslash.
    fn escape(&mut self) -> Parsed<()> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let start = self.at;
                let unit = self.code_unit()?;
                if is_trailing_surrogate(unit) {
                    return Self::lone_surrogate(start);
                }
                if is_leading_surrogate(unit) {
                    if !self.text[self.at..].starts_with("\\u") {
                        return Self::lone_surrogate(start);
                    }
                    self.at += 1;
                    if !is_trailing_surrogate(self.code_unit()?) {
                        return Self::lone_surrogate(start);
                    }
                }
            }
            _ => {
                return self.unexpected("an unknown escape follows a backslash (a backslash itself is written `\\\\`)");
            }
        }
        Ok(())
    }

    fn lone_surrogate<T>(at: usize) -> Parsed<T> {
        Err(Fault { at, problem: PayloadProblem::Syntax("a \\u escape is one half of a surrogate pair") })
    }

    /// Reads the `u` and four hexadecimal digits of an escape.
    fn code_unit(&mut self) -> Parsed<u32> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.unexpected("a \\u escape needs four hexadecimal digits");
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }
}
