//! One pass over one binding: observe, plan, apply, report. Reads as the table of contents of the operator.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout};

use super::error::{Class, Error};
use super::leftover;
use super::memory::{Known, Memory};
use super::observe::{Freshness, Look, Sight};
use super::plan::{self, Need, Situation};
use super::status::{Findings, Progress, Published, after_pass, suspended, transitions};
use super::target::{Comparison, Desired, Observed, Sighting, TargetError, TargetState, compare, is_intact, judge};
use super::{Context, Watched, watch};
use crate::api::{ConditionType, SecretBinding, SecretBindingStatus, SourceStatus};
use crate::binding::name::BindingName;
use crate::binding::reference::Source;
use crate::binding::spec::{Binding, Refresh};
use crate::grant::{Access, GrantError, wants};
use crate::kubernetes::report::{StatusError, write_status};
use crate::kubernetes::write::{WriteError, apply_secret, delete_secret};
use crate::source::audit::ReadReason;
use crate::source::demand::{Asker, Judge};
use crate::source::reader::SharedVersion;
use crate::source::{SourceError, SourceErrorKind};

/// No pass takes longer, the wait for its turn among ten thousand others included; calls within it have much shorter
/// deadlines of their own.
const DEADLINE: Duration = Duration::from_secs(600);

/// How often a Secret of an earlier name is looked at while something still refers to it.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// How often a write that lost a race looks again within one pass.
const RACES: usize = 4;

/// Brings one binding up to date and says when to look again.
///
/// # Errors
/// Never: a failure is reported in the status of the binding and scheduled here.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, Infallible> {
    let (name, began) = (watch::name_of(&watched), Instant::now());
    let remembered = context.memories.take(&name);
    // The store is asked once more, since a written status is remembered only until the store has it.
    let action = match context.current(&name).as_ref().map(|watched| &watched.0) {
        Some(Ok(manifest)) if manifest.metadata.deletion_timestamp.is_none() => {
            let uid = manifest.uid().unwrap_or_default();
            // A binding of another uid under the same name begins anew.
            let same = remembered.filter(|(known, _)| *known == uid);
            let mut memory = same.map(|(_, memory)| memory).unwrap_or_default();
            let action = reconcile_with(manifest, &name, &context, &mut memory).await;
            context.memories.put(&name, uid, memory);
            action
        }
        Some(Err(_)) => {
            tracing::warn!(namespace = %name.namespace, name = %name.name, "a stored SecretBinding cannot be read by this version and is left alone");
            Action::await_change()
        }
        Some(Ok(_)) | None => Action::await_change(),
    };
    context.first_looks.looked_at(&name);
    context.reader.versions().passed(&name, began);
    // The binding may have been deleted during the pass.
    if context.current(&name).is_none() {
        context.forget(&name);
    }
    Ok(action)
}

