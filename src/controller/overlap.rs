//! The overlaps of a binding in a pass: what is observed for their steps, and the values that a step asks for.
//!
//! The step itself is pure: [`rotation::overlap`](crate::rotation::overlap). Twice in a pass it is asked: by what the
//! caches tell, whether anything is to be done; and before a write, by what the API server tells, what. From the second
//! look to the write the group is locked, so that no two bindings of it step at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::error::Error;
use super::hold::{Held, Hold};
use super::memory::Known;
use super::observe::Look;
use super::pass::Pass;
use super::plan;
use super::target::{Sighting, TargetState, owner_reference};
use super::{Context, Watched, watch};
use crate::api::{ConditionType, OverlapStrategy, Reason, SecretBinding, SecretBindingStatus};
use crate::binding::encoding::Encoding;
use crate::binding::key::TargetKey;
use crate::binding::mapping::{Entry, Mapping, Origin, RenderError, Rendered};
use crate::binding::name::BindingName;
use crate::binding::reference::{Source, VersionSelector};
use crate::binding::spec::Binding;
use crate::binding::value::Value;
use crate::grant::Access;
use crate::kubernetes::read::{PublishedSecret, read_object};
use crate::kubernetes::report::Note;
use crate::kubernetes::write::{WriteError, create_job};
use crate::rotation::command::{self, Verb};
use crate::rotation::gate::{self, Names};
use crate::rotation::job::{self, JobState, Purpose};
use crate::rotation::overlap::{Command, Gate, Job, Member, Situation, Step, Wait};
use crate::rotation::record::{Flight, Phase, Print, Record, Records, Settings, fingerprint};
use crate::rotation::rule::{Overlap, Rule};
use crate::rotation::state::Activity;
use crate::source::audit::ReadReason;
use crate::source::demand::Asker;
use crate::source::{SourceError, SourceErrorKind};

const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How often pods and Jobs are looked at while a phase waits for them: at first, and at last.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One key with an overlap, as it was observed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) key: TargetKey,
    pub(super) rule: Option<(String, Overlap)>,
    pub(super) record: Option<Record>,
    others: Vec<Member>,
    gate: Gate,
    job: Job,
    command: Option<Command>,
    written: Option<Timestamp>,
}

/// What is told of an overlap at the end of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapReport {
    /// The key.
    pub key: TargetKey,
    /// The rule; `None` where it was removed while its change is under way.
    pub rule: Option<String>,
    /// The record as it stands on the target.
    pub record: Option<Record>,
    /// What is waited for.
    pub waits: Option<Wait>,
    /// When to look again.
    pub again: Option<Duration>,
    /// What is to be told once.
    pub note: Option<Note>,
}

/// What was read, as far as an overlap asks for it.
pub(super) struct Material<'a> {
    pub(super) access: &'a Arc<Access>,
    pub(super) versions: &'a BTreeMap<Source, Known>,
}

/// The locks of groups, by namespace and name.
#[derive(Debug, Default)]
pub struct Groups(Mutex<HashMap<(String, String), Lock>>);

type Lock = Arc<tokio::sync::Mutex<()>>;

impl Groups {
    /// Locks groups of a namespace until the answer is dropped.
    pub async fn lock(&self, namespace: &str, groups: BTreeSet<String>) -> Vec<OwnedMutexGuard<()>> {
        let mut held = Vec::new();
        // In the order of their names, so that two passes never wait for each other.
        for group in groups {
            let lock = {
                let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
                locks.entry((namespace.to_owned(), group)).or_default().clone()
            };
            held.push(lock.lock_owned().await);
        }
        held
    }
}

impl Seen {
    fn settings(&self) -> Option<Settings> {
        let flight = self.record.as_ref().and_then(|record| record.flight.as_ref());
        flight
            .map(|flight| flight.settings.clone())
            .or_else(|| self.rule.as_ref().map(|(_, rule)| Settings::from(rule)))
    }

    /// What the source held at the last write.
    fn known_source(&self) -> Option<Print> {
        let record = self.record.as_ref()?;
        let prints = record.flight.iter().flat_map(|flight| [&flight.old, &flight.new]).chain([&record.settled]);
        let same = prints.into_iter().find(|print| print.fingerprint == record.source);
        Some(same.cloned().unwrap_or_else(|| Print { fingerprint: record.source.clone(), version: String::new() }))
    }

