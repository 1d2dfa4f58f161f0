//! One pass over one binding: observe, plan, apply, report. Reads as the table of contents of the operator.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tokio::time::{Instant, timeout};

use super::error::{Class, Error};
use super::leftover;
use super::memory::{Known, Memory, Verified};
use super::observe::Look;
use super::plan::{self, Need, Situation};
use super::status::{Findings, Progress, Published, after_pass, suspended, transitions};
use super::target::{Comparison, Desired, Observed, TargetError, TargetState, compare, is_intact, judge};
use super::{Context, Watched};
use crate::api::{ConditionType, SecretBinding, SecretBindingStatus, SourceStatus};
use crate::binding::reference::Source;
use crate::binding::spec::{Binding, Refresh};
use crate::grant::{Access, GrantError};
use crate::kubernetes::report::{StatusError, publish_event, write_status};
use crate::kubernetes::write::{WriteError, apply_secret, delete_secret};
use crate::source::reader::Purpose;

/// No pass takes longer; calls within it have shorter deadlines of their own.
const DEADLINE: Duration = Duration::from_secs(120);

/// How often a Secret of an earlier name is looked at while something still refers to it.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// How often a write that lost a race looks again within one pass.
const RACES: usize = 4;

/// Brings one binding up to date and says when to look again.
///
/// # Errors
/// Never: a failure is reported in the status of the binding and scheduled here.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, Infallible> {
    let Ok(_permit) = context.passes.acquire().await else { return Ok(Action::await_change()) };
    let manifest = match &watched.0 {
        Ok(manifest) => manifest,
        Err(invalid) => {
            tracing::warn!(
                namespace = invalid.metadata.namespace.as_deref(),
                name = invalid.metadata.name.as_deref(),
                "a stored SecretBinding cannot be read by this version and is left alone"
            );
            return Ok(Action::await_change());
        }
    };
    if manifest.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (namespace, name) = (manifest.namespace().unwrap_or_default(), manifest.name_any());
    let uid = manifest.uid().unwrap_or_default();
    let mut memory = context.memories.take(&namespace, &name, &uid);
    let action = reconcile_with(manifest, &context, &mut memory).await;
    context.memories.put(&namespace, &name, &uid, memory);
    // The binding may have been deleted during the pass.
    if !context.exists(&namespace, &name) {
        context.forget(&namespace, &name);
    }
    Ok(action)
}

async fn reconcile_with(manifest: &SecretBinding, context: &Context, memory: &mut Memory) -> Action {
    let started = Instant::now();
    let before = latest_status(manifest, memory);
    let generation = manifest.metadata.generation.unwrap_or_default();
    if manifest.spec.suspend.unwrap_or_default() {
        let status = suspended(&before, generation, Timestamp::now());
        let reported = report(manifest, context, memory, &before, &status).await;
        context.metrics.reconciled("suspended", started.elapsed());
        return if reported { Action::await_change() } else { retry_report() };
    }

    let mut progress = Progress::default();
    let (refresh, outcome) = match Binding::parse(manifest, &context.settings.denied_metadata) {
        Err(error) => (Refresh::Default, Err(error.into())),
        Ok(binding) => {
            let pass = pass(&binding, context, &before, memory, &mut progress);
            let outcome = timeout(DEADLINE, pass).await.unwrap_or(Err(Error::Deadline(DEADLINE.as_secs())));
            (binding.refresh, outcome)
        }
    };
    let interval = context.interval(refresh);
    let stale_interval = interval.unwrap_or(context.settings.stale_interval());
    let error = outcome.err();
    let findings = Findings {
        generation,
        progress: &progress,
        error: error.as_ref(),
        interval: stale_interval,
        looks_again: interval.is_some(),
    };
    let now = Timestamp::now();
    let status = after_pass(&before, findings, now);
    let reported = report(manifest, context, memory, &before, &status).await;
    context.metrics.reconciled(error.as_ref().map_or("ok", |error| error.reason().as_str()), started.elapsed());

    let next = match error.as_ref().map(Error::class) {
        None | Some(Class::NewVersion) => {
            memory.succeeded();
            plan::next_look(
                memory.verified.as_ref().map(|verified| verified.at),
                interval,
                Instant::now(),
                fastrand::f64(),
            )
        }
        Some(Class::Edit | Class::Watched) => None,
        Some(Class::Passing | Class::Retry) => {
            let pause = memory.failed(stale_interval, fastrand::f64());
            Some(plan::until_stale(&status, stale_interval, now).map_or(pause, |stale| stale.min(pause)))
        }
    };
    let expiry = progress.expires.map(|end| plan::until(end, Timestamp::now()));
    let next = [next, expiry].into_iter().flatten().min();
    let leaves_over = progress.published.as_ref().is_some_and(|published| !published.leftovers.is_empty());
    match next {
        _ if !reported => retry_report(),
        _ if leaves_over => Action::requeue(next.map_or(CLEAN_UP, |next| next.min(CLEAN_UP))),
        Some(pause) => Action::requeue(pause),
        None => Action::await_change(),
    }
}