async fn reconcile_with(
    manifest: &SecretBinding,
    name: &BindingName,
    context: &Arc<Context>,
    memory: &mut Memory,
) -> Action {
    let started = Instant::now();
    let before = latest_status(manifest, memory);
    let generation = manifest.metadata.generation.unwrap_or_default();
    if manifest.spec.suspend.unwrap_or_default() {
        let status = suspended(&before, generation, Timestamp::now());
        let reported = Box::pin(report(manifest, context, memory, &before, &status, &mut None)).await;
        context.metrics.reconciled("suspended", started.elapsed());
        return if reported { Action::await_change() } else { retry_report() };
    }

    let (mut progress, mut turn) = (Progress::default(), None);
    let (refresh, outcome) = match Binding::parse(manifest, &context.settings.denied_metadata) {
        Err(error) => (Refresh::Default, Err(error.into())),
        Ok(binding) => {
            let refresh = binding.refresh;
            let this = Pass { binding: Arc::new(binding), name, context, before: &before };
            let pass = Box::pin(this.run(memory, &mut progress, &mut turn));
            let outcome = timeout(DEADLINE, pass).await.unwrap_or(Err(Error::Deadline(DEADLINE.as_secs())));
            (refresh, outcome)
        }
    };
    if outcome == Err(Error::Superseded) {
        context.metrics.reconciled("superseded", started.elapsed());
        return Action::await_change();
    }
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
    let reported = Box::pin(report(manifest, context, memory, &before, &status, &mut turn)).await;
    drop(turn);
    context.metrics.reconciled(error.as_ref().map_or("ok", |error| error.reason().as_str()), started.elapsed());

    let next = match error.as_ref().map(Error::class) {
        None | Some(Class::NewVersion) => {
            memory.succeeded();
            plan::next_look(memory.verified, interval, Instant::now(), fastrand::f64())
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
    let seen = manifest.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    match &memory.reported {
        Some((written, status)) if seen < Some(*written) => (**status).clone(),
        _ => manifest.status.clone().unwrap_or_default(),
    }
}

/// A permit for requests to the API server, held until the end of the pass once it was needed.
type Turn<'a> = Option<SemaphorePermit<'a>>;

async fn take<'a>(turn: &mut Turn<'a>, context: &'a Context) {
    if turn.is_none() {
        // The semaphore is never closed.
        *turn = context.requests.acquire().await.ok();
    }
}

/// Writes the status and the Events of its transitions, if it changed. False where it could not be written.
async fn report<'a>(
    manifest: &SecretBinding,
    context: &'a Context,
    memory: &mut Memory,
    before: &SecretBindingStatus,
    status: &SecretBindingStatus,
    turn: &mut Turn<'a>,
) -> bool {
    let (namespace, name) = (manifest.namespace().unwrap_or_default(), manifest.name_any());
    let ready = status.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let verified = memory
        .verified
        .map(|at| Timestamp::now().as_second() - i64::try_from(at.elapsed().as_secs()).unwrap_or_default());
    context.metrics.binding(&namespace, &name, ready, verified);
    if status == before {
        return true;
    }
    take(turn, context).await;
    // What was found out about an earlier binding of this name is nothing to say of this one.
    let (binding, uid) = (BindingName::new(&namespace, &name), manifest.uid().unwrap_or_default());
    if !context.is_current(&binding, &uid, manifest.metadata.generation.unwrap_or_default()) {
        return true;
    }
    match write_status(&context.client, &namespace, &name, status).await {
        Ok(resource_version) => {
            let version = resource_version.parse().ok();
            memory.reported = version.map(|version| (version, Box::new(status.clone())));
        }
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
        context.events.note(manifest, note, Timestamp::now());
    }
    true
}

/// One pass over one binding.
struct Pass<'a> {
    binding: Arc<Binding>,
    name: &'a BindingName,
    context: &'a Arc<Context>,
    before: &'a SecretBindingStatus,
}

impl<'a> Pass<'a> {
    /// The way from the grant to the Secret.
    async fn run(&self, memory: &mut Memory, progress: &mut Progress, turn: &mut Turn<'a>) -> Result<(), Error> {
        let Self { binding, name, context, before } = self;
        let access = match context.access(binding).await {
            Ok(access) => Arc::new(access),
            Err(error) => {
                // What may not be read any more is not asked about either.
                context.reader.versions().forget(name);
                if let Error::Grant(GrantError::Expired { grant, delete: true, .. }) = &error
                    && before.grant.as_ref() == Some(grant)
                {
                    take(turn, context).await;
                    progress.withdrawn = Box::pin(withdraw(binding, context, before)).await?;
                }
                return Err(error);
            }
        };
        progress.grant = Some(access.grant.clone());
        progress.expires = access.expires;
        progress.done.push(ConditionType::Granted);

        let target = Box::pin(self.look_at_target()).await?;
        progress.target_intact = matches!(&target, TargetState::Owned(observed) if is_intact(observed));
        if let TargetState::Foreign(why) = target {
            return Err(TargetError::Foreign { name: binding.target.name.clone(), why }.into());
        }

        let fresh = plan::relied_on_for(context.interval(binding.refresh));
        let secrets = wants(&binding.mapping).into_keys().collect();
        context.reader.versions().interest(name, &access.identity, secrets, fresh);
        context.first_looks.interests.arrived(name);
        context.first_looks.interests.all().await;
        let forced = binding.sync.is_some() && binding.sync != before.last_handled_sync;
        let mut sight = Box::pin(self.sight(&access, &target, forced, memory, false)).await?;
        let mut need = self.need(&access, &target, forced, sight.as_ref(), memory);
        // What only a list tells proves that nothing changed; that something did, AWS is asked again.
        if matches!(need, Need::Read(_)) && sight.as_ref().is_some_and(|sight| !sight.confirmed) {
            sight = Box::pin(self.sight(&access, &target, forced, memory, true)).await?;
            need = self.need(&access, &target, forced, sight.as_ref(), memory);
        }
        let reason = match need {
            Need::Nothing(observed) => {
                progress.done.extend([ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied]);
                let leftovers = Box::pin(clean_up(binding, context, memory, turn)).await;
                progress.published = Some(published(binding, &observed, leftovers));
                return Ok(());
            }
            Need::Refuse(rejection) => {
                progress.done.push(ConditionType::Fetched);
                return Err(Error::Render(rejection));
            }
            Need::Read(reason) => reason,
        };
        plan::allow_repair(reason, &target, &binding.target.name, memory, Instant::now())?;

        let wanted = sight.filter(|_| !forced).map(|sight| sight.versions).unwrap_or_default();
        let read = self.read(&access, reason, &wanted).await?;
        memory.verified = Some(Instant::now());
        progress.done.push(ConditionType::Fetched);
        progress.handled_sync.clone_from(&binding.sync);
        // Values wait for their turn unrendered, so that those who share one hold it once.
        take(turn, context).await;
        // The wait may have been long: the binding may be another or gone by now, and access may be withdrawn.
        if !context.is_current(name, &binding.uid, binding.generation) {
            return Err(Error::Superseded);
        }
        for (source, version) in &read {
            if !context.still_permits(binding, &access, &source.secret, &version.arn, &version.name) {
                let kind = SourceErrorKind::NotGranted;
                return Err(SourceError::new(kind, source.secret.to_string()).into());
            }
        }
        let published = Box::pin(self.publish(&access, reason, read, memory, progress)).await?;
        let leftovers = Box::pin(clean_up(binding, context, memory, turn)).await;
        progress.published = Some(self::published(binding, &published, leftovers));
        progress.done.push(ConditionType::Applied);
        Ok(())
    }

