//! New random values for secrets: the next call to Secrets Manager as a function of its state. Pure.
//!
//! The end of the operator or of the network may interrupt a rotation after any call. The state at AWS alone says how it
//! goes on:
//!
//! 1. Each secret gets a version with the new value under the label [`PENDING`], on top of the version in force.
//! 2. AWSCURRENT moves to it from the version that it is built upon. If AWSCURRENT has left that version, step 1 is
//!    repeated for the secret, with the same value.
//! 3. Once all secrets have the value in force, the label is removed.
//!
//! The id of a new version is a hash of the secret, the keys, the due time and the version that it is built upon
//! ([`Ticket`]). So the id identifies the rotation, and no version is made twice. Once the labels are removed and somebody
//! has edited the secret, only the age of its key shows the rotation: a new value is drawn only if the key is due by its
//! age.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use zeroize::Zeroizing;

use crate::api::GenerateEncoding;
use crate::domain::fingerprint::hex;
use crate::domain::rotation::job::digest;
use crate::domain::rotation::rule::Recipe;
use crate::domain::value::{Buffer, Value};

/// The label of a version that is not in force yet. AWSPENDING belongs to rotation functions ([AWS][rotation]).
///
/// [rotation]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
pub const PENDING: &str = "BinderyPending";

/// Letters and digits.
const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// A source of random bytes.
pub type Random<'a> = dyn FnMut(&mut [u8]) -> Result<(), NoRandomness> + Send + 'a;

/// A new value.
///
/// # Errors
/// If `random` gives nothing.
pub fn value(recipe: Recipe, random: &mut Random<'_>) -> Result<Value, NoRandomness> {
    let mut bytes = Zeroizing::new(vec![0; recipe.bytes]);
    match recipe.encoding {
        GenerateEncoding::Base64 => {
            random(&mut bytes)?;
            Ok(Value::from(STANDARD.encode(bytes.as_slice())))
        }
        GenerateEncoding::Hex => {
            random(&mut bytes)?;
            Ok(Value::from(hex(&bytes)))
        }
        GenerateEncoding::Alphanumeric => {
            let mut text = Buffer::with_capacity(recipe.bytes);
            while text.len() < recipe.bytes {
                random(&mut bytes)?;
                // Six bits have 64 values. Two of them are no characters and are drawn again, so that all characters are
                // equally likely.
                let drawn = bytes.iter().filter_map(|byte| ALPHANUMERIC.get(usize::from(byte & 63)));
                for character in drawn.take(recipe.bytes - text.len()) {
                    text.extend(std::slice::from_ref(character));
                }
            }
            Ok(text.into())
        }
    }
}

/// The common part of the version ids that one rotation writes to one secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(String);

impl Ticket {
    /// The ticket of a secret, its ruled JSON keys and their due time.
    #[must_use]
    pub fn new(arn: &str, keys: &[String], due: Timestamp) -> Self {
        let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        keys.sort_unstable();
        let due = due.to_string();
        Self(half([arn, due.as_str()].into_iter().chain(keys)))
    }

    /// The id of the version that is built upon `base`: 64 characters, as many as AWS takes.
    #[must_use]
    pub fn token(&self, base: &str) -> String {
        format!("{}{}", self.0, half([self.0.as_str(), base]))
    }

    /// Whether a version was made for this rotation.
    #[must_use]
    pub fn made(&self, version_id: &str) -> bool {
        version_id.len() == 2 * self.0.len() && version_id.starts_with(&self.0)
    }
}

fn half<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    hex(&digest(parts)[..16])
}

/// The number of the new value that a key gets. Keys with the same number get the same value.
pub type Slot = usize;

/// A version as it was read, reduced to the ruled keys.
#[derive(Clone, Debug)]
pub struct SeenVersion {
    /// Its id.
    pub id: String,
    /// The value of each ruled key.
    pub values: Vec<(Slot, Value)>,
}

/// A secret as it was read.
#[derive(Clone, Debug)]
pub struct SeenSecret {
    /// The ticket of this rotation for it.
    pub ticket: Ticket,
    /// The version at AWSCURRENT.
    pub current: SeenVersion,
    /// The version at [`PENDING`], or another that this rotation wrote.
    pub pending: Option<SeenVersion>,
}

