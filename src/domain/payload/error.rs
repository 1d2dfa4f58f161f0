//! Why a payload is no JSON object.

use std::fmt;

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

impl PayloadError {
    /// A problem at a byte of a text.
    pub(super) fn at(text: &str, at: usize, problem: PayloadProblem) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { problem, line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// What makes a payload no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadProblem {
    /// Nothing or only white space.
    Empty,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Text that is not JSON and does not begin like an object.
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
    pub(in crate::domain) fn is_other_content(self) -> bool {
        matches!(self, Self::NotUtf8 | Self::PlainText | Self::OtherJson(_))
    }

    /// Whether a text was never meant to be JSON.
    pub(super) fn is_no_json(self) -> bool {
        matches!(self, Self::Empty | Self::PlainText)
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