    fn step(&self, context: &Context, namespace: &str, source: &Print, published: Option<&str>, name: &str) -> Step {
        let group = self.settings().map(|settings| settings.group).unwrap_or_default();
        self.situation(source, published, name).step(|old, new| {
            let parts = [namespace, &group, &old.fingerprint, &new.fingerprint];
            let mut id = context.key.digest("flight", parts).split_off(context.key.id().len() + 1);
            id.truncate(16);
            id
        })
    }

    fn situation<'a>(&'a self, source: &'a Print, published: Option<&'a str>, name: &'a str) -> Situation<'a> {
        Situation {
            rule: self.rule.as_ref().map(|(_, rule)| rule),
            record: self.record.as_ref(),
            source,
            published,
            written: self.written,
            others: &self.others,
            name,
            gate: &self.gate,
            job: &self.job,
            command: self.command,
            now: Timestamp::now(),
        }
    }

    /// What is told of it where it stays as it is.
    fn report(&self, step: &Step, record: Option<&Record>, now: Timestamp) -> OverlapReport {
        let flight = record.and_then(|record| record.flight.as_ref());
        let since = flight.and_then(|flight| flight.since.or(self.written));
        let age =
            since.map_or(Duration::ZERO, |since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        let poll = step.waits.is_some().then(|| (age / 10).clamp(POLL.0, POLL.1));
        OverlapReport {
            key: self.key.clone(),
            rule: self.rule.as_ref().map(|(name, _)| name.clone()),
            record: record.cloned(),
            waits: step.waits.clone(),
            again: match step.wake {
                Some(wake) => Some(plan::until(wake, now)),
                None => poll,
            },
            note: None,
        }
    }
}

/// The records of a target: those that stand on it, and where it is gone or somebody edited them, their copies in the
/// status.
pub(super) fn records(binding: &Binding, target: &TargetState, status: &SecretBindingStatus) -> Records {
    let on_target = match target {
        TargetState::Owned(observed) => observed.rotation_state.as_deref().map(Records::parse),
        _ => None,
    };
    if let Some(Some(records)) = on_target {
        return records;
    }
    let edited = matches!(on_target, Some(None));
    let is_gone = matches!(target, TargetState::Absent);
    if !edited && !is_gone {
        return Records::default();
    }
    let copies = status.rotation.iter().filter_map(|rotation| {
        let rule = binding.rotation.iter().find(|rule| rule.name == rotation.name);
        let key = match rule {
            Some(rule) => rule.overlap.as_ref()?.key.clone(),
            None => TargetKey::try_from(rotation.keys.first()?.key.as_str()).ok()?,
        };
        Some((key, serde_json::from_str(rotation.overlap.as_deref()?).ok()?))
    });
    Records(copies.collect())
}

impl Pass<'_> {
    /// Whether anything of this binding overlaps.
    pub(super) fn overlaps_any(&self, target: &TargetState) -> bool {
        let recorded = matches!(target, TargetState::Owned(observed) if observed.rotation_state.is_some());
        recorded || self.binding.rotation.iter().any(|rule| rule.overlap.is_some())
    }

