//! The calls by which a new value comes into the secrets of a rule: look, take the next step, look again where anything
//! was not as it was seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aws::audit::ReadReason;
use crate::aws::read_request::{AnswerCheck, ReadRequest, Selection};
use crate::aws::reader::Reader;
use crate::aws::shared_version::SharedVersion;
use crate::aws::writer::{WriteAuthorization, Writer};
use crate::domain::payload::splice::SpliceError;
use crate::domain::rotation::generate::{
    GenerationStep, NoRandomness, PENDING, Random, SeenSecret, SeenVersion, Slot, Ticket, known, next, value,
};
use crate::domain::rotation::rule::Recipe;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::{AWSCURRENT, SecretId, Source, VersionSelector};
use crate::domain::value::Value;

/// Steps of one rotation. It takes three for each secret, and three more whenever somebody edits one meanwhile.
const MOST_STEPS: usize = 60;

/// A secret in which keys get new values.
#[derive(Clone)]
pub struct Place {
    /// The secret as its binding names it.
    pub secret: SecretId,
    /// For whom it is written; its `keys` are the JSON keys.
    pub mandate: WriteAuthorization,
    /// Which of the new values each of those keys gets.
    pub slots: Vec<Slot>,
    /// Asked after each read, whether the grant still allows it.
    pub judge: AnswerCheck,
}

impl Place {
    fn ticket(&self) -> Ticket {
        Ticket::new(&self.mandate.arn, &self.mandate.keys, self.mandate.due)
    }
}

/// What a rotation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All secrets have the new value in force.
    Done,
    /// It was not begun, since a key has another value than the one that was due.
    NotDue,
    /// Somebody changed a key by hand meanwhile.
    Overtaken {
        /// The secret.
        secret: String,
        /// The key.
        key: String,
    },
}

/// Why a rotation stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// AWS.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The payload.
    #[error("secret {0:?}: {1}")]
    Payload(String, SpliceError),
    /// Randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Others edit all the time.
    #[error("secret {0:?} was changed by others each time a new value was about to be put in force; it is tried again")]
    Busy(String),
}

/// The ways to AWS and to chance.
pub struct Hands<'a> {
    /// To the values.
    pub reader: &'a Reader,
    /// To write.
    pub writer: &'a Writer,
    /// How a value is made.
    pub recipe: Recipe,
    /// Where random bytes come from.
    pub random: &'a mut Random<'a>,
}

/// A place as it was last read.
struct Read {
    base: Arc<SharedVersion>,
    seen: SeenSecret,
}