    async fn look_at_target(&self) -> Result<TargetState, Error> {
        let Self { binding, context, before, .. } = self;
        if context.targets.get(&binding.namespace, &binding.target.name).is_some() {
            return context.target(binding, before, Look::Cached).await;
        }
        if context.taken.is_free(context, &binding.namespace, &binding.target.name).await {
            return Ok(TargetState::Absent);
        }
        let _permit = context.requests.acquire().await.ok();
        context.target(binding, before, Look::Live).await
    }

    /// The versions of the sources without their values. `None` where only reading tells: nothing is published yet, or
    /// IAM does not allow to ask.
    async fn sight(
        &self,
        access: &Access,
        target: &TargetState,
        forced: bool,
        memory: &mut Memory,
        confirmed: bool,
    ) -> Result<Option<Sight>, Error> {
        let must_ask = !access.unconfirmed.is_empty() || memory.rejected.is_some();
        if !must_ask && (forced || matches!(target, TargetState::Absent | TargetState::Adoptable(_))) {
            return Ok(None);
        }
        let fresh =
            if forced { Duration::ZERO } else { plan::relied_on_for(self.context.interval(self.binding.refresh)) };
        let freshness = Freshness { fresh, failed: memory.shares_failures_of(), confirmed };
        let sight = self.context.sight(&self.binding, access, freshness).await?;
        if let Some(sight) = &sight {
            memory.verified = Some(sight.at);
        }
        Ok(sight)
    }

    fn need(
        &self,
        access: &Access,
        target: &TargetState,
        forced: bool,
        sight: Option<&Sight>,
        memory: &Memory,
    ) -> Need {
        let versions = sight.map(|sight| &sight.versions);
        let situation = Situation {
            target,
            status: self.before,
            inputs: versions.map(|versions| plan::inputs(&self.binding, access, versions, &self.context.key)),
            versions,
            by_event: sight.is_some_and(|sight| sight.by_event),
            forced,
            grant: &access.grant,
            target_name: &self.binding.target.name,
        };
        plan::need(&situation, memory.rejected.as_ref(), &self.context.key)
    }

    /// Reads all sources, together with all who ask for them at about the same time.
    async fn read(
        &self,
        access: &Arc<Access>,
        reason: ReadReason,
        wanted: &BTreeMap<Source, Known>,
    ) -> Result<BTreeMap<Source, Arc<SharedVersion>>, Error> {
        let reads = self.binding.mapping.sources().into_iter().map(|source| {
            let asker = Asker {
                binding: self.name.clone(),
                grant: access.grant.clone(),
                reason,
                wanted: wanted.get(&source).map(|known| known.version_id.clone()),
                judge: self.judge(access, &source),
            };
            async move {
                let version = self.context.reader.read(&access.identity, &source, asker).await?;
                Ok::<_, SourceError>((source, version))
            }
        });
        let reads = futures::future::try_join_all(reads);
        let mut reads = std::pin::pin!(reads);
        // The demands are known from the first poll on.
        let first = futures::poll!(reads.as_mut());
        self.context.first_looks.looked_at(self.name);
        self.context.reader.versions().asks(self.name);
        let read = match first {
            std::task::Poll::Ready(read) => read,
            std::task::Poll::Pending => reads.await,
        };
        Ok(read?.into_iter().collect())
    }