fn retry_report() -> Action {
    Action::requeue(Duration::from_secs(2))
}

/// The status to go on from: the store may lag behind the last write of this process.
fn latest_status(manifest: &SecretBinding, memory: &Memory) -> SecretBindingStatus {
    let version = |text: &str| text.parse::<u64>().ok();
    let seen = manifest.metadata.resource_version.as_deref().and_then(version);
    match &memory.reported {
        Some((written, status)) if seen < version(written) => status.clone(),
        _ => manifest.status.clone().unwrap_or_default(),
    }
}

/// Writes the status and the Events of its transitions, if it changed. False where it could not be written.
async fn report(
    manifest: &SecretBinding,
    context: &Context,
    memory: &mut Memory,
    before: &SecretBindingStatus,
    status: &SecretBindingStatus,
) -> bool {
    let (namespace, name) = (manifest.namespace().unwrap_or_default(), manifest.name_any());
    let ready = status.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let verified = memory.verified.as_ref().map(|verified| {
        Timestamp::now().as_second() - i64::try_from(verified.at.elapsed().as_secs()).unwrap_or_default()
    });
    context.metrics.binding(&namespace, &name, ready, verified);
    if status == before {
        return true;
    }
    match write_status(&context.client, &namespace, &name, status).await {
        Ok(resource_version) => memory.reported = Some((resource_version, status.clone())),
        Err(StatusError::Gone) => return true,
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "the status could not be written; it is tried again");
            return false;
        }
    }
    for note in transitions(before, status) {
        if note.warning {
            tracing::warn!(%namespace, %name, reason = %note.reason, "{}", note.text);
        } else {
            tracing::info!(%namespace, %name, reason = %note.reason, "{}", note.text);
        }
        publish_event(&context.client, manifest, &note, &context.settings.identity, Timestamp::now()).await;
    }
    true
}

