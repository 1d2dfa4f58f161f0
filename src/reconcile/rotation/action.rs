//! What is done when a rule is due: one action for each due time, taken up again wherever it was interrupted.
//!
//! The status says which due time is acted for before anything is done (`status.rotation[].actedFor`), and the action is
//! looked at in every pass from then on until it has ended. Nothing is remembered besides: how far it is follows from
//! what AWS and the API server tell.

#![allow(clippy::too_many_arguments, clippy::too_many_lines, reason = "the object SecretRotation replaces this file")]

pub mod generating;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{OverlapStrategy, RotationAction};
use crate::aws::audit::ReadReason;
use crate::aws::read_request::Selection;
use crate::aws::versions::snapshot::SnapshotRequest;
use crate::aws::writer::WriteAuthorization;
use crate::domain::binding::Binding;
use crate::domain::grant::Access;
use crate::domain::name::BindingName;
use crate::domain::render::key::TargetKey;
use crate::domain::render::mapping::Mapping;
use crate::domain::render::template::Template;
use crate::domain::rotation::generate::{NoRandomness, Ticket};
use crate::domain::rotation::job;
use crate::domain::rotation::job::{JobRefusal, JobState, Purpose};
use crate::domain::rotation::key_source::KeySource;
use crate::domain::rotation::rule::{Action, Recipe, Rule};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::{AWSCURRENT, SecretId, Source, VersionSelector};
use crate::domain::target::owner_reference;
use crate::domain::value::Value;
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::job::{JobError, ObservedJob, create_job, observe_job};
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::fetch::fetch;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rotation::action::generating::{End, GenerateError, Hands, Place, generate};
use crate::reconcile::subject::Subject;
use crate::settings::{Feature, FeatureOff};
use crate::state::bindings::name_of;
use crate::state::history::KeySources;

/// How soon a pass follows that is to see what was written.
const SOON: Duration = Duration::from_secs(1);
/// How often something is looked at that takes its time.
const POLL: Duration = Duration::from_secs(10);
/// How long what failed is left alone. Whoever cures it may be a grant, a policy in IAM, a secret.
const RETRY: Duration = Duration::from_secs(60);
/// How long after the success of a Job its keys may take to be seen with other values.
const SEEN_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// How long AWS may take for a rotation.
const ROTATED_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// A due rule that is acted for.
pub struct Due<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The due time, as the status says it is acted for.
    pub due: Timestamp,
    /// Whether the keys' ages still say that it is due.
    pub still_due: bool,
    /// Whether what is under a ruled key of this binding has this value, as far as the keys' ages tell: asked before a
    /// value is made, with the ARN of the secret and the JSON key.
    pub is_known: &'a (dyn Fn(&TargetKey, &str, &str, &Value) -> bool + Send + Sync),
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionOutcome {
    /// It has ended.
    Done,
    /// It goes on.
    UnderWay {
        /// What is done at present.
        message: String,
        /// When to look again.
        again: Duration,
    },
    /// The installation has switched off what it needs.
    Off(FeatureOff),
    /// It failed; it is tried again.
    Failed {
        /// What failed, and what to do.
        message: String,
        /// When to try again.
        again: Duration,
    },
}

impl ActionOutcome {
    fn under_way(message: impl Into<String>, again: Duration) -> Self {
        Self::UnderWay { message: message.into(), again }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), again: RETRY }
    }

    fn of_error(error: &SourceError) -> Self {
        if error.is_passing() { Self::under_way(error.to_string(), POLL) } else { Self::failed(error.to_string()) }
    }
}

/// A binding whose keys an action changes: the one of the reconcile, or another of its group.
struct Participant {
    of: AuthorizedBinding,
    sources: BTreeMap<TargetKey, KeySource>,
}