    /// Judges an answer of AWS after the read: by the grants as they are then, and by the name that AWS answered.
    fn judge(&self, access: &Arc<Access>, source: &Source) -> Judge {
        let (context, binding) = (self.context.clone(), self.binding.clone());
        let (access, source) = (access.clone(), source.clone());
        Arc::new(move |version| {
            if context.still_permits(&binding, &access, &source.secret, &version.arn, &version.name) {
                Ok(plan::selection(&binding.mapping, &access, &source, version))
            } else {
                Err(SourceErrorKind::NotGranted)
            }
        })
    }

    /// Renders what was read, drops the values, and writes the Secret.
    async fn publish(
        &self,
        access: &Access,
        reason: ReadReason,
        read: BTreeMap<Source, Arc<SharedVersion>>,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Observed, Error> {
        let Self { binding, context, before, .. } = self;
        let known = |version: &SharedVersion| Known {
            arn: version.arn.clone(),
            name: version.name.clone(),
            version_id: version.version_id.clone(),
        };
        let versions: BTreeMap<Source, Known> =
            read.iter().map(|(source, version)| (source.clone(), known(version))).collect();
        let inputs = plan::inputs(binding, access, &versions, &context.key);
        let sources = read.iter().map(|(source, version)| SourceStatus {
            secret: plan::source_text(source),
            arn: version.arn.clone(),
            version_id: version.version_id.clone(),
            created_time: version.created.map(Time),
        });
        let sources: Vec<SourceStatus> = sources.collect();
        let allowed =
            |source: &Source, key: &str| versions.get(source).is_some_and(|known| access.permits_key(&known.name, key));
        let selected = binding.mapping.select(|source| read.get(source).map(|version| &version.payload), &allowed);
        let rendered = selected.and_then(|selected| binding.mapping.complete(selected));
        let data = rendered.map(|rendered| rendered.data).map_err(|error| {
            let rejection = super::error::Rejection::from(error);
            memory.rejected = Some((inputs.clone(), rejection.clone()));
            Error::Render(rejection)
        })?;
        let created = read.values().filter_map(|version| version.created).max();
        drop(read);
        memory.rejected = None;
        progress.done.push(ConditionType::Rendered);

        let desired = Desired::new(binding, data, &inputs, &context.key);
        let observed = write(binding, context, before, &desired, &inputs).await?;
        if plan::is_repair(reason) {
            memory.repaired(Instant::now());
        }
        if let (ReadReason::Changed | ReadReason::Event, Some(created)) = (reason, created) {
            context.metrics.propagated(Timestamp::now().duration_since(created));
        }
        progress.sources = Some(sources);
        Ok(observed)
    }
}

fn published(binding: &Binding, observed: &Observed, leftovers: Vec<String>) -> Published {
    Published { name: binding.target.name.clone(), keys: observed.keys, written: observed.written.clone(), leftovers }
}

/// Deletes what an earlier name of the target left behind, and answers what has to stay for now. A failure here is no
/// failure of the binding: the Secret under the new name is published.
async fn clean_up<'a>(
    binding: &Binding,
    context: &'a Context,
    memory: &mut Memory,
    turn: &mut Turn<'a>,
) -> Vec<String> {
    if memory.tidy == Some(binding.generation) {
        return Vec::new();
    }
    let leftovers = context.targets.of(&binding.namespace, |targets| {
        leftover::find(binding, targets.iter().map(|(name, sighting)| (name.as_str(), &**sighting)))
    });
    let mut stay = Vec::new();
    for leftover in leftovers {
        take(turn, context).await;
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
async fn write(
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
            TargetState::Owned(observed) if compare(&observed, inputs) == Comparison::Current => {
                return Ok(observed);
            }
            TargetState::Owned(observed) | TargetState::Adoptable(observed) => Some(observed),
        };
        match apply_secret(&context.client, desired, observed.as_ref()).await {
            Ok(written) => {
                let written = Sighting::new(&written, &context.key);
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