/// The way from the grant to the Secret.
async fn pass(
    binding: &Binding,
    context: &Context,
    before: &SecretBindingStatus,
    memory: &mut Memory,
    progress: &mut Progress,
) -> Result<(), Error> {
    let access = match context.access(binding).await {
        Err(Error::Grant(GrantError::Expired { grant, at, delete: true })) if before.grant.as_ref() == Some(&grant) => {
            progress.withdrawn = withdraw(binding, context, before).await?;
            return Err(GrantError::Expired { grant, at, delete: true }.into());
        }
        access => access?,
    };
    progress.grant = Some(access.grant.clone());
    progress.expires = access.expires;
    progress.done.push(ConditionType::Granted);

    let target = context.target(binding, before, Look::Cached).await?;
    progress.target_intact = matches!(&target, TargetState::Owned(observed) if is_intact(observed, &context.key));
    if let TargetState::Foreign(why) = target {
        return Err(TargetError::Foreign { name: binding.target.name.clone(), why }.into());
    }

    let forced = binding.sync.is_some() && binding.sync != before.last_handled_sync;
    let versions = known_versions(binding, context, &access, &target, forced, memory).await?;
    let situation = Situation {
        target: &target,
        status: before,
        inputs: versions.as_ref().map(|versions| plan::inputs(binding, &access, versions, &context.key)),
        versions: versions.as_ref(),
        forced,
        grant: &access.grant,
        target_name: &binding.target.name,
    };
    let reason = match plan::need(&situation, memory.rejected.as_ref(), &context.key) {
        Need::Nothing(observed) => {
            progress.done.extend([ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied]);
            progress.published = Some(published(binding, &observed, clean_up(binding, context, memory).await));
            return Ok(());
        }
        Need::Refuse(rejection) => {
            progress.done.push(ConditionType::Fetched);
            return Err(Error::Render(rejection));
        }
        Need::Read(reason) => reason,
    };
    plan::allow_repair(reason, &target, &binding.target.name, memory, Instant::now())?;

    let mut known = BTreeMap::new();
    let mut payloads = BTreeMap::new();
    let mut sources = Vec::new();
    for source in binding.mapping.sources() {
        let purpose = Purpose { namespace: &binding.namespace, binding: &binding.name, grant: &access.grant, reason };
        let version = context
            .reader
            .read(
                &access.identity,
                &source,
                purpose,
                |arn, name| context.still_permits(binding, &access, &source.secret, arn, name),
                |version| plan::selection(&binding.mapping, &access, &source, version),
            )
            .await?;
        sources.push(SourceStatus {
            secret: plan::source_text(&source),
            arn: version.arn.clone(),
            version_id: version.version_id.clone(),
            created_time: version.created.map(Time),
        });
        known.insert(source.clone(), Known { arn: version.arn, name: version.name, version_id: version.version_id });
        payloads.insert(source, version.payload);
    }
    let inputs = plan::inputs(binding, &access, &known, &context.key);
    let names: BTreeMap<Source, String> =
        known.iter().map(|(source, known)| (source.clone(), known.name.clone())).collect();
    memory.verified = Some(Verified { at: Instant::now(), asked_by: asked_by(binding, &access), versions: known });
    progress.done.push(ConditionType::Fetched);
    progress.handled_sync.clone_from(&binding.sync);

    let allowed = |source: &Source, key: &str| names.get(source).is_some_and(|name| access.permits_key(name, key));
    let selected = binding.mapping.select(|source| payloads.get(source), &allowed);
    let rendered = selected.and_then(|selected| binding.mapping.complete(selected));
    let data = rendered.map(|rendered| rendered.data).map_err(|error| {
        let rejection = super::error::Rejection::from(error);
        memory.rejected = Some((inputs.clone(), rejection.clone()));
        Error::Render(rejection)
    })?;
    drop(payloads);
    memory.rejected = None;
    progress.done.push(ConditionType::Rendered);

    let desired = Desired::new(binding, data, &inputs, &context.key);
    let observed = publish(binding, context, before, &desired, &inputs).await?;
    if plan::is_repair(reason) {
        memory.repaired(Instant::now());
    }
    progress.published = Some(published(binding, &observed, clean_up(binding, context, memory).await));
    progress.sources = Some(sources);
    progress.done.push(ConditionType::Applied);
    Ok(())
}

fn asked_by(binding: &Binding, access: &Access) -> (i64, String, i64) {
    (binding.generation, access.grant.clone(), access.generation)
}

/// The versions of the sources without their values: from the last look if that is recent, else from AWS. `None`
/// where only reading tells: nothing is published yet, or IAM does not allow to ask.
async fn known_versions(
    binding: &Binding,
    context: &Context,
    access: &Access,
    target: &TargetState,
    forced: bool,
    memory: &mut Memory,
) -> Result<Option<BTreeMap<Source, Known>>, Error> {
    let asked_by = asked_by(binding, access);
    if let Some(verified) = memory.verified.as_ref().filter(|verified| verified.asked_by == asked_by && !forced) {
        let age = verified.at.elapsed();
        if context.interval(binding.refresh).is_none_or(|interval| plan::is_recent(age, interval)) {
            return Ok(Some(verified.versions.clone()));
        }
    }
    let must_ask = !access.unconfirmed.is_empty() || memory.rejected.is_some();
    if !must_ask && (forced || matches!(target, TargetState::Absent | TargetState::Adoptable(_))) {
        return Ok(None);
    }
    let versions = context.describe(binding, access).await?;
    if let Some(versions) = &versions {
        memory.verified = Some(Verified { at: Instant::now(), asked_by, versions: versions.clone() });
    }
    Ok(versions)
}