    /// The keys that overlap, with all that their steps depend on.
    pub(super) async fn look_at_overlaps(&self, target: &TargetState, look: Look) -> Result<Vec<Seen>, Error> {
        let written = match target {
            TargetState::Owned(observed) => observed.written.as_ref().map(|time| time.0),
            _ => None,
        };
        let mut records = records(&self.binding, target, self.before).0;
        let rules = self.binding.rotation.iter().filter_map(|rule| Some((rule, rule.overlap.as_ref()?)));
        let mut seen: Vec<Seen> = rules
            .map(|(rule, overlap)| {
                let record = records.remove(&overlap.key);
                let command = self.command(rule);
                Seen::new(overlap.key.clone(), Some((rule.name.clone(), overlap.clone())), record, command, written)
            })
            .collect();
        // What a removed rule left under way ends as it began.
        let orphans = records.into_iter().filter(|(_, record)| record.flight.is_some());
        seen.extend(orphans.map(|(key, record)| Seen::new(key, None, Some(record), None, written)));

        let mut pods = None;
        for seen in &mut seen {
            let Some(settings) = seen.settings() else { continue };
            if settings.strategy == OverlapStrategy::Staged {
                seen.others = self.context.members(self.name, &settings.group, look).await?;
            }
            let source = Print { fingerprint: String::new(), version: String::new() };
            let situation = seen.situation(&source, None, &self.binding.name);
            let (pods_wanted, job_wanted) = (situation.awaits_pods(), situation.awaits_job());
            let Some(flight) = seen.record.as_ref().and_then(|record| record.flight.as_ref()) else { continue };
            if let (true, Some(since)) = (pods_wanted, flight.since.or(written)) {
                if pods.is_none() {
                    pods = Some(self.context.pods(&self.binding.namespace).await?);
                }
                let names = Names {
                    target: &self.binding.target.name,
                    key: seen.key.as_str(),
                    next: &settings.next,
                    previous: &settings.previous,
                };
                seen.gate = gate::look(pods.as_deref().unwrap_or_default(), names, since);
            }
            if let (true, Some(cron_job)) = (job_wanted, &settings.reencrypt) {
                let rule = seen.rule.as_ref().map(|(name, _)| name.as_str());
                seen.job = self.reencrypt(&seen.key, rule, &flight.id, cron_job).await;
            }
        }
        Ok(seen)
    }

    /// The Job that re-encrypts, which is made where it is missing.
    async fn reencrypt(&self, key: &TargetKey, rule: Option<&str>, flight: &str, cron_job: &str) -> Job {
        let (namespace, client) = (&self.binding.namespace, &self.context.client);
        let name = job::name(cron_job, [self.binding.uid.as_str(), flight]);
        let unseen = |what: &str| Job::Failed(format!("the API server does not tell of the {what}; it is tried again"));
        let Ok(standing) = read_object::<batch::Job>(client, namespace, &name).await else {
            return unseen(&format!("Job {name:?}"));
        };
        let standing = match standing {
            Some(standing) if job::is_made_from(&standing, cron_job) => standing,
            Some(_) => return Job::Failed(format!("the Job {name:?} exists and is not Bindery's; delete it")),
            None => {
                let template = match read_object::<batch::CronJob>(client, namespace, cron_job).await {
                    Ok(Some(template)) => template,
                    Ok(None) => {
                        return Job::Failed(format!(
                            "the CronJob {cron_job:?} that re-encrypts does not exist; create it"
                        ));
                    }
                    Err(_) => return unseen(&format!("CronJob {cron_job:?}")),
                };
                let owner = owner_reference(&self.binding);
                let rule = rule.unwrap_or(key.as_str());
                let purpose = Purpose { name: &name, owner, binding: &self.binding.name, rule };
                let job = match job::of_cron_job(&template, &purpose) {
                    Ok(job) => job,
                    Err(refusal) => return Job::Failed(refusal.to_string()),
                };
                match create_job(client, namespace, &job).await {
                    Ok(job) => job,
                    Err(error) => return Job::Failed(error.to_string()),
                }
            }
        };
        match job::state(&standing) {
            JobState::Running => Job::Running,
            JobState::Succeeded(_) => Job::Succeeded,
            JobState::Failed(why) => Job::Failed(format!(
                "the Job {name:?}, which encrypts anew what was encrypted with the old value, failed ({why}); look at its pods, and delete it to have it run again"
            )),
        }
    }

    /// What somebody asks of a rule, once per text.
    fn command(&self, rule: &Rule) -> Option<Command> {
        let text = self.binding.command.as_ref()?;
        if self.before.last_handled_rotation.as_ref() == Some(text) {
            return None;
        }
        match command::Command::parse(text) {
            Some(command::Command { verb: Verb::Abort, rule: named }) if named == rule.name => Some(Command::Abort),
            Some(command::Command { verb: Verb::Retire, rule: named }) if named == rule.name => Some(Command::Retire),
            _ => None,
        }
    }

