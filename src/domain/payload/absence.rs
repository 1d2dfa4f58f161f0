//! Why a JSON key selects nothing.

use std::fmt;

use crate::domain::payload::error::PayloadError;
use crate::domain::quoted::Quoted;

/// Why a JSON key selects nothing. Displayed, it is what a message says of it behind the place; nothing of a value is in
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// There is no such member.
    Nothing {
        /// One whose name looks alike.
        alike: Option<String>,
    },
    /// The value is `null`.
    Null,
    /// The JSON Pointer leads into a text that has nothing there.
    InText {
        /// The JSON Pointer of the text.
        pointer: String,
        /// Whether the text is JSON.
        is_json: bool,
        /// A member of that JSON whose name looks alike.
        alike: Option<String>,
    },
    /// The JSON Pointer leads into a text that is meant to be JSON and is malformed.
    Malformed {
        /// The JSON Pointer of the text.
        pointer: String,
        /// What is wrong, and where in the text.
        error: PayloadError,
    },
    /// The texts that the JSON Pointer leads into are longer than may be read.
    TooCostly,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { alike: None } => Ok(()),
            Self::Nothing { alike: Some(alike) } => write!(f, ", but {}, which looks alike", Quoted(alike)),
            Self::Null => f.write_str(", for its value is null"),
            Self::TooCostly => f.write_str(", for it takes too long to find"),
            Self::InText { pointer, is_json: false, .. } => {
                write!(f, ", for {} is a text that is not JSON", Quoted(pointer))
            }
            Self::InText { pointer, is_json: true, alike } => {
                write!(f, ", for {} is a text that is JSON and has no such key", Quoted(pointer))?;
                alike.as_ref().map_or(Ok(()), |alike| write!(f, ", but {}, which looks alike", Quoted(alike)))
            }
            Self::Malformed { pointer, error } => write!(f, ", for {} is a text of which {error}", Quoted(pointer)),
        }
    }
}
