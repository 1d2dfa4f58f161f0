//! The overlaps of a binding in a pass: what is observed for their steps, and the values that a step asks for.
//!
//! The step itself is pure: [`rotation::overlap`](crate::domain::rotation::overlap). Twice in a pass it is asked: by what the
//! caches tell, whether anything is to be done; and before a write, by what the API server tells, what. From the second
//! look to the write the group is locked, so that no two bindings of it step at once.

#![allow(clippy::too_many_arguments, clippy::too_many_lines, reason = "the object SecretRotation replaces this file")]

pub mod members;
pub mod observed;
pub mod report;
pub mod values;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use crate::api::{OverlapStrategy, SecretBindingStatus};
use crate::domain::binding::Binding;
use crate::domain::render::key::TargetKey;
use crate::domain::render::mapping::Rendered;
use crate::domain::render::mapping::error::RenderError;
use crate::domain::rotation::command::Verb;
use crate::domain::rotation::gate::Names;
use crate::domain::rotation::job::{JobRefusal, JobState, Purpose};
use crate::domain::rotation::overlap::{Job, OverlapCommand, Wait};
use crate::domain::rotation::record::{Flight, Print, Record, Records};
use crate::domain::rotation::rule::Rule;
use crate::domain::rotation::{command, gate, job};
use crate::domain::target::{TargetState, owner_reference};
use crate::kubernetes::api_server::{Permit, ReadClient};
use crate::kubernetes::job::{JobError, ObservedJob, create_job, observe_job};
use crate::kubernetes::read::PublishedSecret;
use crate::reconcile::consistency::Consistency;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rotation::hold::Held;
use crate::reconcile::rotation::overlap::observed::{ObservedOverlap, OverlapMaterial, OverlapReport};
use crate::reconcile::rotation::overlap::values::only_copy;
use crate::reconcile::subject::Subject;
use crate::settings::Feature;
use kube::ResourceExt as _;

/// The records of a target: those that stand on it, and where it is gone or somebody edited them, their copies in the
/// status.
pub(crate) fn records(binding: &Binding, target: &TargetState, status: &SecretBindingStatus) -> Records {
    let on_target = match target {
        TargetState::Owned(observed) => observed.rotation_state.as_deref().map(Records::parse),
        _ => None,
    };
    if let Some(Some(records)) = on_target {
        return records;
    }
    // An annotation that is missing where a rule asks for one, and was there, was taken away by somebody.
    let has_rule = |key: &TargetKey| {
        binding.rotation.iter().any(|rule| rule.overlap.as_ref().is_some_and(|overlap| overlap.key == *key))
    };
    let counts = |key: &TargetKey| match target {
        TargetState::Absent => true,
        TargetState::Owned(_) => on_target.is_some() || has_rule(key),
        TargetState::Adoptable(_) | TargetState::Foreign(_) => false,
    };
    let copies = status.rotation.iter().filter_map(|rotation| {
        let rule = binding.rotation.iter().find(|rule| rule.name == rotation.name);
        let key = match rule {
            Some(rule) => rule.overlap.as_ref()?.key.clone(),
            None => TargetKey::try_from(rotation.keys.first()?.key.as_str()).ok()?,
        };
        Some((key, serde_json::from_str(rotation.overlap.as_deref()?).ok()?)).filter(|(key, _)| counts(key))
    });
    Records(copies.collect())
}

/// Whether anything of this binding overlaps.
pub(crate) fn overlaps_any(subject: &Subject<'_>, target: &TargetState) -> bool {
    let recorded = matches!(target, TargetState::Owned(observed) if observed.rotation_state.is_some());
    recorded || subject.binding.rotation.iter().any(|rule| rule.overlap.is_some())
}