    /// The command of the binding, where it is one to overlaps: once they were looked at, it is dealt with.
    pub(super) fn handled_command(&self) -> Option<String> {
        let text = self.binding.command.as_ref()?;
        let verb = command::Command::parse(text)?.verb;
        matches!(verb, Verb::Abort | Verb::Retire).then(|| text.clone())
    }

    /// Whether, by what is known without reading a value, anything is to be written; and what is told if not.
    pub(super) fn overlaps_rest(&self, seen: &[Seen]) -> Result<Vec<OverlapReport>, ()> {
        let now = Timestamp::now();
        let rest = |seen: &Seen| {
            let source = seen.known_source().ok_or(())?;
            let step = seen.step(self.context, &self.binding.namespace, &source, None, &self.binding.name);
            if step.record == seen.record { Ok(seen.report(&step, step.record.as_ref(), now)) } else { Err(()) }
        };
        seen.iter().map(rest).collect()
    }

    /// Locks the groups of what was seen.
    pub(super) async fn lock_groups(&self, target: &TargetState) -> Vec<OwnedMutexGuard<()>> {
        let mut groups: BTreeSet<String> =
            self.binding.rotation.iter().filter_map(|rule| Some(rule.overlap.as_ref()?.group.clone())).collect();
        let flights = records(&self.binding, target, self.before).0.into_values().filter_map(|record| record.flight);
        groups.extend(flights.map(|flight| flight.settings.group));
        self.context.groups.lock(&self.binding.namespace, groups).await
    }

