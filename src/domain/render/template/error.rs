//! Why a template cannot be used, or cannot be rendered.

use std::fmt;

use crate::domain::quoted::Quoted;
use crate::domain::render::key::{KeyError, TargetKey};

/// The longest that all templates of a binding may be together, in bytes.
pub const MAX_SOURCE_BYTES: usize = 65_536;

/// The most bytes that all templates of a binding may give together: the limit of a Kubernetes Secret.
pub const MAX_OUTPUT_BYTES: usize = 1_048_576;

/// A template cannot be used as it is written. Found before any value is read; quotes the template, which is no
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateSyntaxError {
    /// The name of a template is no key of a Kubernetes Secret.
    #[error("{} is not a key that a Secret can have: {problem}; a template has the name of the key that it gives: rename it", Quoted(.key))]
    Key {
        /// The name.
        key: String,
        /// What is wrong with it.
        problem: KeyError,
    },
    /// The templates are longer than [`MAX_SOURCE_BYTES`] together.
    #[error(
        "the templates up to {key} are longer than {MAX_SOURCE_BYTES} bytes together: shorten them, or share them out among several bindings"
    )]
    TooLong {
        /// The key of the template that is too much.
        key: TargetKey,
    },
    /// A template is malformed or uses what templates may not use.
    #[error("the template {key} is wrong in line {line}: {problem}")]
    Syntax {
        /// The key of the template.
        key: TargetKey,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// A template could not be rendered. Names keys and lines, never a piece of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template {key} failed{}: {fault}", Line(*.line))]
pub struct TemplateError {
    /// The key of the template.
    pub key: TargetKey,
    /// The line, counted from 1, where known.
    pub line: Option<usize>,
    /// What went wrong.
    pub fault: TemplateFault,
}

/// What can go wrong while a template is rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateFault {
    /// A name has no value.
    #[error("{}", Missing(.missing, .alike.as_deref()))]
    Undefined {
        /// The names in the template that are no mapped keys.
        missing: Vec<String>,
        /// A mapped key that one of them may mean.
        alike: Option<String>,
    },
    /// A value that is not UTF-8 text is used as text.
    #[error(
        "{} is not UTF-8 text, so only the filter `b64encode` can take it",
        OrAnonymous(.name.as_ref())
    )]
    Binary {
        /// The mapped key.
        name: Option<TargetKey>,
    },
    /// `b64decode` gives bytes that are not UTF-8 text.
    #[error("what `b64decode` gives is not UTF-8 text: use `encoding: Base64` in `spec.data` to publish bytes")]
    DecodedBinary,
    /// `b64decode` was given something else than Base64.
    #[error("what `b64decode` was given is not Base64")]
    NotBase64,
    /// A filter for text was given a list or map.
    #[error("a filter for text was given something else")]
    NotText,
    /// `dotenv` was given something else than a map.
    #[error("`dotenv` was given something else than a map: write `bindery.keys | dotenv`")]
    DotenvOfOther,
    /// A key cannot be the name of a variable.
    #[error(
        "the key {} cannot stand in a `.env` file, whose names have letters, digits and `_`: rename it, or leave it \
         out with `exclude`",
        Quoted(.name)
    )]
    DotenvName {
        /// The key.
        name: String,
    },
    /// A value has a NUL character.
    #[error("the value of {} has a NUL character, which no `.env` file can carry", Quoted(.name))]
    DotenvNul {
        /// The key of the value.
        name: String,
    },
    /// Rendering takes too much work.
    #[error("it takes too much work: shorten its loops")]
    OutOfFuel,
    /// The results are larger than a Secret can be.
    #[error("the templates of this binding give more than {MAX_OUTPUT_BYTES} bytes together")]
    TooLarge,
    /// Something else that the values at hand do not allow, as a fixed text.
    #[error("{0}")]
    Operation(&'static str),
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, " in line {line}"))
    }
}

struct OrAnonymous<'a>(Option<&'a TargetKey>);

impl fmt::Display for OrAnonymous<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "the value of `{name}`"),
            None => f.write_str("a value"),
        }
    }
}

struct Missing<'a>(&'a [String], Option<&'a str>);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("a name or attribute has no value: correct it, or give it a value with `default`");
        }
        f.write_str("these names are not among the mapped keys:")?;
        for (index, name) in self.0.iter().take(10).enumerate() {
            write!(f, "{} {}", if index > 0 { "," } else { "" }, Quoted(name))?;
        }
        if self.0.len() > 10 {
            write!(f, " and {} more", self.0.len() - 10)?;
        }
        f.write_str(" (map them, or give them a value with `default`)")?;
        match self.1 {
            Some(key) if key.contains(['-', '.']) => {
                write!(f, "; there is {}, which is written {{{{ bindery.keys['{key}'] }}}}", Quoted(key))
            }
            Some(key) => write!(f, "; there is {}, which looks alike", Quoted(key)),
            None => Ok(()),
        }
    }
}