/// The keys that overlap, with all that their steps depend on.
pub(crate) async fn look_at_overlaps(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    target: &TargetState,
    consistency: Consistency,
    client: ReadClient<'_>,
) -> Result<Vec<ObservedOverlap>, Error> {
    let written = match target {
        TargetState::Owned(observed) => observed.written.as_ref().map(|time| time.0),
        _ => None,
    };
    let mut records = records(&subject.binding, target, subject.before).0;
    let rules = subject.binding.rotation.iter().filter_map(|rule| Some((rule, rule.overlap.as_ref()?)));
    let mut seen: Vec<ObservedOverlap> = rules
        .map(|(rule, overlap)| {
            let record = records.remove(&overlap.key);
            let command = command_of(subject, rule);
            ObservedOverlap::new(
                overlap.key.clone(),
                Some((rule.name.clone(), overlap.clone())),
                record,
                command,
                written,
            )
        })
        .collect();
    // What a removed rule left under way ends as it began.
    let orphans = records.into_iter().filter(|(_, record)| record.flight.is_some());
    seen.extend(orphans.map(|(key, record)| ObservedOverlap::new(key, None, Some(record), None, written)));

    let mut pods = None;
    for seen in &mut seen {
        let Some(settings) = seen.settings() else { continue };
        if settings.strategy == OverlapStrategy::Staged {
            seen.others = members::members(cx, subject.name, &settings.group, consistency, client).await?;
        }
        let source = Print { fingerprint: String::new(), version: String::new() };
        let situation = seen.situation(&source, None, &subject.binding.name);
        let (pods_wanted, job_wanted) = (situation.awaits_pods(), situation.awaits_job());
        let Some(flight) = seen.record.as_ref().and_then(|record| record.flight.as_ref()) else { continue };
        if let (true, Some(since)) = (pods_wanted, flight.since.or(written)) {
            if pods.is_none() {
                let (namespace, target) = (&subject.binding.namespace, &subject.binding.target.name);
                pods = Some(members::pods(client, namespace, target).await?);
            }
            let Some(pods) = &pods else { continue };
            let names = Names {
                target: &subject.binding.target.name,
                key: seen.key.as_str(),
                next: &settings.next,
                previous: &settings.previous,
            };
            seen.gate = gate::look(&pods.objects, names, since);
            seen.gate.blocked.extend(pods.unreadable.iter().map(|pod| {
                format!("the pod {pod} cannot be read by this version of Bindery, so nobody knows what it uses: delete it, or upgrade Bindery")
            }));
        }
        if let (true, Some(cron_job)) = (job_wanted, &settings.reencrypt) {
            let rule = seen.rule.as_ref().map(|(name, _)| name.as_str());
            (seen.job, seen.missing) = match cx.settings.features.require(Feature::Jobs) {
                Ok(()) => reencrypt(subject, &seen.key, rule, flight, cron_job, client).await,
                Err(off) => (Job::Off(off), None),
            };
            if seen.missing.is_some() && !cx.authorization.permits_jobs(&subject.binding.namespace) {
                let refusal = JobRefusal::NamespaceSilent(subject.binding.namespace.clone());
                (seen.job, seen.missing) = (Job::Failed(refusal.to_string()), None);
            }
        }
    }
    Ok(seen)
}

/// The Job that re-encrypts, and the Job to create where it is missing.
async fn reencrypt(
    subject: &Subject<'_>,
    key: &TargetKey,
    rule: Option<&str>,
    flight: &Flight,
    cron_job: &str,
    client: ReadClient<'_>,
) -> (Job, Option<Box<batch::Job>>) {
    let namespace = &subject.binding.namespace;
    // The same change may come again after it was taken back: what was done for the first is not done for it.
    let began = flight.gate.map(|gate| gate.to_string()).unwrap_or_default();
    let name = job::name(cron_job, [subject.binding.uid.as_str(), &flight.id, &began]);
    let owner = owner_reference(&subject.binding);
    let rule = rule.unwrap_or(key.as_str());
    let purpose = Purpose { name: &name, owner, binding: &subject.binding.name, rule };
    let unseen = |what: String| format!("the API server does not tell of the {what}; it is tried again");
    let failed = match observe_job(client, namespace, cron_job, &purpose).await {
        Ok(ObservedJob::Standing(job)) => return (state_of(&job, &name), None),
        Ok(ObservedJob::Missing(job)) => return (Job::Absent, Some(job)),
        Err(JobError::Foreign(_)) => format!("the Job {name:?} exists and is not Bindery's; delete it"),
        Err(JobError::NoCronJob(_)) => {
            format!("the CronJob {cron_job:?} that re-encrypts does not exist; create it")
        }
        Err(JobError::Unseen(_) | JobError::Forbidden(_)) => unseen(format!("Job {name:?}")),
        Err(JobError::CronJobUnseen(_) | JobError::CronJobForbidden(_)) => unseen(format!("CronJob {cron_job:?}")),
        Err(error) => error.to_string(),
    };
    (Job::Failed(failed), None)
}