/// Goes on with the action of a rule that is due, or was when the action began.
pub(crate) async fn act(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    access: &Arc<Access>,
    due: &Due<'_>,
    key_sources: &mut Option<KeySources>,
    permit: &Permit<'_>,
) -> ActionOutcome {
    if let (Action::RunJob(_), Err(off)) = (&due.rule.action, cx.settings.features.require(Feature::Jobs)) {
        return ActionOutcome::Off(off);
    }
    let party = match remembered_participant(cx, subject, access, &due.rule.keys, key_sources).await {
        Ok(party) => party,
        Err(error) => return unread(&error),
    };
    if let Some(refused) = refusal(&party, due.rule) {
        return ActionOutcome::failed(refused);
    }
    match &due.rule.action {
        Action::Notify => ActionOutcome::Done,
        Action::RunJob(cron_job) => Box::pin(run_job(cx, subject, &party, due, cron_job, permit)).await,
        Action::RotateSecret => rotate(cx, subject, &party, due).await,
        Action::Generate(recipe) => Box::pin(generate_values(cx, subject, party, due, *recipe)).await,
    }
}

/// Where keys come from; the payloads are not asked again as long as they are the same, so that an action that takes
/// its time costs no reads.
async fn remembered_participant(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    access: &Arc<Access>,
    keys: &[TargetKey],
    key_sources: &mut Option<KeySources>,
) -> Result<Participant, Error> {
    let mut of = vec![subject.binding.generation.to_string(), access.grant.clone(), access.generation.to_string()];
    of.extend(subject.before.sources.iter().flat_map(|source| [source.arn.clone(), source.version_id.clone()]));
    if let Some(known) = key_sources
        && known.of == of
        && keys.iter().all(|key| known.sources.contains_key(key))
    {
        let source = |key: &TargetKey| Some((key.clone(), known.sources.get(key)?.clone()));
        let sources = keys.iter().filter_map(source).collect();
        return Ok(Participant { of: authorized(subject, access), sources });
    }
    let party = participant(cx, subject, access, keys).await?;
    let mut sources = party.sources.clone();
    if let Some(known) = key_sources.take()
        && known.of == of
    {
        sources.extend(known.sources);
    }
    *key_sources = Some(KeySources { of, sources });
    Ok(party)
}

fn authorized(subject: &Subject<'_>, access: &Arc<Access>) -> AuthorizedBinding {
    AuthorizedBinding { binding: subject.binding.clone(), name: subject.name.clone(), access: access.clone() }
}

/// Where keys come from, which for `dataFrom` only the payloads tell.
async fn participant(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    access: &Arc<Access>,
    keys: &[TargetKey],
) -> Result<Participant, Error> {
    let of = authorized(subject, access);
    let read = fetch(cx, &of, ReadReason::Rotation, BTreeMap::new()).await?;
    let allowed =
        |source: &Source, key: &str| read.get(source).is_some_and(|version| access.permits_key(&version.name, key));
    let mapping = &subject.binding.mapping;
    let selected = mapping
        .select(|source| read.get(source).map(|version| &version.payload), &allowed)
        .map_err(|error| Error::Render(error.into()))?;
    let source = |key: &TargetKey| {
        let origin = selected.origins.get(key).filter(|_| !is_made(mapping, key))?;
        let version = read.get(&origin.source)?;
        let source = KeySource {
            source: origin.source.clone(),
            arn: version.arn.clone(),
            name: version.name.clone(),
            json_key: origin.json_key.clone(),
        };
        Some((key.clone(), source))
    };
    let sources = keys.iter().filter_map(source).collect();
    Ok(Participant { of, sources })
}

/// Lets the next pass, of every binding concerned, see what was written.
async fn look_again(cx: &Arc<Context>, subject: &Subject<'_>, party: &Participant) {
    let secrets: BTreeSet<&SecretId> = party.sources.values().map(|source| &source.source.secret).collect();
    for secret in secrets {
        let want = SnapshotRequest {
            namespace: &subject.name.namespace,
            max_age: Duration::ZERO,
            max_failure_age: Duration::ZERO,
            confirmed: true,
            versions: &[],
        };
        if let Err(error) = cx.clients.reader.versions().snapshot(&party.of.access.identity, secret, &want).await {
            tracing::debug!(%error, "a secret that was written is looked at at the next refresh");
        }
    }
}

