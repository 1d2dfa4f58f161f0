//! The way from the grant to the Secret: observe, plan, read, render, apply.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::api::{ANNOTATION_CHANGED, ANNOTATION_ROTATION_STATE, ConditionType, SecretBindingStatus, SourceStatus};
use crate::aws::audit::ReadReason;
use crate::aws::read_request::{AnswerCheck, ReadRequest};
use crate::aws::shared_version::SharedVersion;
use crate::domain::binding::Binding;
use crate::domain::grant::{Access, GrantError, wants};
use crate::domain::name::BindingName;
use crate::domain::render::mapping::Rendered;
use crate::domain::render::mapping::error::RenderError;
use crate::domain::render::rejection::Rejection;
use crate::domain::rotation::age;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::Known;
use crate::domain::target::{
    Comparison, Desired, Observed, Sighting, TargetError, TargetState, compare, is_intact, judge, orphan,
};
use crate::kubernetes::read::PublishedSecret;
use crate::kubernetes::write::{WriteError, apply_secret, delete_secret};
use crate::reconcile::binding::observe::{Freshness, Look, Sight};
use crate::reconcile::binding::plan;
use crate::reconcile::binding::plan::{Need, Situation};
use crate::reconcile::binding::status::{Progress, Published};
use crate::reconcile::binding::walk::read_version;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rollout;
use crate::reconcile::rotation::overlap::Material;
use crate::state::history::Memory;

/// How often a write that lost a race looks again within one pass.
const RACES: usize = 4;

/// A permit for requests to the API server, held until the end of the pass once it was needed.
pub(crate) type Turn<'a> = Option<SemaphorePermit<'a>>;

pub(crate) async fn take<'a>(turn: &mut Turn<'a>, context: &'a Context) {
    if turn.is_none() {
        // The semaphore is never closed.
        *turn = context.requests.acquire().await.ok();
    }
}

/// One pass over one binding.
pub(crate) struct Pass<'a> {
    pub(crate) binding: Arc<Binding>,
    pub(crate) name: &'a BindingName,
    pub(crate) context: &'a Arc<Context>,
    pub(crate) before: &'a SecretBindingStatus,
}

impl<'a> Pass<'a> {
    /// The way from the grant to the Secret.
    pub(crate) async fn run(
        &self,
        memory: &mut Memory,
        progress: &mut Progress,
        turn: &mut Turn<'a>,
    ) -> Result<(), Error> {
        let Self { binding, name, context, before } = self;
        let access = Box::pin(context.access(binding)).await.map(Arc::new);
        let access = match access {
            Ok(access) => access,
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
            context.reader.versions().forget(name);
            return Err(TargetError::Foreign { name: binding.target.name.clone(), why }.into());
        }

        let fresh = plan::relied_on_for(context.interval(binding.refresh));
        let secrets = wants(&binding.mapping).into_keys().collect();
        context.reader.versions().register(name, &access.identity, secrets, fresh);
        context.first_looks.targets.arrived(name);
        let forced = binding.sync.is_some() && binding.sync != before.last_handled_sync;
        let mut sight = Box::pin(self.sight(&access, &target, forced, memory, false)).await?;
        let overlaps = if self.overlaps_any(&target) {
            self.overlaps_rest(&Box::pin(self.look_at_overlaps(&target, Look::Cached)).await?)
        } else {
            Ok(Vec::new())
        };
        let steps = overlaps.is_err();
        if let Ok(overlaps) = overlaps {
            progress.handled_command = self.handled_command();
            progress.overlaps = Some(overlaps);
        }
        let mut need = self.need(&access, &target, forced, steps, sight.as_ref(), memory);
        // What only a list tells proves that nothing changed; that something did, AWS is asked again.
        if matches!(need, Need::Read(_)) && sight.as_ref().is_some_and(|sight| !sight.confirmed) {
            sight = Box::pin(self.sight(&access, &target, forced, memory, true)).await?;
            need = self.need(&access, &target, forced, steps, sight.as_ref(), memory);
        }
        let reason = match need {
            Need::Nothing(observed) => {
                progress.done.extend([ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied]);
                progress.rotation.aws = sight.and_then(|sight| sight.rotations);
                let leftovers = Box::pin(clean_up(binding, context, memory, turn)).await;
                self.find_ages(&access, memory, progress);
                progress.published = Some(published(binding, &observed, leftovers));
                progress.observed = Some(observed);
                return Ok(());
            }
            Need::Refuse(rejection) => {
                progress.done.push(ConditionType::Fetched);
                return Err(Error::Render(rejection));
            }
            Need::Read(reason) => reason,
        };
        plan::allow_repair(reason, &target, &binding.target.name, memory, Instant::now())?;

        progress.rotation.aws = sight.as_ref().and_then(|sight| sight.rotations.clone());
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
        let published = Box::pin(self.publish(&access, reason, read, target, memory, progress)).await?;
        let leftovers = Box::pin(clean_up(binding, context, memory, turn)).await;
        progress.published = Some(self::published(binding, &published, leftovers));
        progress.observed = Some(published);
        progress.done.push(ConditionType::Applied);
        self.find_ages(&access, memory, progress);
        Ok(())
    }