fn state_of(job: &batch::Job, name: &str) -> Job {
    match job::state(job) {
        JobState::Running => Job::Running,
        JobState::Succeeded(_) => Job::Succeeded,
        JobState::Failed(why) => Job::Failed(format!(
            "the Job {name:?}, which encrypts anew what was encrypted with the old value, failed ({why}); look at its pods, and delete it to have it run again"
        )),
    }
}

/// Creates the Jobs that are missing.
pub(crate) async fn start_jobs(
    subject: &Subject<'_>,
    mut seen: Vec<ObservedOverlap>,
    permit: &Permit<'_>,
) -> Vec<ObservedOverlap> {
    for seen in &mut seen {
        let Some(job) = seen.missing.take() else { continue };
        seen.job = match create_job(permit.writes().await, &subject.binding.namespace, &job).await {
            Ok(created) => state_of(&created, &job.name_any()),
            Err(error) => Job::Failed(error.to_string()),
        };
    }
    seen
}

/// What somebody asks of a rule, once per text.
fn command_of(subject: &Subject<'_>, rule: &Rule) -> Option<OverlapCommand> {
    let text = subject.binding.command.as_ref()?;
    if subject.before.last_handled_rotation.as_ref() == Some(text) {
        return None;
    }
    match command::RotationCommand::parse(text) {
        Some(command::RotationCommand { verb: Verb::Abort, rule: named }) if named == rule.name => {
            Some(OverlapCommand::Abort)
        }
        Some(command::RotationCommand { verb: Verb::Retire, rule: named }) if named == rule.name => {
            Some(OverlapCommand::Retire)
        }
        _ => None,
    }
}

/// The command of the binding, where it is one to overlaps: once they were looked at, it is dealt with.
pub(crate) fn handled_command(binding: &Binding) -> Option<String> {
    let text = binding.command.as_ref()?;
    let verb = command::RotationCommand::parse(text)?.verb;
    matches!(verb, Verb::Abort | Verb::Retire).then(|| text.clone())
}

/// Whether, by what is known without reading a value, anything is to be written; and what is told if not.
pub(crate) fn overlaps_rest(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    seen: &[ObservedOverlap],
) -> Result<Vec<OverlapReport>, ()> {
    let now = Timestamp::now();
    let rest = |seen: &ObservedOverlap| {
        let source = seen.known_source().ok_or(())?;
        let step = seen.step(cx, &subject.binding.namespace, &source, None, &subject.binding.name);
        if step.record == seen.record { Ok(seen.report(&step, step.record.as_ref(), now)) } else { Err(()) }
    };
    seen.iter().map(rest).collect()
}

/// Locks the groups of what was seen.
pub(crate) async fn lock_groups(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    target: &TargetState,
) -> Vec<OwnedMutexGuard<()>> {
    let mut groups: BTreeSet<String> =
        subject.binding.rotation.iter().filter_map(|rule| Some(rule.overlap.as_ref()?.group.clone())).collect();
    let flights = records(&subject.binding, target, subject.before).0.into_values().filter_map(|record| record.flight);
    groups.extend(flights.map(|flight| flight.settings.group));
    cx.state.groups.lock(&subject.binding.namespace, groups).await
}