async fn ended(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    party: &Participant,
    due: &Due<'_>,
    message: &str,
) -> ActionOutcome {
    look_again(cx, subject, party).await;
    if due.still_due { ActionOutcome::under_way(message, SOON) } else { ActionOutcome::Done }
}

async fn run_job(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    party: &Participant,
    due: &Due<'_>,
    cron_job: &str,
    permit: &Permit<'_>,
) -> ActionOutcome {
    if !due.still_due {
        return ActionOutcome::Done;
    }
    let (namespace, rule) = (&subject.binding.namespace, due.rule);
    let name = job_name(party, namespace, cron_job, due.due);
    let owner = owner_reference(&subject.binding);
    let purpose = Purpose { name: &name, owner, binding: &subject.binding.name, rule: &rule.name };
    let of_error = |error: JobError| {
        if error.is_passing() {
            ActionOutcome::under_way(error.to_string(), POLL)
        } else {
            ActionOutcome::failed(error.to_string())
        }
    };
    let job = match observe_job(permit.reads().await, namespace, cron_job, &purpose).await {
        Ok(ObservedJob::Standing(job)) => *job,
        Ok(ObservedJob::Missing(_)) if !cx.authorization.permits_jobs(namespace) => {
            return of_error(JobRefusal::NamespaceSilent(namespace.clone()).into());
        }
        Ok(ObservedJob::Missing(job)) => match create_job(permit.writes().await, namespace, &job).await {
            Ok(job) => {
                tracing::info!(%namespace, binding = %subject.binding.name, rule = %rule.name, job = %name, "runs a Job, since the rule is due");
                job
            }
            Err(error) => return of_error(error),
        },
        Err(error) => return of_error(error),
    };
    match job::state(&job) {
        JobState::Running => ActionOutcome::under_way(format!("the Job {name:?} runs"), POLL),
        JobState::Failed(why) => ActionOutcome::failed(format!(
            "the Job {name:?} failed ({why}); look at its pods, and delete it to have it run again, or set the keys"
        )),
        JobState::Succeeded(at) => {
            look_again(cx, subject, party).await;
            let waited = at.map(|at| Timestamp::now().duration_since(at));
            if waited.is_some_and(|waited| waited > SEEN_WITHIN) {
                return ActionOutcome::failed(format!(
                    "the Job {name:?} succeeded, but not every key of the rule has another value; correct what it does, and delete it to have it run again"
                ));
            }
            ActionOutcome::under_way(format!("the Job {name:?} succeeded; the new values are waited for"), SOON * 5)
        }
    }
}

async fn rotate(cx: &Arc<Context>, subject: &Subject<'_>, party: &Participant, due: &Due<'_>) -> ActionOutcome {
    let mut seen = BTreeSet::new();
    let mut waits = Vec::new();
    for source in party.sources.values().filter(|source| seen.insert(source.arn.clone())) {
        match rotate_one(cx, subject, party, source, due).await {
            ActionOutcome::Done => {}
            ActionOutcome::UnderWay { message, .. } => waits.push(message),
            other @ (ActionOutcome::Failed { .. } | ActionOutcome::Off(_)) => return other,
        }
    }
    if waits.is_empty() {
        return ended(cx, subject, party, due, "Secrets Manager has rotated; the new values are being published").await;
    }
    look_again(cx, subject, party).await;
    ActionOutcome::under_way(waits.join("; "), POLL)
}