    /// Takes the steps: puts the values that they ask for beside the selected ones, and answers the records to write
    /// with them.
    pub(super) async fn overlap(
        &self,
        seen: Vec<Seen>,
        material: &Material<'_>,
        selected: &mut Rendered,
        old: Option<&PublishedSecret>,
    ) -> Result<(Records, Vec<OverlapReport>), Error> {
        let (mut records, mut reports) = (Records::default(), Vec::new());
        let now = Timestamp::now();
        for mut seen in seen {
            self.renew(&mut seen, old);
            let source = self.source_of(&seen.key, material, selected)?;
            let published = old.and_then(|old| old.data.get(seen.key.as_str())).map(|value| self.print(value));
            let step =
                seen.step(self.context, &self.binding.namespace, &source, published.as_deref(), &self.binding.name);
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
            let hold = self.hold(&seen, material, selected);
            match (&mut step.record, seen.record.as_ref().and_then(|record| record.flight.as_ref())) {
                (Some(Record { flight: Some(flight), .. }), before)
                    if before.is_none_or(|before| before.old != flight.old) && !flight.aborted =>
                {
                    let held = match &hold {
                        Some(hold) => hold.keep(self.context, &flight.old.version).await?,
                        None => Held::No,
                    };
                    flight.held = held == Held::Yes;
                    if held == Held::No && before.is_none() {
                        note = Some(only_copy(&seen.key, &self.binding.target.name));
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
                        hold.release(self.context).await;
                    }
                }
                (Some(Record { flight: Some(flight), .. }), Some(before)) => flight.held = before.held,
                _ => {}
            }
            reports.push(OverlapReport { note, ..seen.report(&step, step.record.as_ref(), now) });
            let Some(mut record) = step.record else { continue };
            if let Some(flight) = &mut record.flight {
                let before = seen.record.as_ref().and_then(|record| record.flight.as_ref());
                // A later write of the same phase takes the place of the one that the time of is meant.
                if before.is_some_and(|before| {
                    before.id == flight.id && before.phase == flight.phase && before.since.is_none()
                }) {
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
                let value = self.value_of(print, &seen.key, &names, material, selected, old).await?;
                let value = value.ok_or_else(|| Error::LostValue { key: seen.key.clone(), phase: record.phase() })?;
                values.push((name, value));
            }
            selected.data.extend(values);
            records.0.insert(seen.key.clone(), record);
        }
        Ok((records, reports))
    }

    /// Where the installation's key is another than the record's, what is published tells which values are meant.
    fn renew(&self, seen: &mut Seen, old: Option<&PublishedSecret>) {
        let Some(record) = &mut seen.record else { return };
        if record.settled.fingerprint.starts_with(self.context.key.id()) {
            return;
        }
        let print = |name: &str| old.and_then(|old| old.data.get(name)).map(|value| self.print(value));
        let under_key = print(seen.key.as_str());
        if let Some(flight) = &mut record.flight {
            let (old_name, new_name) = match flight.phase {
                Phase::Introducing => (seen.key.as_str(), flight.settings.next.as_str()),
                Phase::Promoted | Phase::Reencrypting => (flight.settings.previous.as_str(), seen.key.as_str()),
            };
            flight.old.fingerprint = print(old_name).unwrap_or_default();
            flight.new.fingerprint = print(new_name).unwrap_or_default();
            record.settled.fingerprint.clone_from(&flight.old.fingerprint);
        } else {
            record.settled.fingerprint = under_key.unwrap_or_default();
        }
        // Which value was ignored cannot be told any more.
        record.ignored = None;
    }

    fn print(&self, value: &Value) -> String {
        fingerprint(&self.context.key, &self.binding.namespace, value)
    }

    fn hold<'a>(&'a self, seen: &'a Seen, material: &Material<'a>, selected: &'a Rendered) -> Option<Hold<'a>> {
        let origin = selected.origins.get(&seen.key)?;
        Some(Hold {
            binding: self.name,
            uid: &self.binding.uid,
            rule: seen.rule.as_ref().map_or(seen.key.as_str(), |(name, _)| name),
            access: material.access,
            key: &seen.key,
            json_key: origin.json_key.as_deref(),
            secret: material.versions.get(&origin.source)?,
        })
    }

    /// What the source holds under a key.
    fn source_of(&self, key: &TargetKey, material: &Material<'_>, selected: &Rendered) -> Result<Print, Error> {
        let found = selected.data.get(key).zip(selected.origins.get(key));
        let (value, origin) =
            found.ok_or_else(|| Error::Render(RenderError::OverlapKeyMissing { key: key.clone() }.into()))?;
        let version = material.versions.get(&origin.source).map(|known| known.version_id.clone());
        Ok(Print { fingerprint: self.print(value), version: version.unwrap_or_default() })
    }

    /// The value of a fingerprint: from what was just read, from what is published, or from an older version.
    async fn value_of(
        &self,
        print: &Print,
        key: &TargetKey,
        names: &(String, String),
        material: &Material<'_>,
        selected: &Rendered,
        old: Option<&PublishedSecret>,
    ) -> Result<Option<Value>, Error> {
        let is_meant = |value: &&Value| self.print(value) == print.fingerprint;
        if let Some(value) = selected.data.get(key).filter(is_meant) {
            return Ok(Some(value.clone()));
        }
        let published = [key.as_str(), names.0.as_str(), names.1.as_str()];
        let published = published.iter().filter_map(|name| old.and_then(|old| old.data.get(*name)));
        if let Some(value) = published.into_iter().find(is_meant) {
            return Ok(Some(value.clone()));
        }
        let Some(origin) = selected.origins.get(key) else { return Ok(None) };
        let pinned = (!print.version.is_empty()).then(|| VersionSelector::Id(print.version.clone()));
        let older = VersionSelector::Stage("AWSPREVIOUS".to_owned());
        for version in pinned.into_iter().chain([older]) {
            let value = self.older_value(key, origin, version, material.access).await?;
            if let Some(value) = value.filter(|value| is_meant(&value)) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of a key in another version of its source; `None` where it is not there or may not be read.
    async fn older_value(
        &self,
        key: &TargetKey,
        origin: &Origin,
        version: VersionSelector,
        access: &Arc<Access>,
    ) -> Result<Option<Value>, Error> {
        let source = Source { secret: origin.source.secret.clone(), version };
        let named = self.binding.mapping.data.iter().find(|entry| entry.key == *key);
        let entry = Entry {
            key: key.clone(),
            source: source.clone(),
            json_key: origin.json_key.clone(),
            encoding: named.map_or(Encoding::None, |entry| entry.encoding),
            optional: true,
        };
        let mapping = Arc::new(Mapping { data: vec![entry], ..Mapping::default() });
        let judge = {
            let (context, binding, access) = (self.context.clone(), self.binding.clone(), access.clone());
            let (mapping, source) = (mapping.clone(), source.clone());
            Arc::new(move |version: &crate::source::SecretVersion| {
                if context.still_permits(&binding, &access, &source.secret, &version.arn, &version.name) {
                    Ok(plan::selection(&mapping, &access, &source, version))
                } else {
                    Err(SourceErrorKind::NotGranted)
                }
            })
        };
        let wanted = match &source.version {
            VersionSelector::Id(id) => Some(id.clone()),
            VersionSelector::Stage(_) => None,
        };
        let reason = ReadReason::Overlap;
        let asker = Asker { binding: self.name.clone(), grant: access.grant.clone(), reason, wanted, judge };
        match self.context.reader.read(&access.identity, &source, asker).await {
            Ok(version) => {
                let allowed = |_: &Source, key: &str| access.permits_key(&version.name, key);
                let selected = mapping.select(|_| Some(&version.payload), &allowed);
                Ok(selected.ok().and_then(|mut selected| selected.data.remove(key)))
            }
            Err(SourceError {
                kind: SourceErrorKind::VersionNotFound | SourceErrorKind::SecretNotFound | SourceErrorKind::AccessDenied,
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Seen {
    const fn new(
        key: TargetKey,
        rule: Option<(String, Overlap)>,
        record: Option<Record>,
        command: Option<Command>,
        written: Option<Timestamp>,
    ) -> Self {
        let gate = Gate { seen: false, older: Vec::new(), blocked: Vec::new() };
        Self { key, rule, record, others: Vec::new(), gate, job: Job::Unseen, command, written }
    }
}

impl Context {
    /// The other bindings of a group that have published its key.
    async fn members(&self, own: &BindingName, group: &str, look: Look) -> Result<Vec<Member>, Error> {
        let mut members = Vec::new();
        for binding in self.bindings_in(&own.namespace) {
            let Ok(manifest) = &binding.0 else { continue };
            if watch::name_of(&binding) == *own || manifest.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let target = manifest.spec.target.as_ref().and_then(|target| target.name.clone());
            let target = target.unwrap_or_else(|| manifest.name_any());
            let Some(records) = self.records_of(manifest, &own.namespace, &target, look).await? else { continue };
            if let Some(record) = member_record(manifest, records, group) {
                members.push(Member { name: manifest.name_any(), record, stuck: stuck(manifest) });
            }
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// The bindings of a namespace.
    pub(super) fn bindings_in(&self, namespace: &str) -> Vec<Arc<Watched>> {
        let of_namespace = |binding: &Arc<Watched>| binding.namespace().as_deref() == Some(namespace);
        self.scopes.iter().flat_map(|scope| scope.bindings.state()).filter(of_namespace).collect()
    }

    /// The records on another binding's target. `None` where it has none.
    async fn records_of(
        &self,
        manifest: &SecretBinding,
        namespace: &str,
        target: &str,
        look: Look,
    ) -> Result<Option<Records>, Error> {
        let cached = self.targets.get(namespace, target);
        let overlaps = manifest.spec.rotation.iter().any(|rule| rule.overlap.is_some());
        if !overlaps && cached.as_ref().is_none_or(|sighting| sighting.observed.rotation_state.is_none()) {
            return Ok(None);
        }
        let sighting = match look {
            Look::Cached => cached,
            Look::Live => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                let meta = timeout(READ_TIMEOUT, api.get_metadata_opt(target)).await;
                let meta = meta.map_err(|_| untold("another Secret of the group", target))?;
                let meta = meta.map_err(|_| untold("another Secret of the group", target))?;
                meta.map(|meta| Arc::new(Sighting::new(&meta, &self.key)))
            }
        };
        let own = sighting.filter(|sighting| sighting.binding.as_deref() == Some(manifest.name_any().as_str()));
        Ok(own.and_then(|sighting| sighting.observed.rotation_state.as_deref().and_then(Records::parse)))
    }

    /// The pods of a namespace.
    async fn pods(&self, namespace: &str) -> Result<Vec<Pod>, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let (mut pods, mut params) = (Vec::new(), ListParams::default().limit(500));
        loop {
            let page = timeout(READ_TIMEOUT, api.list(&params)).await.map_err(|_| untold("the pods of", namespace))?;
            let page = page.map_err(|_| untold("the pods of", namespace))?;
            pods.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(pods),
            }
        }
    }
}

fn only_copy(key: &TargetKey, target: &str) -> Note {
    Note {
        warning: true,
        reason: Reason::OnlyCopy,
        text: format!(
            "the old version of {key} cannot be kept in Secrets Manager (the grant's rotation or IAM does not allow it, or it \
             is gone), so the Secret {target:?} may become the only place that holds the old value: it stays without an \
             owner until the overlap ends"
        ),
    }
}

fn untold(what: &str, name: &str) -> Error {
    WriteError::Failed { name: name.to_owned(), what: format!("the API server does not tell of {what} {name}") }.into()
}

/// The record of the key by which a binding belongs to a group.
fn member_record(manifest: &SecretBinding, records: Records, group: &str) -> Option<Record> {
    let rules = manifest.spec.rotation.iter().filter_map(|rule| Some((rule, rule.overlap.as_ref()?)));
    let mut named = rules.filter(|(rule, overlap)| overlap.group.as_ref().unwrap_or(&rule.name) == group);
    let key = named.find_map(|(rule, _)| rule.keys.first().cloned());
    let flies = |record: &Record| record.flight.as_ref().is_some_and(|flight| flight.settings.group == group);
    let mut records = records.0;
    let in_flight = records.iter().find(|(_, record)| flies(record)).map(|(key, _)| key.clone());
    if let Some(key) = in_flight {
        return records.remove(&key);
    }
    records.remove(&TargetKey::try_from(key?.as_str()).ok()?)
}

/// Why a binding cannot take a step.
fn stuck(manifest: &SecretBinding) -> Option<String> {
    if manifest.spec.suspend.unwrap_or_default() {
        return Some("it is suspended".to_owned());
    }
    let conditions = manifest.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let failed = conditions.iter().find(|condition| {
        condition.status == "False"
            && [ConditionType::Granted, ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied]
                .iter()
                .any(|type_| type_.as_str() == condition.type_)
    });
    failed.map(|condition| condition.reason.clone())
}

/// What the overlaps of a binding are for the status: by rule, or where that was removed, by the rule that the status
/// knows the key by.
#[must_use]
pub fn activities(
    reports: &[OverlapReport],
    before: &SecretBindingStatus,
    written: Option<Timestamp>,
) -> BTreeMap<String, Activity> {
    let of = |report: &OverlapReport| {
        let by_key = || before.rotation.iter().find(|was| was.keys.iter().any(|age| age.key == report.key.as_str()));
        let name = report.rule.clone().or_else(|| Some(by_key()?.name.clone()))?;
        let record = report.record.as_ref()?;
        let what = |flight: &Flight, why: &str| {
            let action = if flight.aborted { "goes back to the old value" } else { "comes to a new value" };
            format!("the key {} {action} ({}): {why}", report.key, flight.phase.as_str())
        };
        let activity = record.flight.as_ref().map(|flight| match &report.waits {
            Some(Wait::Blocked(why)) => {
                Activity { trouble: Some((Reason::OverlapBlocked, what(flight, why))), ..Activity::default() }
            }
            Some(Wait::For(why)) => Activity { under_way: Some(what(flight, why)), ..Activity::default() },
            None => Activity { under_way: Some(what(flight, "it was just published")), ..Activity::default() },
        });
        let blocked = match (&record.flight, &report.waits) {
            (None, Some(Wait::Blocked(why))) => Some((Reason::OverlapBlocked, why.clone())),
            _ => None,
        };
        let activity = activity.unwrap_or(Activity { trouble: blocked, ..Activity::default() });
        let phase = record.phase().map(|phase| phase.as_str().to_owned());
        Some((name, Activity { phase, record: Some(copy(record, written)), ..activity }))
    };
    reports.iter().filter_map(of).collect()
}

/// The copy of a record in the status, with the time of the last write where that is meant.
fn copy(record: &Record, written: Option<Timestamp>) -> String {
    let mut record = record.clone();
    if let Some(flight) = &mut record.flight {
        flight.since = flight.since.or(written);
    }
    serde_json::to_string(&record).unwrap_or_default()
}