/// Takes the steps: puts the values that they ask for beside the selected ones, and answers the records to write
/// with them.
pub(crate) async fn overlap(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    seen: Vec<ObservedOverlap>,
    material: &OverlapMaterial<'_>,
    selected: &mut Rendered,
    old: Option<&PublishedSecret>,
) -> Result<(Records, Vec<OverlapReport>), Error> {
    let (mut records, mut reports) = (Records::default(), Vec::new());
    let now = Timestamp::now();
    for mut seen in seen {
        values::renew(cx, subject, &mut seen, old);
        let source = values::source_of(cx, subject, &seen.key, material, selected)?;
        let published =
            old.and_then(|old| old.data.get(seen.key.as_str())).map(|value| values::print(cx, subject, value));
        let step = seen.step(cx, &subject.binding.namespace, &source, published.as_deref(), &subject.binding.name);
        let names = seen.settings().map(|settings| (settings.next, settings.previous)).unwrap_or_default();
        for name in [&names.0, &names.1] {
            if let Ok(name) = TargetKey::try_from(name.as_str())
                && selected.data.contains_key(&name)
            {
                return Err(Error::Render(RenderError::OverlapKeyTaken { key: seen.key.clone(), name }.into()));
            }
        }
        let mut step = step;
        let mut note = None;
        let hold = values::hold(subject, &seen, material, selected);
        match (&mut step.record, seen.record.as_ref().and_then(|record| record.flight.as_ref())) {
            (Some(Record { flight: Some(flight), .. }), before)
                if before.is_none_or(|before| before.old != flight.old) && !flight.aborted =>
            {
                let held = match &hold {
                    Some(hold) => hold.keep(cx, &flight.old.version).await?,
                    None => Held::No,
                };
                flight.held = held == Held::Yes;
                if held == Held::No && before.is_none() {
                    note = Some(only_copy(&seen.key, &subject.binding.target.name));
                }
                if held == Held::Full {
                    // Without a place for the old value, the new one is not taken up.
                    step.waits = Some(Wait::Blocked(format!(
                        "the secret of {} has as many version stages as AWS allows, so its old version cannot be kept: remove one",
                        seen.key
                    )));
                    step.record =
                        seen.record.clone().map(|record| Record { source: source.fingerprint.clone(), ..record });
                }
            }
            // The value that an aborted change went back to is not the source's, so it stays kept.
            (Some(Record { flight: None, ignored: None, .. }), Some(before)) if before.held => {
                if let Some(hold) = &hold {
                    hold.release(cx).await;
                }
            }
            (Some(Record { flight: Some(flight), .. }), Some(before)) => flight.held = before.held,
            _ => {}
        }
        let report = seen.report(&step, step.record.as_ref(), now);
        reports.push(OverlapReport { note: note.or_else(|| report.note.clone()), ..report });
        let Some(mut record) = step.record else { continue };
        if let Some(flight) = &mut record.flight {
            let before = seen.record.as_ref().and_then(|record| record.flight.as_ref());
            // A later write of the same phase takes the place of the one that the time of is meant.
            if before
                .is_some_and(|before| before.id == flight.id && before.phase == flight.phase && before.since.is_none())
            {
                flight.since = flight.since.or(seen.written);
            }
        }
        let contents = record.contents();
        let mut wanted = vec![(seen.key.clone(), contents.key)];
        for (name, print) in [contents.next, contents.previous].into_iter().flatten() {
            wanted.extend(TargetKey::try_from(name).ok().map(|name| (name, print)));
        }
        let mut values = Vec::new();
        for (name, print) in wanted {
            let value = values::value_of(cx, subject, print, &seen.key, &names, material, selected, old).await?;
            let value = value.ok_or_else(|| Error::LostValue { key: seen.key.clone(), phase: record.phase() })?;
            values.push((name, value));
        }
        selected.data.extend(values);
        records.0.insert(seen.key.clone(), record);
    }
    Ok((records, reports))
}