async fn rotate_one(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    party: &Participant,
    source: &KeySource,
    due: &Due<'_>,
) -> ActionOutcome {
    let (context, secret) = (cx, &source.name);
    let identity = &party.of.access.identity;
    let (namespace, max_age) = (&*subject.name.namespace, POLL / 2);
    let want = SnapshotRequest { namespace, max_age, max_failure_age: Duration::ZERO, confirmed: true, versions: &[] };
    let seen = match context.clients.reader.versions().snapshot(identity, &source.source.secret, &want).await {
        Ok(Some(seen)) => seen,
        Ok(None) => {
            return ActionOutcome::failed(format!(
                "whether Secrets Manager rotates {secret:?} cannot be told; allow secretsmanager:DescribeSecret on it"
            ));
        }
        Err(error) => return ActionOutcome::of_error(&error),
    };
    let token = Ticket::new(&source.arn, &[], due.due).token("RotateSecret");
    let versions = &seen.description.versions;
    let has = |label: &str| versions.get(&token).is_some_and(|labels| labels.contains(label));
    if has(AWSCURRENT) || has("AWSPREVIOUS") {
        return ActionOutcome::Done;
    }
    if !due.still_due {
        return ActionOutcome::Done;
    }
    if has("AWSPENDING") {
        if is_late(cx, subject, party, source, &token, due.due).await {
            return ActionOutcome::failed(format!(
                "Secrets Manager was asked to rotate {secret:?}, and its version {token} is still labelled AWSPENDING; look at the log of its rotation function"
            ));
        }
        return ActionOutcome::under_way(format!("Secrets Manager rotates {secret:?}"), POLL);
    }
    let left = versions.iter().find(|(_, labels)| labels.contains("AWSPENDING") && !labels.contains(AWSCURRENT));
    let mandate = mandate(party, source, due, Vec::new());
    match context.clients.writer.rotate(&mandate, &token).await {
        Ok(()) => {
            tracing::info!(binding = %subject.binding.name, namespace = %subject.binding.namespace, rule = %due.rule.name, %secret, "asked Secrets Manager to rotate, since the rule is due");
            ActionOutcome::under_way(format!("Secrets Manager rotates {secret:?}"), POLL)
        }
        Err(error) if error.kind == SourceErrorKind::TokenTaken => ActionOutcome::failed(format!(
            "Secrets Manager began to rotate {secret:?}, and the rotation was given up; look at the log of its rotation function, and rotate it by hand"
        )),
        Err(error) => match left {
            Some((version, _)) if error.kind == SourceErrorKind::NotRotatable => ActionOutcome::failed(format!(
                "{error}; its version {version} is labelled AWSPENDING: another rotation is under way or was left behind"
            )),
            _ => ActionOutcome::of_error(&error),
        },
    }
}

/// Whether a rotation has taken longer than it may. It began when its version was created; where AWS does not tell
/// that, the due time stands for it.
async fn is_late(
    cx: &Arc<Context>,
    _subject: &Subject<'_>,
    party: &Participant,
    source: &KeySource,
    token: &str,
    due: Timestamp,
) -> bool {
    let late = |began: Timestamp| Timestamp::now().duration_since(began) > ROTATED_WITHIN;
    if !late(due) {
        return false;
    }
    let versions = cx.clients.reader.versions();
    let payers = BTreeSet::from([&*party.of.name.namespace]);
    let history = versions.history(&party.of.access.identity, &source.source.secret, &payers).await.unwrap_or_default();
    let version = history.iter().find(|version| version.id == token);
    late(version.and_then(|version| version.created).unwrap_or(due))
}

