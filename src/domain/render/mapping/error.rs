//! Why a mapping gives no result, in words for its user.

use std::fmt;

use crate::domain::payload::absence::Absence;
use crate::domain::payload::error::{PayloadError, PayloadProblem};
use crate::domain::quoted::Quoted;
use crate::domain::render::encoding::DecodeError;
use crate::domain::render::key::{KeyError, TargetKey};
use crate::domain::render::template::error::TemplateError;
use crate::domain::render::text::TextFault;

/// The most bytes that the values of a Secret may have together (`MaxSecretSize` in `k8s.io/api/core/v1`).
pub const MAX_SECRET_BYTES: usize = 1_048_576;

/// Why nothing can be published. With one of these the last good values stay; none carries a piece of a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A payload, or the value of one key, is not what the binding takes it for.
    #[error("the secret {secret}{} cannot be used by {at}: {problem}", OfKey(.key.as_deref()))]
    InvalidPayload {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
        /// The JSON key, where one value is at fault.
        key: Option<String>,
        /// What is wrong.
        problem: PayloadFault,
    },
    /// A JSON key is absent or `null`.
    #[error(
        "the secret {secret} has no key {}{why} ({at}): add it to the secret, correct the name, or set `optional: true`",
        Quoted(.key)
    )]
    KeyNotFound {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
        /// The JSON key.
        key: String,
        /// Why it selects nothing.
        why: Box<Absence>,
    },
    /// The grant does not allow the member that a JSON key reaches.
    #[error(
        "the key {} of the secret {secret} lies in {}, which the grant does not allow ({at}): ask for it in the \
         SecretGrant, or take another key",
        Quoted(.key), Quoted(.member)
    )]
    KeyRefused {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
        /// The JSON key.
        key: String,
        /// The member of the JSON object that it reaches.
        member: String,
    },
    /// The name of a JSON member cannot be the name of a key.
    #[error("the key {} of the secret {secret} cannot be published under this name ({at}): {problem}{}", Quoted(.key), cure(.problem))]
    InvalidKey {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
        /// The name, prefix included.
        key: String,
        /// What is wrong with it.
        problem: KeyError,
    },
    /// Two JSON keys of one secret get the same name.
    #[error(
        "the keys {} and {} of the secret {secret} both become {name} ({at}): leave one out with `exclude`, rename it in the \
         secret, or give it a name with a `data` entry",
        Quoted(&.keys[0]), Quoted(&.keys[1])
    )]
    KeysClash {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
        /// The JSON keys.
        keys: [String; 2],
        /// The name that both get.
        name: TargetKey,
    },
    /// A key with an overlap is not among the mapped keys.
    #[error(
        "spec.rotation: the key {key} has an overlap and no entry of data or dataFrom gives it: map it, or correct the rule"
    )]
    OverlapKeyMissing {
        /// The key.
        key: TargetKey,
    },
    /// The mapping gives the key under which an overlap publishes its second value.
    #[error(
        "spec.rotation: the overlap of {key} publishes {name}, which the mapping gives too: leave it out with `exclude`, \
         or give the overlap another nextKey or previousKey"
    )]
    OverlapKeyTaken {
        /// The key with the overlap.
        key: TargetKey,
        /// The key that both give.
        name: TargetKey,
    },
    /// A template failed.
    #[error("spec.target.template: {0}")]
    TemplateFailed(#[from] TemplateError),
    /// Required keys are absent or empty.
    #[error(
        "spec.target.requiredKeys: {}{}: correct the secret, the mapping or the list",
        Lacking { absent, empty }, But(.alike.as_deref())
    )]
    RequiredKeyMissing {
        /// Those that no entry gives.
        absent: Vec<TargetKey>,
        /// Those whose value is empty.
        empty: Vec<TargetKey>,
        /// A key that is published and looks like one that is absent.
        alike: Option<String>,
    },
    /// There is no key at all.
    #[error(
        "spec: the mapping gives no key at all (nothing matches `include`, everything is excluded, optional or null): \
         correct the mapping or the secret"
    )]
    NothingToPublish,
    /// The values are larger than a Secret can be.
    #[error(
        "the values have {total} bytes together and a Kubernetes Secret holds {MAX_SECRET_BYTES}; the largest is \
         {largest}: publish fewer keys, or several Secrets"
    )]
    TooLarge {
        /// The bytes of all values together.
        total: usize,
        /// The key with the largest value.
        largest: TargetKey,
    },
    /// The patterns take too long on the names of the members, or the JSON Pointers on the texts that they lead into.
    #[error(
        "it takes too long to find what the binding takes of the secret {secret}, up to {at}: use fewer or shorter patterns, \
         fewer JSON Pointers into texts that are JSON, or shorter names and texts in the secret"
    )]
    TooCostly {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
    },
    /// A value is no text, and `textOnly` wants text.
    #[error(
        "the value of {} cannot be the value of an environment variable, which spec.target.textOnly wants: {problem}; \
         correct it in Secrets Manager, publish the key through another binding and mount it as a file, or remove textOnly",
        Quoted(.key.as_str())
    )]
    InvalidValue {
        /// The key.
        key: TargetKey,
        /// What is wrong with its value.
        problem: TextFault,
    },
    /// No payload was given for a source of the mapping.
    #[error("the secret {secret} ({at}) has not been read yet: it will be tried again")]
    NotRead {
        /// The field of the binding.
        at: String,
        /// The secret.
        secret: String,
    },
}

/// What is wrong with a payload or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadFault {
    /// It must be a JSON object and is none.
    #[error("a JSON object is needed and {_0}; correct it in Secrets Manager{hint}", hint = OrWhole(_0.problem))]
    Json(PayloadError),
    /// A JSON Pointer leads into it, and it is malformed.
    #[error("its text is meant to be JSON and {_0}, counted within that text; correct it in Secrets Manager")]
    Text(PayloadError),
    /// It must be Base64 and is none.
    #[error("{0}; correct it in Secrets Manager, or remove `encoding: Base64`")]
    Encoding(DecodeError),
}

struct OrWhole(PayloadProblem);

impl fmt::Display for OrWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_other_content() {
            f.write_str(", or publish it whole with a `data` entry without a JSON key")?;
        }
        Ok(())
    }
}

struct But<'a>(Option<&'a str>);

impl fmt::Display for But<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |alike| write!(f, ", but there is {}, which looks alike", Quoted(alike)))
    }
}

struct OfKey<'a>(Option<&'a str>);

impl fmt::Display for OfKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |key| write!(f, ", key {},", Quoted(key)))
    }
}

struct Lacking<'a> {
    absent: &'a [TargetKey],
    empty: &'a [TargetKey],
}

impl fmt::Display for Lacking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let all = self.absent.iter().map(|key| (key, "absent")).chain(self.empty.iter().map(|key| (key, "empty")));
        for (index, (key, how)) in all.take(SHOWN).enumerate() {
            write!(f, "{}{} is {how}", if index > 0 { ", " } else { "" }, Quoted(key.as_str()))?;
        }
        match (self.absent.len() + self.empty.len()).saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more are"),
        }
    }
}

/// What cures a name that `dataFrom` makes, where the problem does not say it itself.
const fn cure(problem: &KeyError) -> &'static str {
    match problem {
        KeyError::Character { .. } => ": rename it with a `data` entry, or leave it out with `exclude`",
        KeyError::Empty | KeyError::TooLong { .. } | KeyError::Directory => "",
    }
}
