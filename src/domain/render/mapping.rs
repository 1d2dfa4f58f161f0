//! From the payloads of all sources to all keys of the target Secret, or one error.
//!
//! The rules, each shown with an example in `docs/mapping.md`:
//!
//! 1. `dataFrom` entries give the members of whole JSON objects, in order; a later entry wins over an earlier one.
//!    `include` and `exclude` choose by the JSON key, then `prefix` is put before it, then `keyFormat` makes the name.
//! 2. `data` entries give single keys and win over `dataFrom`.
//! 3. Templates are rendered over these keys; what they give is added and wins, or with `templateOnly` is all there is.
//! 4. The result must have the required keys, at least one key, and the size of a Kubernetes Secret; with `textOnly` each
//!    value must be text.
//!
//! A result without any key is an error ([`RenderError::NothingToPublish`]), not an empty Secret: it comes from a
//! pattern that matches nothing or a payload that lost its members far more often than from a wish, and no failure may
//! shrink a published Secret.

pub mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::domain::alike::alike;
use crate::domain::payload::Payload;
use crate::domain::payload::absence::Absence;
use crate::domain::payload::object::{Field, Object, ReadTexts};
use crate::domain::render::encoding::Encoding;
use crate::domain::render::glob::Glob;
use crate::domain::render::key::{KeyFormat, TargetKey};
use crate::domain::render::mapping::error::{MAX_SECRET_BYTES, PayloadFault, RenderError};
use crate::domain::render::template::Template;
use crate::domain::render::text::text_fault;
use crate::domain::secret::reference::Source;
use crate::domain::value::Value;

/// Raised whenever the same mapping and payloads give another result than before, so that what was published by an
/// older program is rendered anew.
pub const RENDER_REVISION: u32 = 2;

/// The steps that a mapping may take to find what it takes, about a twentieth of a second: a character that a pattern is
/// compared with, or a byte of a text that is JSON, each text once. As people write them they take a thousandth of that.
const MAX_STEPS: u64 = 20_000_000;

/// The sources of the keys of the target Secret.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// `spec.dataFrom`: whole JSON objects.
    pub data_from: Vec<Extract>,
    /// `spec.data`: single keys.
    pub data: Vec<MappingEntry>,
    /// `spec.target.template`.
    pub template: Option<Template>,
    /// `spec.target.templateOnly`: publish only what the templates give.
    pub template_only: bool,
    /// `spec.target.requiredKeys`: keys that must be published and not empty.
    pub required_keys: BTreeSet<TargetKey>,
    /// `spec.target.textOnly`: every value must be one that an environment variable can have.
    pub text_only: bool,
}

/// One entry of `spec.dataFrom`: members of a JSON object, each under its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// The secret and version of the object.
    pub source: Source,
    /// Members to take: those that one of these matches, or all if there is none.
    pub include: Vec<Glob>,
    /// Members to leave out, included or not.
    pub exclude: Vec<Glob>,
    /// What to put before each name.
    pub prefix: String,
    /// The form of the names, prefix included.
    pub key_format: KeyFormat,
}

/// One entry of `spec.data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingEntry {
    /// The key in the target Secret.
    pub key: TargetKey,
    /// The secret and version.
    pub source: Source,
    /// The JSON key (a name or JSON Pointer, see [`Object::field`]); without one, the whole payload.
    pub json_key: Option<String>,
    /// The encoding to undo.
    pub encoding: Encoding,
    /// Whether the JSON key may be absent; then this entry gives nothing. Nothing else is excused.
    pub optional: bool,
}

/// What is to be published. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Rendered {
    /// The values, by key.
    pub data: BTreeMap<TargetKey, Value>,
    /// The origin of each mapped key, also of keys that `templateOnly` does not publish. Keys that only a template gives
    /// have none.
    pub origins: BTreeMap<TargetKey, Origin>,
    used: BTreeMap<Source, UsedKeys>,
}

/// The origin of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The secret and version.
    pub source: Source,
    /// The JSON key; none for the whole payload.
    pub json_key: Option<String>,
}

/// What was selected from one source, for the audit record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedKeys {
    /// Whether the whole payload was selected.
    pub whole: bool,
    /// The JSON keys that were selected and are not absent, JSON Pointers as they were written.
    pub keys: BTreeSet<String>,
}

/// Whether the reader may have a member of a source's JSON object.
type Allowed<'a> = dyn Fn(&Source, &str) -> bool + 'a;

impl Mapping {
    /// Whether the mapping names this key of the target itself, and does not only take it by a pattern.
    #[must_use]
    pub fn names(&self, key: &str) -> bool {
        let by_extract = |extract: &Extract| {
            let member = key.strip_prefix(extract.prefix.as_str());
            member.is_some_and(|member| extract.include.iter().any(|glob| glob.is_literal() && glob.as_str() == member))
        };
        self.data.iter().any(|entry| entry.key.as_str() == key)
            || self.template.iter().flat_map(Template::keys).any(|made| made.as_str() == key)
            || self.data_from.iter().any(by_extract)
    }