/// A new value for each key of the rule; where values overlap, one for the whole group.
async fn generate_values(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    party: Participant,
    due: &Due<'_>,
    recipe: Recipe,
) -> ActionOutcome {
    let mut parties = vec![party];
    if let Some(overlap) = due.rule.overlap.as_ref().filter(|overlap| overlap.strategy == OverlapStrategy::Staged) {
        let members = group(cx, &subject.binding.namespace, &overlap.group);
        let generates = |rule: &Rule| {
            matches!(rule.action, Action::Generate(_))
                && rule.overlap.as_ref().is_some_and(|theirs| theirs.group == overlap.group)
        };
        let acting =
            members.iter().filter(|(binding, _, _)| !binding.suspend && binding.rotation.iter().any(generates));
        let first = acting.map(|(_, name, _)| &name.name).min();
        if let Some(first) = first.filter(|first| **first < subject.name.name) {
            if !due.still_due {
                return ActionOutcome::Done;
            }
            return ActionOutcome::under_way(format!("the binding {first:?} makes the value for the group"), POLL);
        }
        for (binding, name, status) in members {
            if name == *subject.name {
                continue;
            }
            if binding.suspend {
                // Its source would be left behind, and the group with it.
                return ActionOutcome::failed(format!(
                    "the binding {:?} of the group {:?} is suspended; no value is made until it is not, or is deleted",
                    name.name, overlap.group
                ));
            }
            match other(cx, subject, binding, &name, &status, &overlap.group).await {
                Ok(party) => parties.push(party),
                Err(outcome) => return outcome,
            }
        }
    }
    let places = match places(cx, &parties, due) {
        Ok(places) => places,
        Err(message) => return ActionOutcome::failed(message),
    };
    let own = &parties[0].sources;
    let is_due = |index: usize, json_key: &str, value: &Value| {
        let place = &places[index];
        // What another binding of the group has is not known here.
        let here = own
            .iter()
            .filter(|(_, source)| source.arn == place.mandate.arn && source.json_key.as_deref() == Some(json_key));
        due.still_due && here.into_iter().all(|(key, source)| (due.is_known)(key, &source.arn, json_key, value))
    };
    let mut random = |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|_| NoRandomness);
    let (reader, writer) = (&cx.clients.reader, &cx.clients.writer);
    let hands = Hands { reader, writer, recipe, random: &mut random };
    let published = "the new value is in Secrets Manager and is being published";
    match generate(&places, &is_due, hands).await {
        Ok(End::Overtaken { secret, key }) if places.len() > 1 => ActionOutcome::failed(format!(
            "somebody set the key {key:?} of the secret {secret:?} while a new value was brought into all secrets of the group; it is replaced at the next try"
        )),
        Ok(_) => {
            for party in &parties[1..] {
                look_again(cx, subject, party).await;
            }
            ended(cx, subject, &parties[0], due, published).await
        }
        Err(GenerateError::Source(error)) => ActionOutcome::of_error(&error),
        Err(error @ GenerateError::Busy(_)) => ActionOutcome::under_way(error.to_string(), POLL),
        Err(error) => ActionOutcome::failed(error.to_string()),
    }
}

/// Another binding of the group, by whose grant its secrets are written.
async fn other(
    cx: &Arc<Context>,
    _subject: &Subject<'_>,
    binding: Arc<Binding>,
    name: &BindingName,
    status: &crate::api::SecretBindingStatus,
    group: &str,
) -> Result<Participant, ActionOutcome> {
    let blocked =
        |why: String| ActionOutcome::failed(format!("the binding {:?} of the group {group:?}: {why}", name.name));
    let of_group = |rule: &&Rule| rule.overlap.as_ref().is_some_and(|overlap| overlap.group == group);
    let Some(rule) = binding.rotation.iter().find(of_group).cloned() else {
        return Err(blocked("it has left the group".to_owned()));
    };
    let access = cx.authorization.access(&binding).await.map_err(|error| blocked(error.to_string()))?;
    let other = Subject { binding, name, before: status };
    let party = Box::pin(participant(cx, &other, &Arc::new(access), &rule.keys)).await;
    let party = party.map_err(|error| match unread(&error) {
        ActionOutcome::Failed { message, .. } => blocked(message),
        other => other,
    })?;
    match refusal_of(&party, &rule.keys, RotationAction::Generate) {
        Some(refused) => Err(blocked(refused)),
        None => Ok(party),
    }
}

/// The bindings of a namespace whose keys overlap in one group, that have published.
fn group(
    cx: &Context,
    namespace: &str,
    group: &str,
) -> Vec<(Arc<Binding>, BindingName, crate::api::SecretBindingStatus)> {
    let of_group = |rule: &Rule| {
        rule.overlap
            .as_ref()
            .is_some_and(|overlap| overlap.strategy == OverlapStrategy::Staged && overlap.group == group)
    };
    let watched = cx.state.bindings.all();
    watched
        .filter(|watched| &*name_of(watched).namespace == namespace)
        .filter_map(|watched| {
            let manifest = watched.0.as_ref().ok()?;
            let status = manifest.status.clone()?;
            let ends = manifest.metadata.deletion_timestamp.is_some();
            let binding = Binding::parse(manifest).ok()?;
            let counts = !ends && status.binding.is_some() && binding.rotation.iter().any(of_group);
            counts.then(|| (Arc::new(binding), name_of(&watched), status))
        })
        .collect()
}