    pub(crate) async fn look_at_target(&self) -> Result<TargetState, Error> {
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
    pub(crate) async fn sight(
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

    pub(crate) fn need(
        &self,
        access: &Access,
        target: &TargetState,
        forced: bool,
        overlap: bool,
        sight: Option<&Sight>,
        memory: &Memory,
    ) -> Need {
        let versions = sight.map(|sight| &sight.versions);
        let situation = Situation {
            target,
            status: self.before,
            inputs: versions
                .map(|versions| plan::inputs(&self.binding, access, versions, records_text(target), &self.context.key)),
            versions,
            by_event: sight.is_some_and(|sight| sight.by_event),
            forced,
            rotation: if overlap {
                Some(ReadReason::Overlap)
            } else {
                let unaged = age::needs_read(&self.binding.rotation, self.before, &memory.unaged, &self.context.key);
                unaged.then_some(ReadReason::Age)
            },
            grant: &access.grant,
            target_name: &self.binding.target.name,
        };
        plan::need(&situation, memory.rejected.as_ref(), &self.context.key)
    }

    /// Reads all sources, together with all who ask for them at about the same time.
    pub(crate) async fn read(
        &self,
        access: &Arc<Access>,
        reason: ReadReason,
        wanted: &BTreeMap<Source, Known>,
    ) -> Result<BTreeMap<Source, Arc<SharedVersion>>, Error> {
        let reads = self.binding.mapping.sources().into_iter().map(|source| {
            let asker = ReadRequest {
                binding: self.name.clone(),
                grant: access.grant.clone(),
                reason,
                version_id: wanted.get(&source).map(|known| known.version_id.clone()),
                check: self.judge(access, &source),
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
        self.context.first_looks.demands.arrived(self.name);
        self.context.reader.versions().record_request(self.name);
        let read = match first {
            std::task::Poll::Ready(read) => read,
            std::task::Poll::Pending => reads.await,
        };
        Ok(read?.into_iter().collect())
    }

    /// Judges an answer of AWS after the read: by the grants as they are then, and by the name that AWS answered.
    pub(crate) fn judge(&self, access: &Arc<Access>, source: &Source) -> AnswerCheck {
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
    pub(crate) async fn publish(
        &self,
        access: &Arc<Access>,
        reason: ReadReason,
        read: BTreeMap<Source, Arc<SharedVersion>>,
        seen: TargetState,
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Observed, Error> {
        let Self { binding, context, .. } = self;
        let known = |version: &SharedVersion| Known {
            arn: version.arn.clone(),
            name: version.name.clone(),
            version_id: version.version_id.clone(),
        };
        let versions: BTreeMap<Source, Known> =
            read.iter().map(|(source, version)| (source.clone(), known(version))).collect();
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
        let material = Material { access, versions: &versions };
        let inputs =
            |target: &TargetState| plan::inputs(binding, access, &versions, records_text(target), &context.key);
        let selected = match selected {
            Ok(selected) => selected,
            Err(error) => {
                return Err(reject(error, inputs(&seen), memory));
            }
        };
        let created = read.values().filter_map(|version| version.created).max();
        let read_versions = read.iter().map(|(source, version)| (source.clone(), read_version(version))).collect();
        drop(read);

        let sights = Box::pin(self.sights(&selected, &read_versions)).await;
        let same_sources = rollout::same_sources(binding, self.before, &sources);
        let observed = self.write(&selected, &material, (seen, same_sources), memory, progress).await?;
        self.age(sights, memory, progress);
        if plan::is_repair(reason) {
            memory.repaired(Instant::now());
        }
        if let (ReadReason::Changed | ReadReason::Event, Some(created)) = (reason, created) {
            context.metrics.propagated(Timestamp::now().duration_since(created));
        }
        progress.sources = Some(sources);
        Ok(observed)
    }

    /// Writes the Secret, if it is not already as desired, on top of exactly what was `seen` before, or of what is seen
    /// then where that is not so any more.
    async fn write(
        &self,
        selected: &Rendered,
        material: &Material<'_>,
        (seen, same_sources): (TargetState, bool),
        memory: &mut Memory,
        progress: &mut Progress,
    ) -> Result<Observed, Error> {
        let Self { binding, context, before, .. } = self;
        let (access, versions) = (material.access, material.versions);
        let inputs = |records: Option<&str>| plan::inputs(binding, access, versions, records, &context.key);
        let overlaps = self.overlaps_any(&seen);
        let _groups = if overlaps { self.lock_groups(&seen).await } else { Vec::new() };
        let mut seen = Some(seen);
        for _ in 0..RACES {
            let (target, old) = if overlaps || binding.has_history() {
                context.target_with_values(binding, before).await?
            } else if let Some(seen) = seen.take() {
                (seen, None)
            } else {
                (context.target(binding, before, Look::Live).await?, None)
            };
            let (mut selected, mut records, mut alone) = (selected.clone(), None, false);
            if overlaps {
                let seen = Box::pin(self.look_at_overlaps(&target, Look::Live)).await?;
                let stepped = Box::pin(self.overlap(seen, material, &mut selected, old.as_ref())).await;
                let (next, reports) = match stepped {
                    Err(Error::Render(rejection)) => {
                        memory.rejected = Some((inputs(records_text(&target)), rejection.clone()));
                        return Err(Error::Render(rejection));
                    }
                    stepped => stepped?,
                };
                alone = next.0.values().filter_map(|record| record.flight.as_ref()).any(|flight| !flight.held);
                records = next.text();
                progress.overlaps = Some(reports);
                progress.handled_command = self.handled_command();
            }
            let inputs_now = inputs(records_text(&target));
            let inputs = inputs(records.as_deref());
            let observed = match target {
                TargetState::Foreign(why) => {
                    return Err(TargetError::Foreign { name: binding.target.name.clone(), why }.into());
                }
                TargetState::Absent => None,
                TargetState::Owned(observed) if compare(&observed, &inputs) == Comparison::Current => {
                    memory.rejected = None;
                    progress.done.push(ConditionType::Rendered);
                    return Ok(observed);
                }
                TargetState::Owned(observed) | TargetState::Adoptable(observed) => Some(observed),
            };
            let desired = self.compose(selected, records, &inputs, observed.as_ref(), old.as_ref(), same_sources);
            let mut desired = desired.map_err(|error| reject(error, inputs_now, memory))?;
            if alone {
                // What may be the only copy of a value does not go with its binding.
                desired = desired.without_owner(&inputs, &context.key);
            }
            memory.rejected = None;
            if !progress.done.contains(&ConditionType::Rendered) {
                progress.done.push(ConditionType::Rendered);
            }
            match apply_secret(&context.client, &desired, observed.as_ref()).await {
                Ok(written) => {
                    let written = Sighting::new(&written, &context.key);
                    let TargetState::Owned(observed) = judge(binding, Some(&written), true) else {
                        return Err(WriteError::Raced.into());
                    };
                    // What is as it should be needs no pass when the watch shows it. A new phase does, since it waits.
                    if !overlaps && compare(&observed, &inputs) == Comparison::Current {
                        context.targets.wrote(&binding.namespace, &desired.name, &observed.resource_version);
                    }
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

    /// The Secret as it should be, given what stands there: the keys as selected and completed, with what is told of
    /// earlier values.
    fn compose(
        &self,
        selected: Rendered,
        records: Option<String>,
        inputs: &str,
        observed: Option<&Observed>,
        old: Option<&PublishedSecret>,
        same_sources: bool,
    ) -> Result<Desired, RenderError> {
        let rendered = self.binding.mapping.complete(selected)?;
        let changes = rollout::changes(&self.binding, self.before, observed, old, &rendered.data, same_sources);
        let changes =
            changes.and_then(|changes| changes.text()).map(|changes| (ANNOTATION_CHANGED.to_owned(), changes));
        let records = records.map(|records| (ANNOTATION_ROTATION_STATE.to_owned(), records));
        let history = changes.into_iter().chain(records).collect();
        Ok(Desired::new(&self.binding, rendered.data, history, inputs, &self.context.key))
    }
}

/// Remembers inputs that give no Secret, so that they are not read again.
fn reject(error: RenderError, inputs: String, memory: &mut Memory) -> Error {
    let rejection = Rejection::from(error);
    memory.rejected = Some((inputs, rejection.clone()));
    Error::Render(rejection)
}

/// The records of overlaps on a target, as they stand there.
fn records_text(target: &TargetState) -> Option<&str> {
    match target {
        TargetState::Owned(observed) => observed.rotation_state.as_deref(),
        _ => None,
    }
}

pub(crate) fn published(binding: &Binding, observed: &Observed, leftovers: Vec<String>) -> Published {
    Published { name: binding.target.name.clone(), keys: observed.keys, written: observed.written.clone(), leftovers }
}

/// Deletes what an earlier name of the target left behind, and answers what has to stay for now. A failure here is no
/// failure of the binding: the Secret under the new name is published.
pub(crate) async fn clean_up<'a>(
    binding: &Binding,
    context: &'a Context,
    memory: &mut Memory,
    turn: &mut Turn<'a>,
) -> Vec<String> {
    if memory.tidy == Some(binding.generation) {
        return Vec::new();
    }
    let leftovers = context.targets.of(&binding.namespace, |targets| {
        orphan::find(binding, targets.iter().map(|(name, sighting)| (name.as_str(), &**sighting)))
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
pub(crate) async fn withdraw(
    binding: &Binding,
    context: &Context,
    before: &SecretBindingStatus,
) -> Result<bool, Error> {
    let name = &binding.target.name;
    match context.target(binding, before, Look::Live).await? {
        TargetState::Absent => Ok(true),
        TargetState::Owned(observed) => {
            let seen =
                orphan::Leftover { name: name.clone(), uid: observed.uid, resource_version: observed.resource_version };
            if !delete_secret(&context.client, &binding.namespace, &seen).await? {
                return Err(WriteError::Raced.into());
            }
            tracing::info!(namespace = %binding.namespace, secret = %name, "deleted, since its grant ended");
            Ok(true)
        }
        TargetState::Foreign(_) | TargetState::Adoptable(_) => Ok(false),
    }
}
