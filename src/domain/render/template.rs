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

pub mod error;
mod filters;
mod language;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value as Computed};

use crate::domain::alike::alike;
use crate::domain::render::key::TargetKey;
use crate::domain::render::template::error::{
    MAX_OUTPUT_BYTES, MAX_SOURCE_BYTES, TemplateError, TemplateFault, TemplateSyntaxError,
};
use crate::domain::render::template::filters::Misuse;
use crate::domain::value::{Buffer, Value};

/// The work that rendering all templates of a binding may take, in the engine's unit: an instruction, or 64 bytes
/// read or made. Reading and making the largest possible Secret in several steps takes a quarter of it.
const FUEL: u64 = 400_000;

/// How deep blocks may be nested while rendering.
const MAX_NESTING: usize = 200;

/// The templates of a binding, by the key they give, checked. Their text is kept and compiled again where it is rendered: a
/// compiled template is thirty times as large, and many reconciles wait at once.
#[derive(Clone)]
pub struct Template {
    sources: BTreeMap<TargetKey, Source>,
}

/// A template.
#[derive(Clone)]
struct Source {
    text: String,
    /// The mapped keys that it names.
    needs: BTreeSet<String>,
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
        let (mut parsed, mut room) = (BTreeMap::new(), MAX_SOURCE_BYTES);
        for (name, source) in sources {
            let key = TargetKey::try_from(name.as_str())
                .map_err(|problem| TemplateSyntaxError::Key { key: name.clone(), problem })?;
            let Some(left) = room.checked_sub(source.len()) else {
                return Err(TemplateSyntaxError::TooLong { key });
            };
            room = left;
            let outline = match language::check(source) {
                Ok(outline) => outline,
                Err(language::Refusal { line, reason }) => {
                    return Err(TemplateSyntaxError::Syntax { key, line, problem: reason });
                }
            };
            if let Err(error) = ENGINE.template_from_str(source) {
                // There are no values yet that the engine's text could quote.
                let problem = error.detail().unwrap_or("it is malformed").chars().take(200).collect();
                return Err(TemplateSyntaxError::Syntax { key, line: error.line().unwrap_or(1), problem });
            }
            parsed.insert(key, Source { text: source.clone(), needs: outline.keys });
        }
        Ok(Self { sources: parsed })
    }

    /// The keys that the templates give.
    pub fn keys(&self) -> impl Iterator<Item = &TargetKey> {
        self.sources.keys()
    }

    /// The mapped keys that the templates name, whether or not they come to be used.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<&str> {
        self.sources.values().flat_map(|source| &source.needs).map(String::as_str).collect()
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

        let mut environment = ENGINE.clone();
        let mut fuel = FUEL;
        let mut room = MAX_OUTPUT_BYTES;
        let mut rendered = BTreeMap::new();
        for (key, Source { text, needs }) in &self.sources {
            let fail = |line, fault| TemplateError { key: key.clone(), line, fault };
            environment.set_fuel(Some(fuel));
            let mut output = Output { buffer: Buffer::default(), room, full: false };
            let result = environment
                .template_from_str(text)
                .and_then(|template| template.render_captured_to(variables.clone(), &mut output))
                .map(|captured| captured.state().fuel_levels());
            match result {
                Err(_) if output.full => return Err(fail(None, TemplateFault::TooLarge)),
                Err(error) => {
                    let missing = || undefined(needs, keys);
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

/// The names that are no mapped keys, with a mapped key that one of them may mean.
fn undefined(needs: &BTreeSet<String>, keys: &BTreeMap<TargetKey, Value>) -> TemplateFault {
    let missing: Vec<String> = needs.iter().filter(|name| !keys.contains_key(name.as_str())).cloned().collect();
    let names = || keys.keys().map(TargetKey::as_str);
    let begun = |name: &String| {
        names().find(|key| key.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['.', '-'])))
    };
    let meant = |name: &String| alike(name, names()).or_else(|| begun(name).map(str::to_owned));
    let alike = missing.iter().find_map(meant);
    TemplateFault::Undefined { missing, alike }
}

/// The fault of an engine's error, without its text, which can quote a value.
fn fault(error: &minijinja::Error, missing: impl FnOnce() -> TemplateFault) -> TemplateFault {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(fault) = error.downcast_ref::<TemplateFault>() {
            return fault.clone();
        }
        source = error.source();
    }
    match error.kind() {
        ErrorKind::UndefinedError => missing(),
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