fn unread(error: &Error) -> ActionOutcome {
    match error {
        Error::Source(error) => ActionOutcome::of_error(error),
        error => ActionOutcome::failed(error.to_string()),
    }
}

/// Whether a template makes the key, so that no secret holds it.
fn is_made(mapping: &Mapping, key: &TargetKey) -> bool {
    mapping.template.iter().flat_map(Template::keys).any(|made| made == key)
}

/// What the grant does not allow, or why a key cannot be acted on, in a sentence.
fn refusal(party: &Participant, rule: &Rule) -> Option<String> {
    refusal_of(party, &rule.keys, rule.action.needs()?)
}

fn refusal_of(party: &Participant, keys: &[TargetKey], action: RotationAction) -> Option<String> {
    keys.iter().find_map(|key| {
        let Some(source) = party.sources.get(key) else {
            return Some(format!("no secret holds the key {key} by itself; name keys that come from one"));
        };
        let granted = source.granted_key();
        if !party.of.access.permits_rotation(action, &source.name, &granted) {
            return Some(format!(
                "the SecretGrant {:?} does not allow {action:?} for the key {granted:?} of the secret {:?}; ask whoever manages the SecretGrants of the cluster to add it under spec.rotation",
                party.of.access.grant, source.name
            ));
        }
        None
    })
}

fn mandate(party: &Participant, source: &KeySource, due: &Due<'_>, keys: Vec<String>) -> WriteAuthorization {
    WriteAuthorization {
        binding: party.of.name.clone(),
        rule: due.rule.name.clone(),
        due: due.due,
        grant: party.of.access.grant.clone(),
        identity: party.of.access.identity.clone(),
        arn: source.arn.clone(),
        keys,
    }
}

/// The name of the Job of a due time: the same for all bindings of the namespace that have it run for the same keys.
fn job_name(party: &Participant, namespace: &str, cron_job: &str, due: Timestamp) -> String {
    let keys: BTreeSet<String> =
        party.sources.values().map(|source| format!("{} {}", source.arn, source.granted_key())).collect();
    let due = due.to_string();
    let parts = [namespace, due.as_str()].into_iter().chain(keys.iter().map(String::as_str));
    job::name(cron_job, parts.collect::<Vec<_>>())
}

/// The secrets in which the keys of a rule get new values: where values overlap one value in all, else one for each
/// key.
fn places(context: &Arc<Context>, parties: &[Participant], due: &Due<'_>) -> Result<Vec<Place>, String> {
    let mut places: Vec<Place> = Vec::new();
    let mut slots = BTreeMap::new();
    for party in parties {
        for (key, source) in &party.sources {
            let VersionSelector::Stage(stage) = &source.source.version else {
                return Err(format!("{key} is read from one version of its secret by id; read it from {AWSCURRENT}"));
            };
            if stage != AWSCURRENT {
                return Err(format!("{key} is read from the version stage {stage:?}; read it from {AWSCURRENT}"));
            }
            let Some(json_key) = source.json_key.clone() else {
                return Err(format!(
                    "{key} is the whole payload of the secret {:?}; a value is made under a key of a JSON object only",
                    source.name
                ));
            };
            let next = slots.len();
            let one = due.rule.overlap.is_some();
            let slot = if one { 0 } else { *slots.entry((source.arn.clone(), json_key.clone())).or_insert(next) };
            let place = if let Some(index) = places.iter().position(|place| place.mandate.arn == source.arn) {
                &mut places[index]
            } else {
                places.push(Place {
                    secret: source.source.secret.clone(),
                    mandate: mandate(party, source, due, Vec::new()),
                    slots: Vec::new(),
                    judge: context.authorization.check(&party.of, &source.source.secret, |_| Selection::default()),
                });
                let last = places.len() - 1;
                &mut places[last]
            };
            if !place.mandate.keys.contains(&json_key) {
                place.mandate.keys.push(json_key);
                place.slots.push(slot);
            }
        }
    }
    Ok(places)
}