    /// The sources to read, each once.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<Source> {
        let extracts = self.data_from.iter().map(|extract| &extract.source);
        extracts.chain(self.data.iter().map(|entry| &entry.source)).cloned().collect()
    }

    /// Renders everything: [`Mapping::select`] with every member allowed, then [`Mapping::complete`].
    ///
    /// # Errors
    ///
    /// As those two.
    pub fn render(&self, payloads: &BTreeMap<Source, Payload>) -> Result<Rendered, RenderError> {
        let selected = self.select(|source| payloads.get(source), &|_, _| true)?;
        self.complete(selected)
    }

    /// Takes the keys of `dataFrom` and `data` from the payloads (rules 1 and 2).
    ///
    /// `allowed` decides on each member of a JSON object before its value is read. `dataFrom` skips a member that is not
    /// allowed; a `data` entry that reaches one is an error. Whole payloads are not subject to `allowed`.
    ///
    /// # Errors
    ///
    /// [`RenderError`] for the first entry that cannot be satisfied.
    pub fn select<'p>(
        &self,
        payload: impl Fn(&Source) -> Option<&'p Payload>,
        allowed: &Allowed<'_>,
    ) -> Result<Rendered, RenderError> {
        let (mut selected, mut steps) = (Rendered::default(), MAX_STEPS);
        let mut texts: BTreeMap<&Source, ReadTexts> = BTreeMap::new();
        for (index, extract) in self.data_from.iter().enumerate() {
            let at = format!("spec.dataFrom[{index}]");
            let payload = payload(&extract.source).ok_or_else(|| not_read(&at, &extract.source))?;
            let members = extract.members(object(payload, &at, &extract.source)?, &mut steps);
            let members = members.ok_or_else(|| too_costly(&at, &extract.source))?;
            extract.select(&at, &members, allowed, &mut selected)?;
        }
        for entry in &self.data {
            let payload = payload(&entry.source).ok_or_else(|| not_read(&entry.at(), &entry.source))?;
            let texts = texts.entry(&entry.source).or_default();
            if let Some(value) = entry.select(payload, allowed, texts, &mut steps)? {
                selected.put(entry.key.clone(), value, &entry.source, entry.json_key.as_deref());
            }
        }
        Ok(selected)
    }

    /// Adds what the templates give and checks the result (rules 3 and 4). Between [`Mapping::select`] and this, keys
    /// may be added to `data`; templates see them.
    ///
    /// # Errors
    ///
    /// [`RenderError`] if a template fails, a required key is missing, or there is nothing or too much to publish.
    pub fn complete(&self, mut selected: Rendered) -> Result<Rendered, RenderError> {
        let computed = match &self.template {
            Some(template) => template.render(&selected.data)?,
            None => BTreeMap::new(),
        };
        if self.template_only {
            selected.data = computed;
        } else {
            selected.data.extend(computed);
        }
        let lacks = |test: fn(Option<&Value>) -> bool| -> Vec<TargetKey> {
            self.required_keys.iter().filter(|key| test(selected.data.get(*key))).cloned().collect()
        };
        let absent: Vec<TargetKey> = lacks(|value| value.is_none());
        let empty = lacks(|value| value.is_some_and(|value| value.expose().is_empty()));
        if !absent.is_empty() || !empty.is_empty() {
            let names = || selected.data.keys().map(TargetKey::as_str);
            let alike = absent.iter().find_map(|key| alike(key.as_str(), names()));
            return Err(RenderError::RequiredKeyMissing { absent, empty, alike });
        }
        let Some((largest, _)) = selected.data.iter().max_by_key(|(_, value)| value.expose().len()) else {
            return Err(RenderError::NothingToPublish);
        };
        let total = selected.data.values().map(|value| value.expose().len()).sum();
        if total > MAX_SECRET_BYTES {
            return Err(RenderError::TooLarge { total, largest: largest.clone() });
        }
        if self.text_only
            && let Some((key, problem)) = selected.data.iter().find_map(|(key, value)| Some((key, text_fault(value)?)))
        {
            return Err(RenderError::InvalidValue { key: key.clone(), problem });
        }
        Ok(selected)
    }
}

fn not_read(at: &str, source: &Source) -> RenderError {
    RenderError::NotRead { at: at.to_owned(), secret: source.to_string() }
}

fn too_costly(at: &str, source: &Source) -> RenderError {
    RenderError::TooCostly { at: at.to_owned(), secret: source.to_string() }
}

/// The object of a payload, or the error that says who needs one.
fn object<'p>(payload: &'p Payload, at: &str, source: &Source) -> Result<Object<'p>, RenderError> {
    payload.object().map_err(|error| RenderError::InvalidPayload {
        at: at.to_owned(),
        secret: source.to_string(),
        key: None,
        problem: PayloadFault::Json(error),
    })
}