/// Brings one new value for each slot into all places. `is_due` tells of a place, by its index, its JSON key and the
/// value there whether that is still the value that was judged due; it is asked before a value is made.
///
/// # Errors
/// The first call that fails. The next run goes on from what AWS has by then.
pub async fn generate(
    places: &[Place],
    is_due: &(dyn Fn(usize, &str, &Value) -> bool + Send + Sync),
    hands: Hands<'_>,
) -> Result<End, GenerateError> {
    let Hands { reader, writer, recipe, random } = hands;
    let mut reads: Vec<Read> = Vec::with_capacity(places.len());
    for place in places {
        reads.push(look(reader, place, None).await?);
    }
    let first: Vec<SeenVersion> = reads.iter().map(|read| read.seen.current.clone()).collect();
    let mut drawn: BTreeMap<Slot, Value> = BTreeMap::new();
    for _ in 0..MOST_STEPS {
        let seen: Vec<SeenSecret> = reads.iter().map(|read| read.seen.clone()).collect();
        let mut values = known(&seen);
        if values.is_empty() && drawn.is_empty() && !all_due(places, &seen, is_due) {
            return Ok(End::NotDue);
        }
        for slot in places.iter().flat_map(|place| &place.slots) {
            if !values.contains_key(slot) {
                if !drawn.contains_key(slot) {
                    drawn.insert(*slot, value(recipe, random)?);
                }
                values.insert(*slot, drawn[slot].clone());
            }
        }
        if let Some((index, key)) = overtaken(places, &seen, &first, &values) {
            return give_up(writer, &places[index], &seen[index], key).await;
        }
        let step = next(&seen, &values);
        let (index, outcome) = match &step {
            GenerationStep::Done => return Ok(End::Done),
            GenerationStep::Put { secret, token } => {
                (*secret, put(writer, &places[*secret], &reads[*secret], token, &values).await)
            }
            GenerationStep::Move { secret, from, to } => {
                let moved = writer.move_label(&places[*secret].mandate, AWSCURRENT, from, to).await;
                (*secret, moved.map_err(GenerateError::from))
            }
            GenerationStep::Unlabel { secret, version } => {
                let removed = writer.remove_label(&places[*secret].mandate, PENDING, version).await;
                (*secret, removed.map_err(GenerateError::from))
            }
        };
        let place = &places[index];
        match outcome {
            // What was taken is known without a look, but for an edit, which the next step meets.
            Ok(()) => reads[index].seen.record(&step, &place.slots, &values),
            Err(GenerateError::Source(error)) if error.kind == SourceErrorKind::StageMoved => {
                reads[index] = look(reader, place, None).await?;
            }
            // The version was written in an earlier run, whose value goes on.
            Err(GenerateError::Source(error)) if error.kind == SourceErrorKind::TokenTaken => {
                let GenerationStep::Put { token, .. } = &step else { return Err(error.into()) };
                reads[index] = look(reader, place, Some(token)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(GenerateError::Busy(places.first().map(|place| place.secret.to_string()).unwrap_or_default()))
}

fn all_due(
    places: &[Place],
    seen: &[SeenSecret],
    is_due: &(dyn Fn(usize, &str, &Value) -> bool + Send + Sync),
) -> bool {
    places.iter().zip(seen).enumerate().all(|(index, (place, seen))| {
        let mut keys = place.mandate.keys.iter().zip(&seen.current.values);
        keys.all(|(key, (_, value))| is_due(index, key, value))
    })
}

/// A place in which a key has neither the value of the first look nor the new one, since somebody has set another.
fn overtaken<'a>(
    places: &'a [Place],
    seen: &[SeenSecret],
    first: &[SeenVersion],
    values: &BTreeMap<Slot, Value>,
) -> Option<(usize, &'a str)> {
    places.iter().enumerate().find_map(|(index, place)| {
        let keys = place.mandate.keys.iter().zip(&seen[index].current.values).zip(&first[index].values);
        let mut foreign = keys.filter(|((_, (slot, value)), (_, old))| {
            value.expose() != old.expose() && values.get(slot).is_none_or(|new| new.expose() != value.expose())
        });
        foreign.next().map(|((key, _), _)| (index, key.as_str()))
    })
}

/// Leaves a secret to whoever has set its key, and takes back the label.
async fn give_up(writer: &Writer, place: &Place, seen: &SeenSecret, key: &str) -> Result<End, GenerateError> {
    if let Some(pending) = seen.pending.as_ref().filter(|pending| place.ticket().made(&pending.id)) {
        match writer.remove_label(&place.mandate, PENDING, &pending.id).await {
            Err(error) if error.kind != SourceErrorKind::StageMoved => return Err(error.into()),
            _ => {}
        }
    }
    Ok(End::Overtaken { secret: place.secret.to_string(), key: key.to_owned() })
}

async fn put(
    writer: &Writer,
    place: &Place,
    read: &Read,
    token: &str,
    values: &BTreeMap<Slot, Value>,
) -> Result<(), GenerateError> {
    let keys = place.mandate.keys.iter().zip(&place.slots);
    let new = keys.filter_map(|(key, slot)| Some((key.as_str(), values.get(slot)?.clone()))).collect();
    let text = read.base.payload.splice(&new).map_err(|error| unfit(place, error))?;
    Ok(writer.put(&place.mandate, token, &text, &[PENDING]).await?)
}

fn unfit(place: &Place, error: SpliceError) -> GenerateError {
    GenerateError::Payload(place.secret.to_string(), error)
}

/// Reads the version in force and the pending one: the one with the label, or the one of this id.
async fn look(reader: &Reader, place: &Place, token: Option<&str>) -> Result<Read, GenerateError> {
    let base = read(reader, place, VersionSelector::default()).await?;
    let pending = match token {
        Some(token) => VersionSelector::Id(token.to_owned()),
        None => VersionSelector::Stage(PENDING.to_owned()),
    };
    let pending = match read(reader, place, pending).await {
        Ok(pending) => Some(pending),
        Err(error) if error.kind == SourceErrorKind::VersionNotFound => None,
        Err(error) => return Err(error.into()),
    };
    let ticket = place.ticket();
    let current = seen_version(place, &base)?;
    // What is pending for anything else may be of any form.
    let pending = pending.filter(|pending| ticket.made(&pending.version_id));
    let pending = pending.map(|pending| seen_version(place, &pending)).transpose()?;
    Ok(Read { base, seen: SeenSecret { ticket, current, pending } })
}

fn seen_version(place: &Place, version: &SharedVersion) -> Result<SeenVersion, GenerateError> {
    let texts = version.payload.texts(place.mandate.keys.iter().map(String::as_str));
    let texts = texts.map_err(|error| unfit(place, error))?;
    Ok(SeenVersion { id: version.version_id.clone(), values: place.slots.iter().copied().zip(texts).collect() })
}

async fn read(reader: &Reader, place: &Place, version: VersionSelector) -> Result<Arc<SharedVersion>, SourceError> {
    let (arn, keys, judge) = (place.mandate.arn.clone(), place.mandate.keys.clone(), place.judge.clone());
    let asker = ReadRequest {
        binding: place.mandate.binding.clone(),
        grant: place.mandate.grant.clone(),
        reason: ReadReason::Rotation,
        version_id: None,
        check: Arc::new(move |version| {
            if version.arn != arn {
                return Err(SourceErrorKind::WrongSecret);
            }
            judge(version)?;
            Ok(Selection { keys: keys.clone(), whole_payload: false })
        }),
    };
    let source = Source { secret: place.secret.clone(), version };
    reader.read(&place.mandate.identity, &source, asker).await
}

#[cfg(test)]
mod tests;
