//! Keys of the target Secret that are computed from the mapped ones.
//!
//! The language is that of [minijinja](https://docs.rs/minijinja) (Jinja2), cut down to what cannot harm the
//! program that renders it; `docs/mapping.md` lists it for users. There is no access to files, network,
//! environment, time or chance: the same mapped keys always give the same text.
//!
//! - A mapped key is a variable; `bindery.keys` is the map of all of them, which also reaches names that are no
//!   identifiers: `bindery.keys["tls.crt"]`. (The mapped key `bindery` is `bindery.keys.bindery`.)
//! - Undefined names are errors, not empty text. `default(..)` and `is defined` are the ways around that.
//! - Nothing is escaped by itself, and white space stays as it is written, a line end at the end included.
//! - Work and output are bounded.
//!
//! The engine copies values while it computes and does not wipe those copies; results are wiped like all values.

mod filters;
mod language;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value as Computed};

use crate::domain::quoted::Quoted;
use crate::domain::render::key::{KeyError, TargetKey};
use crate::domain::render::template::filters::Misuse;
use crate::domain::value::{Buffer, Value};

/// The longest template of one key, in bytes.
pub const MAX_SOURCE_BYTES: usize = 65_536;

/// The most bytes that all templates of a binding may give together: what a Kubernetes Secret holds.
pub const MAX_OUTPUT_BYTES: usize = 1_048_576;

/// The work that rendering all templates of a binding may take, in the engine's unit: an instruction, or 64 bytes
/// read or made. Reading and making the largest possible Secret in several steps takes a quarter of it.
const FUEL: u64 = 400_000;

/// How deep blocks may be nested while rendering.
const MAX_NESTING: usize = 200;

/// The templates of a binding, by the key they give, checked and compiled.
#[derive(Clone)]
pub struct Template {
    environment: Environment<'static>,
    needs: BTreeMap<TargetKey, BTreeSet<String>>,
}

/// A template cannot be used as it is written. Found before any value is read; quotes the template, which is no
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateSyntaxError {
    /// The name of a template is no key of a Kubernetes Secret.
    #[error("{} is not a key that a Secret can have: {problem}", Quoted(.key))]
    Key {
        /// The name.
        key: String,
        /// What is wrong with it.
        problem: KeyError,
    },
    /// A template is longer than [`MAX_SOURCE_BYTES`].
    #[error("the template {key} is longer than {MAX_SOURCE_BYTES} bytes: shorten it")]
    TooLong {
        /// The key of the template.
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
    #[error("{}", Missing(.missing))]
    Undefined {
        /// The names in the template that are no mapped keys.
        missing: Vec<String>,
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

struct Missing<'a>(&'a [String]);

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
        f.write_str(" (map them, or give them a value with `default`)")
    }
}

/// The engine with what templates may use, before any template is added.
static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_recursion_limit(MAX_NESTING);
    // Only the delimiters of a custom syntax can be refused; without one this cannot fail.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        engine.set_syntax(syntax);
    }
    for function in ["range", "dict", "debug", "namespace"] {
        engine.remove_global(function);
    }
    filters::register(&mut engine);
    engine
});

impl Template {
    /// Checks and compiles templates, given as text by the key they give.
    ///
    /// # Errors
    ///
    /// [`TemplateSyntaxError`] for the first key (in order) that cannot be used.
    pub fn parse(sources: &BTreeMap<String, String>) -> Result<Self, TemplateSyntaxError> {
        let mut environment = ENGINE.clone();
        let mut needs = BTreeMap::new();
        for (name, source) in sources {
            let key = TargetKey::try_from(name.as_str())
                .map_err(|problem| TemplateSyntaxError::Key { key: name.clone(), problem })?;
            if source.len() > MAX_SOURCE_BYTES {
                return Err(TemplateSyntaxError::TooLong { key });
            }
            let outline = match language::check(source) {
                Ok(outline) => outline,
                Err(language::Refusal { line, reason }) => {
                    return Err(TemplateSyntaxError::Syntax { key, line, problem: reason });
                }
            };
            if let Err(error) = environment.add_template_owned(name.clone(), source.clone()) {
                // There are no values yet that the engine's text could quote.
                let problem = error.detail().unwrap_or("it is malformed").chars().take(200).collect();
                return Err(TemplateSyntaxError::Syntax { key, line: error.line().unwrap_or(1), problem });
            }
            needs.insert(key, outline.keys);
        }
        Ok(Self { environment, needs })
    }