impl SeenSecret {
    /// The version with this rotation's values; the one in force comes first.
    fn made(&self) -> Option<&SeenVersion> {
        let versions = [Some(&self.current), self.pending.as_ref()];
        versions.into_iter().flatten().find(|version| self.ticket.made(&version.id))
    }

    /// Records a step that AWS took, in a secret whose keys get the values of these slots.
    pub fn record(&mut self, step: &GenerationStep, slots: &[Slot], values: &BTreeMap<Slot, Value>) {
        match step {
            GenerationStep::Put { token, .. } => {
                let values = slots.iter().filter_map(|slot| Some((*slot, values.get(slot)?.clone()))).collect();
                self.pending = Some(SeenVersion { id: token.clone(), values });
            }
            GenerationStep::Move { .. } => {
                if let Some(pending) = &self.pending {
                    self.current = pending.clone();
                }
            }
            GenerationStep::Unlabel { .. } => self.pending = None,
            GenerationStep::Done => {}
        }
    }

    /// Whether the new values are in force.
    fn is_settled(&self, known: &BTreeMap<Slot, Value>) -> bool {
        self.ticket.made(&self.current.id) || has_values(&self.current, known)
    }

    /// The pending version, if it is built upon the one in force.
    fn ready(&self) -> Option<&SeenVersion> {
        self.pending.as_ref().filter(|pending| pending.id == self.ticket.token(&self.current.id))
    }
}

fn has_values(version: &SeenVersion, known: &BTreeMap<Slot, Value>) -> bool {
    version.values.iter().all(|(slot, value)| known.get(slot).is_some_and(|known| known.expose() == value.expose()))
}

/// The values of this rotation that AWS has already. If several secrets have different values for a slot, which only a
/// person can cause, a value in force wins.
#[must_use]
pub fn known(secrets: &[SeenSecret]) -> BTreeMap<Slot, Value> {
    let in_force = |secret: &&SeenSecret| secret.ticket.made(&secret.current.id);
    let (first, then): (Vec<_>, Vec<_>) = secrets.iter().partition(in_force);
    let mut known = BTreeMap::new();
    for version in first.into_iter().chain(then).filter_map(SeenSecret::made) {
        for (slot, value) in &version.values {
            known.entry(*slot).or_insert_with(|| value.clone());
        }
    }
    known
}

/// The next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GenerationStep {
    /// Write a version on top of the one in force, under this id and [`PENDING`].
    Put {
        /// The secret.
        secret: usize,
        /// The id.
        token: String,
    },
    /// Move AWSCURRENT.
    Move {
        /// The secret.
        secret: usize,
        /// The version that has it.
        from: String,
        /// The version that gets it.
        to: String,
    },
    /// Take [`PENDING`] off.
    Unlabel {
        /// The secret.
        secret: usize,
        /// The version that has it.
        version: String,
    },
    /// Nothing is left to do.
    Done,
}

/// The next call, given all secrets of the rotation and the values that are [`known`], with those that were drawn for
/// slots that are not.
///
/// AWSCURRENT is moved only when every secret has a version with its value, and labels go only when all have it in
/// force: so the value can be had from AWS as long as any secret lacks it.
#[must_use]
pub fn next(secrets: &[SeenSecret], known: &BTreeMap<Slot, Value>) -> GenerationStep {
    for (secret, seen) in secrets.iter().enumerate() {
        if !seen.is_settled(known) && seen.ready().is_none_or(|ready| !has_values(ready, known)) {
            return GenerationStep::Put { secret, token: seen.ticket.token(&seen.current.id) };
        }
    }
    for (secret, seen) in secrets.iter().enumerate() {
        if let (false, Some(ready)) = (seen.is_settled(known), seen.ready()) {
            return GenerationStep::Move { secret, from: seen.current.id.clone(), to: ready.id.clone() };
        }
    }
    for (secret, seen) in secrets.iter().enumerate() {
        if let Some(pending) = seen.pending.as_ref().filter(|pending| seen.ticket.made(&pending.id)) {
            return GenerationStep::Unlabel { secret, version: pending.id.clone() };
        }
    }
    GenerationStep::Done
}

#[cfg(test)]
mod tests;