/// The absence of a JSON key, with a member of the object that looks alike and that the reader may know of.
fn with_alike(absence: Absence, key: &str, object: Object<'_>, allowed: &dyn Fn(&str) -> bool) -> Absence {
    match absence {
        Absence::Nothing { alike: None } if object.root(key).is_none() => {
            let names = object.iter().map(|field| field.key()).filter(|name| allowed(name));
            Absence::Nothing { alike: alike(key, names) }
        }
        absence => absence,
    }
}

impl Extract {
    /// The members that it takes; `None` where the patterns need more steps than are left.
    fn members<'p>(&self, object: Object<'p>, steps: &mut u64) -> Option<Vec<Field<'p>>> {
        let mut matches = |globs: &[Glob], member: &str| {
            globs
                .iter()
                .map(|glob| glob.matches_within(member, steps))
                .find(|found| *found != Some(false))
                .unwrap_or(Some(false))
        };
        let mut members = Vec::new();
        for field in object.iter() {
            let included = self.include.is_empty() || matches(&self.include, field.key())?;
            if included && !matches(&self.exclude, field.key())? {
                members.push(field);
            }
        }
        Some(members)
    }

    fn select(
        &self,
        at: &str,
        members: &[Field<'_>],
        allowed: &Allowed<'_>,
        selected: &mut Rendered,
    ) -> Result<(), RenderError> {
        let mut given: BTreeMap<TargetKey, &str> = BTreeMap::new();
        for field in members {
            if !allowed(&self.source, field.key()) {
                continue;
            }
            let Some(value) = field.value() else { continue };
            let name = self.key_format.name(&self.prefix, field.key());
            let key = TargetKey::try_from(name.as_str()).map_err(|problem| RenderError::InvalidKey {
                at: at.to_owned(),
                secret: self.source.to_string(),
                key: name,
                problem,
            })?;
            if let Some(first) = given.insert(key.clone(), field.key()) {
                let keys = [first.to_owned(), field.key().to_owned()];
                return Err(RenderError::KeysClash {
                    at: at.to_owned(),
                    secret: self.source.to_string(),
                    keys,
                    name: key,
                });
            }
            selected.put(key, value, &self.source, Some(field.key()));
        }
        Ok(())
    }
}

impl MappingEntry {
    fn at(&self) -> String {
        format!("spec.data[{}]", self.key)
    }

    fn select(
        &self,
        payload: &Payload,
        allowed: &Allowed<'_>,
        texts: &mut ReadTexts,
        steps: &mut u64,
    ) -> Result<Option<Value>, RenderError> {
        let at = self.at();
        let secret = || self.source.to_string();
        let value = match &self.json_key {
            None => payload.whole(),
            Some(json_key) => {
                let object = object(payload, &at, &self.source)?;
                if let Some(member) = object.root(json_key)
                    && !allowed(&self.source, member)
                {
                    let (key, member) = (json_key.clone(), member.to_owned());
                    return Err(RenderError::KeyRefused { at, secret: secret(), key, member });
                }
                match object.find_within(json_key, texts, steps) {
                    Ok(value) => value,
                    // Of a text that is cut or damaged nobody knows whether the key is absent.
                    Err(Absence::Malformed { pointer, error }) => {
                        let problem = PayloadFault::Text(error);
                        return Err(RenderError::InvalidPayload { at, secret: secret(), key: Some(pointer), problem });
                    }
                    Err(Absence::TooCostly) => return Err(too_costly(&at, &self.source)),
                    Err(_) if self.optional => return Ok(None),
                    Err(absence) => {
                        let allowed = |member: &str| allowed(&self.source, member);
                        let why = Box::new(with_alike(absence, json_key, object, &allowed));
                        let key = json_key.clone();
                        return Err(RenderError::KeyNotFound { at, secret: secret(), key, why });
                    }
                }
            }
        };
        let value = self.encoding.decode(value).map_err(|error| RenderError::InvalidPayload {
            at: at.clone(),
            secret: secret(),
            key: self.json_key.clone(),
            problem: PayloadFault::Encoding(error),
        })?;
        Ok(Some(value))
    }
}

impl Rendered {
    /// What was selected from each source, also of values that something else then won over.
    #[must_use]
    pub fn used_keys(&self) -> &BTreeMap<Source, UsedKeys> {
        &self.used
    }

    fn put(&mut self, key: TargetKey, value: Value, source: &Source, json_key: Option<&str>) {
        let used = self.used.entry(source.clone()).or_default();
        match json_key {
            Some(json_key) => {
                used.keys.insert(json_key.to_owned());
            }
            None => used.whole = true,
        }
        let origin = Origin { source: source.clone(), json_key: json_key.map(str::to_owned) };
        self.origins.insert(key.clone(), origin);
        self.data.insert(key, value);
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.data.keys()).finish()
    }
}

#[cfg(test)]
mod doc_tests;
#[cfg(test)]
mod tests;