fn published(binding: &Binding, observed: &Observed, leftovers: Vec<String>) -> Published {
    Published { name: binding.target.name.clone(), keys: observed.keys(), written: observed.written.clone(), leftovers }
}

/// Deletes what an earlier name of the target left behind, and answers what has to stay for now. A failure here is no
/// failure of the binding: the Secret under the new name is published.
async fn clean_up(binding: &Binding, context: &Context, memory: &mut Memory) -> Vec<String> {
    if memory.tidy == Some(binding.generation) {
        return Vec::new();
    }
    let secrets: Vec<_> = context.targets.iter().flat_map(kube::runtime::reflector::Store::state).collect();
    let mut stay = Vec::new();
    for leftover in leftover::find(binding, secrets.iter().map(AsRef::as_ref)) {
        let (namespace, name) = (&binding.namespace, &leftover.name);
        let gone = match context.is_in_use(namespace, name).await {
            Ok(true) => false,
            Ok(false) => delete_secret(&context.client, namespace, &leftover).await.unwrap_or_else(|error| {
                tracing::warn!(%namespace, secret = %name, %error, "a Secret of an earlier name could not be deleted");
                false
            }),
            Err(error) => {
                tracing::warn!(%namespace, secret = %name, %error, "whether a Secret is in use cannot be told, so it stays");
                false
            }
        };
        if gone {
            tracing::info!(%namespace, secret = %name, "deleted a Secret of an earlier name");
        } else {
            stay.push(leftover.name);
        }
    }
    memory.tidy = stay.is_empty().then_some(binding.generation);
    stay
}

/// Deletes what was published through a grant that ended and asks for that. True where it is gone.
async fn withdraw(binding: &Binding, context: &Context, before: &SecretBindingStatus) -> Result<bool, Error> {
    let name = &binding.target.name;
    match context.target(binding, before, Look::Live).await? {
        TargetState::Absent => Ok(true),
        TargetState::Owned(observed) => {
            let seen = leftover::Leftover {
                name: name.clone(),
                uid: observed.uid,
                resource_version: observed.resource_version,
            };
            if !delete_secret(&context.client, &binding.namespace, &seen).await? {
                return Err(WriteError::Raced.into());
            }
            tracing::info!(namespace = %binding.namespace, secret = %name, "deleted, since its grant ended");
            Ok(true)
        }
        TargetState::Foreign(_) | TargetState::Adoptable(_) => Ok(false),
    }
}

/// Writes the Secret, if it is not already as desired, on top of exactly what is observed just before.
async fn publish(
    binding: &Binding,
    context: &Context,
    before: &SecretBindingStatus,
    desired: &Desired,
    inputs: &str,
) -> Result<Observed, Error> {
    for _ in 0..RACES {
        let observed = match context.target(binding, before, Look::Live).await? {
            TargetState::Foreign(why) => {
                return Err(TargetError::Foreign { name: desired.name.clone(), why }.into());
            }
            TargetState::Absent => None,
            TargetState::Owned(observed) if compare(&observed, inputs, &context.key) == Comparison::Current => {
                return Ok(observed);
            }
            TargetState::Owned(observed) | TargetState::Adoptable(observed) => Some(observed),
        };
        match apply_secret(&context.client, desired, observed.as_ref()).await {
            Ok(written) => {
                let TargetState::Owned(observed) = judge(binding, Some(&written), true) else {
                    return Err(WriteError::Raced.into());
                };
                tracing::info!(
                    namespace = %binding.namespace, name = %binding.name, secret = %desired.name, keys = desired.data.len(),
                    "published"
                );
                return Ok(observed);
            }
            Err(WriteError::Raced) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(WriteError::Raced.into())
}