    /// The keys that the templates give.
    pub fn keys(&self) -> impl Iterator<Item = &TargetKey> {
        self.needs.keys()
    }

    /// The mapped keys that the templates name, whether or not they come to be used.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<&str> {
        self.needs.values().flatten().map(String::as_str).collect()
    }

    /// Renders all templates over the mapped keys.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] for the first template (in the order of keys) that fails.
    pub fn render(&self, keys: &BTreeMap<TargetKey, Value>) -> Result<BTreeMap<TargetKey, Value>, TemplateError> {
        let misused = Misuse::default();
        let mut variables = filters::computed(keys, &misused);
        let bindery = BTreeMap::from([("keys".to_owned(), Computed::from_object(variables.clone()))]);
        variables.insert("bindery".to_owned(), Computed::from_object(bindery));
        let variables = Computed::from_object(variables);

        let mut environment = self.environment.clone();
        let mut fuel = FUEL;
        let mut room = MAX_OUTPUT_BYTES;
        let mut rendered = BTreeMap::new();
        for (key, needs) in &self.needs {
            let fail = |line, fault| TemplateError { key: key.clone(), line, fault };
            environment.set_fuel(Some(fuel));
            let mut output = Output { buffer: Buffer::default(), room, full: false };
            let result = environment
                .get_template(key.as_str())
                .and_then(|template| template.render_captured_to(variables.clone(), &mut output))
                .map(|captured| captured.state().fuel_levels());
            match result {
                Err(_) if output.full => return Err(fail(None, TemplateFault::TooLarge)),
                Err(error) => {
                    let missing = || needs.iter().filter(|name| !keys.contains_key(name.as_str())).cloned().collect();
                    return Err(fail(error.line(), misused.fault().unwrap_or_else(|| fault(&error, missing))));
                }
                Ok(levels) => fuel = levels.map_or(0, |(_, remaining)| remaining),
            }
            if let Some(fault) = misused.fault() {
                return Err(fail(None, fault));
            }
            room -= output.buffer.len();
            rendered.insert(key.clone(), output.buffer.into());
        }
        Ok(rendered)
    }
}

/// Tells an error of the engine without using its text, which can quote a value.
fn fault(error: &minijinja::Error, missing: impl FnOnce() -> Vec<String>) -> TemplateFault {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(fault) = error.downcast_ref::<TemplateFault>() {
            return fault.clone();
        }
        source = error.source();
    }
    match error.kind() {
        ErrorKind::UndefinedError => TemplateFault::Undefined { missing: missing() },
        ErrorKind::OutOfFuel => TemplateFault::OutOfFuel,
        ErrorKind::TooManyArguments => TemplateFault::Operation("a filter or test is given too many arguments"),
        ErrorKind::MissingArgument => TemplateFault::Operation("a filter or test lacks an argument"),
        ErrorKind::UnknownFilter => TemplateFault::Operation("a filter does not exist"),
        ErrorKind::UnknownTest => TemplateFault::Operation("a test does not exist"),
        ErrorKind::CannotUnpack => {
            TemplateFault::Operation("`for KEY, VALUE` needs pairs, such as `bindery.keys | items`")
        }
        _ => TemplateFault::Operation("an operation is not possible with the value it is given"),
    }
}

/// Takes what a template writes, up to the room there is.
struct Output {
    buffer: Buffer,
    room: usize,
    full: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > self.room {
            self.full = true;
            return Err(io::Error::other("no room"));
        }
        self.buffer.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
