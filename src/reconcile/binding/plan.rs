//! What to do about a binding, as pure functions of what was observed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::api::{ConditionType, SecretBindingStatus};
use crate::aws::audit::ReadReason;
use crate::aws::read_request::Selection;
use crate::domain::binding::Binding;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::grant::Access;
use crate::domain::render::mapping::{Mapping, RENDER_REVISION};
use crate::domain::render::rejection::Rejection;
use crate::domain::secret::reference::{Source, VersionSelector};
use crate::domain::secret::version::{SecretVersion, VersionRef};
use crate::domain::target::{Comparison, ObservedTarget, TargetError, TargetState, compare};
use crate::reconcile::binding::status::stale_after;
use crate::state::history::Memory;

/// The fifth repair within the window is not made.
const MAX_REPAIRS: usize = 4;

/// What was observed of a binding, without any value.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The target.
    pub target: &'a TargetState,
    /// The status.
    pub status: &'a SecretBindingStatus,
    /// The digest of all that decides the content, where the versions are known.
    pub inputs: Option<String>,
    /// The versions of the sources, where they are known without a read.
    pub versions: Option<&'a BTreeMap<Source, VersionRef>>,
    /// Whether the present versions were found by an event.
    pub by_event: bool,
    /// Whether somebody asks for a read.
    pub forced: bool,
    /// What rotation needs the values for, where it does: an overlap has a step to take, or only a read can tell the
    /// age of a key.
    pub rotation: Option<ReadReason>,
    /// The grant that serves the binding.
    pub grant: &'a str,
    /// The name of the target.
    pub target_name: &'a str,
}

/// What a situation calls for.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// The target is as it should be.
    Nothing(ObservedTarget),
    /// These inputs were read before and give no Secret; to read them again would change nothing.
    Refuse(Rejection),
    /// The values are needed.
    Read(ReadReason),
}

/// Decides whether values must be read, and why.
#[must_use]
pub fn need(situation: &Situation<'_>, rejected: Option<&(String, Rejection)>, key: &FingerprintKey) -> Need {
    if situation.forced {
        return Need::Read(ReadReason::Forced);
    }
    if let (Some(inputs), Some((known, rejection))) = (&situation.inputs, rejected)
        && known == inputs
    {
        return Need::Refuse(rejection.clone());
    }
    let was_published =
        situation.status.binding.as_ref().is_some_and(|published| published.name == situation.target_name);
    let observed = match situation.target {
        TargetState::Owned(observed) => observed,
        TargetState::Absent if was_published => return Need::Read(ReadReason::Missing),
        TargetState::Absent | TargetState::Adoptable(_) | TargetState::Foreign(_) => {
            return Need::Read(ReadReason::Created);
        }
    };
    let Some(inputs) = &situation.inputs else { return Need::Read(ReadReason::Changed) };
    match compare(observed, inputs) {
        // What is published is proven current, but the status that tells of it was lost: only a read gives it back.
        Comparison::Current if !is_recorded(situation) => Need::Read(ReadReason::Restart),
        Comparison::Current => match situation.rotation {
            Some(reason) => Need::Read(reason),
            None => Need::Nothing(observed.clone()),
        },
        Comparison::Drifted if is_marked_by_another_key(observed, key) => Need::Read(ReadReason::Restart),
        Comparison::Drifted => Need::Read(ReadReason::Drift),
        Comparison::Outdated if situation.status.grant.as_deref().is_some_and(|grant| grant != situation.grant) => {
            Need::Read(ReadReason::Access)
        }
        Comparison::Outdated if situation.by_event => Need::Read(ReadReason::Event),
        Comparison::Outdated => Need::Read(ReadReason::Changed),
    }
}

fn is_recorded(situation: &Situation<'_>) -> bool {
    let recorded = &situation.status.sources;
    situation.versions.is_some_and(|versions| {
        versions.len() == recorded.len()
            && versions.iter().all(|(source, known)| {
                let text = source_text(source);
                recorded.iter().any(|r| r.secret == text && r.arn == known.arn && r.version_id == known.version_id)
            })
    })
}

/// Whether Bindery's own mark is there, but under a key that is gone: it proves nothing, and nobody edited anything.
fn is_marked_by_another_key(observed: &ObservedTarget, key: &FingerprintKey) -> bool {
    let inputs = observed.mark.as_deref().and_then(|mark| mark.split(':').nth(1));
    observed.owns_mark && inputs.is_some_and(|inputs| !inputs.starts_with(key.id()))
}

/// Refuses the repair of a target that was put right too often, since somebody else wants it otherwise.
///
/// # Errors
/// [`TargetError::Contested`] at the fifth repair within ten minutes.
pub fn allow_repair(
    reason: ReadReason,
    target: &TargetState,
    name: &str,
    memory: &mut Memory,
    now: Instant,
) -> Result<(), TargetError> {
    let times = memory.repairs_within(now);
    if !is_repair(reason) || times < MAX_REPAIRS {
        return Ok(());
    }
    let manager = match target {
        TargetState::Owned(observed) => observed.other_manager.clone(),
        _ => None,
    };
    Err(TargetError::Contested {
        name: name.to_owned(),
        times,
        manager: manager.unwrap_or_else(|| "whoever deletes it".to_owned()),
    })
}

/// Whether a read is there to put right what somebody else changed.
#[must_use]
pub fn is_repair(reason: ReadReason) -> bool {
    matches!(reason, ReadReason::Drift | ReadReason::Missing)
}

/// The digest of all that decides the content of the target; `records` are those of its overlaps.
#[must_use]
pub fn inputs(
    binding: &Binding,
    access: &Access,
    versions: &BTreeMap<Source, VersionRef>,
    records: Option<&str>,
    key: &FingerprintKey,
) -> String {
    let revision = RENDER_REVISION.to_string();
    let mut parts = vec![revision, binding.fingerprint_input.clone()];
    for (source, known) in versions {
        let keys = access.keys_text(&known.name);
        parts.extend([source_text(source), known.arn.clone(), known.version_id.clone(), keys]);
    }
    parts.extend(records.map(|records| format!("records\n{records}")));
    key.digest("inputs", parts.iter().map(String::as_str))
}

/// A source as the status shows it.
#[must_use]
pub fn source_text(source: &Source) -> String {
    match &source.version {
        VersionSelector::Stage(stage) if stage == "AWSCURRENT" => source.secret.to_string(),
        VersionSelector::Stage(version) | VersionSelector::Id(version) => format!("{}@{version}", source.secret),
    }
}

/// What a mapping takes of a payload, as far as the grant allows it, for the audit record.
#[must_use]
pub fn selection(mapping: &Mapping, access: &Access, source: &Source, version: &SecretVersion) -> Selection {
    let of_source = Mapping {
        data_from: mapping.data_from.iter().filter(|extract| extract.source == *source).cloned().collect(),
        data: mapping.data.iter().filter(|entry| entry.source == *source).cloned().collect(),
        ..Mapping::default()
    };
    match of_source.select(|_| Some(&version.payload), &|_, key| access.permits_key(&version.name, key)) {
        Ok(selected) => {
            let used = selected.used_keys().get(source).cloned().unwrap_or_default();
            Selection { keys: used.keys.into_iter().collect(), whole_payload: used.whole }
        }
        // The payload does not give what is asked of it; the record names what is asked.
        Err(_) => Selection {
            keys: of_source.data.iter().filter_map(|entry| entry.json_key.clone()).collect(),
            whole_payload: of_source.data.iter().any(|entry| entry.json_key.is_none()),
        },
    }
}

/// For how long a look at AWS is relied on. The last tenth of the interval is left to jitter.
#[must_use]
pub fn relied_on_for(interval: Option<Duration>) -> Duration {
    interval.map_or(Duration::MAX, |interval| interval.mul_f64(0.9))
}

/// When to look at AWS again: after the interval since the last look, less up to a tenth, so that bindings that began
/// together drift apart. `None` where the clock asks for nothing.
#[must_use]
pub fn next_look(verified: Option<Instant>, interval: Option<Duration>, now: Instant, jitter: f64) -> Option<Duration> {
    let interval = interval?.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 10.0);
    let since = verified.map_or(Duration::ZERO, |verified| now.duration_since(verified));
    Some(interval.saturating_sub(since).max(Duration::from_millis(100)))
}

/// How long until a time, which is a moment later where it has passed.
#[must_use]
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default() + Duration::from_millis(10)
}

/// How long until a passing failure makes the binding `Stale`; `None` where none is under way.
#[must_use]
pub fn until_stale(status: &SecretBindingStatus, interval: Duration, now: Timestamp) -> Option<Duration> {
    let find = |type_: ConditionType| status.conditions.iter().find(|condition| condition.type_ == type_.as_str());
    let failing = find(ConditionType::Fetched).filter(|fetched| fetched.status == "False")?;
    find(ConditionType::Ready).filter(|ready| ready.status == "True")?;
    let left = stale_after(interval) - now.duration_since(failing.last_transition_time.0);
    Some(Duration::try_from(left).unwrap_or_default().max(Duration::from_millis(100)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::{ANNOTATION_INPUTS, Reason, SourceStatus, TargetReference};
    use crate::domain::render::mapping::error::RenderError;
    use zeroize::Zeroizing;

    fn key(byte: u8) -> FingerprintKey {
        FingerprintKey::new(Zeroizing::new([byte; 32]))
    }

    /// A target as published under `inputs` with the fields as they were, then changed as `edit` says.
    fn owned(inputs: &str, key: &FingerprintKey, edit: impl FnOnce(&mut BTreeSet<String>)) -> TargetState {
        let mut fields = BTreeSet::from(["data/A".to_owned(), format!("annotation/{ANNOTATION_INPUTS}")]);
        let digest =
            |fields: &BTreeSet<String>, key: &FingerprintKey| key.digest("fields", fields.iter().map(String::as_str));
        let published = digest(&fields, key);
        edit(&mut fields);
        TargetState::Owned(ObservedTarget {
            uid: "u".to_owned(),
            resource_version: "1".to_owned(),
            mark: Some(format!("v1:{inputs}:{published}")),
            fields: digest(&fields, &self::key(1)),
            keys: 1,
            owns_mark: fields.contains(&format!("annotation/{ANNOTATION_INPUTS}")),
            written: None,
            changed: None,
            rotation_state: None,
            other_manager: Some("kubectl-edit".to_owned()),
        })
    }

    fn versions() -> BTreeMap<Source, VersionRef> {
        let source = Source { secret: "app".parse().unwrap(), version: VersionSelector::default() };
        BTreeMap::from([(
            source,
            VersionRef { arn: "arn".to_owned(), name: "app".to_owned(), version_id: "v2".to_owned(), created: None },
        )])
    }

    fn recorded() -> SecretBindingStatus {
        SecretBindingStatus {
            binding: Some(TargetReference { name: "worker".to_owned() }),
            grant: Some("g".to_owned()),
            sources: vec![SourceStatus {
                secret: "app".to_owned(),
                arn: "arn".to_owned(),
                version_id: "v2".to_owned(),
                created_time: None,
            }],
            ..SecretBindingStatus::default()
        }
    }

    #[test]
    fn a_value_is_read_only_for_a_reason_and_the_reason_is_named() {
        let (key, other) = (key(1), key(2));
        let inputs = key.digest("inputs", ["x"]);
        let (known, recorded) = (versions(), recorded());
        let base = Situation {
            target: &TargetState::Absent,
            status: &recorded,
            inputs: Some(inputs.clone()),
            versions: Some(&known),
            by_event: false,
            forced: false,
            rotation: None,
            grant: "g",
            target_name: "worker",
        };
        let reason = |situation: &Situation<'_>| match need(situation, None, &key) {
            Need::Read(reason) => Some(reason),
            Need::Nothing(_) | Need::Refuse(_) => None,
        };
        let current = owned(&inputs, &key, |_| {});
        let drifted = owned(&inputs, &key, |fields| assert!(fields.remove("data/A")));
        let outdated = owned(&key.digest("inputs", ["y"]), &key, |_| {});
        let foreign_key = owned(&other.digest("inputs", ["x"]), &other, |_| {});
        let unmarked = owned("x", &key, |fields| assert!(fields.remove(&format!("annotation/{ANNOTATION_INPUTS}"))));
        let blank = SecretBindingStatus::default();

        assert_eq!(reason(&Situation { target: &current, ..base.clone() }), None);
        assert_eq!(
            reason(&Situation { target: &current, rotation: Some(ReadReason::Age), ..base.clone() }),
            Some(ReadReason::Age)
        );
        assert_eq!(
            reason(&Situation { target: &drifted, rotation: Some(ReadReason::Age), ..base.clone() }),
            Some(ReadReason::Drift)
        );
        assert_eq!(reason(&base), Some(ReadReason::Missing));
        assert_eq!(reason(&Situation { status: &blank, ..base.clone() }), Some(ReadReason::Created));
        assert_eq!(reason(&Situation { target_name: "renamed", ..base.clone() }), Some(ReadReason::Created));
        assert_eq!(reason(&Situation { target: &drifted, ..base.clone() }), Some(ReadReason::Drift));
        assert_eq!(reason(&Situation { target: &unmarked, ..base.clone() }), Some(ReadReason::Drift));
        assert_eq!(reason(&Situation { target: &outdated, ..base.clone() }), Some(ReadReason::Changed));
        assert_eq!(reason(&Situation { target: &outdated, by_event: true, ..base.clone() }), Some(ReadReason::Event));
        assert_eq!(reason(&Situation { target: &outdated, grant: "h", ..base.clone() }), Some(ReadReason::Access));
        assert_eq!(reason(&Situation { target: &foreign_key, ..base.clone() }), Some(ReadReason::Restart));
        assert_eq!(reason(&Situation { target: &current, status: &blank, ..base.clone() }), Some(ReadReason::Restart));
        assert_eq!(reason(&Situation { target: &current, inputs: None, ..base.clone() }), Some(ReadReason::Changed));
        assert_eq!(reason(&Situation { target: &current, forced: true, ..base }), Some(ReadReason::Forced));
    }

    #[test]
    fn what_was_refused_is_refused_again_without_a_read_until_the_inputs_change() {
        let key = key(1);
        let (known, recorded) = (versions(), recorded());
        let rejection = Rejection::from(RenderError::TooLarge { total: 2_000_000, largest: "A".try_into().unwrap() });
        assert_eq!(crate::reconcile::error::Error::Render(rejection.clone()).reason(), Reason::TooLarge);
        let situation = |inputs: &str, forced| Situation {
            target: &TargetState::Absent,
            status: &recorded,
            inputs: Some(inputs.to_owned()),
            versions: Some(&known),
            by_event: false,
            forced,
            rotation: None,
            grant: "g",
            target_name: "worker",
        };
        let rejected = ("a".to_owned(), rejection.clone());
        assert_eq!(need(&situation("a", false), Some(&rejected), &key), Need::Refuse(rejection));
        assert_eq!(need(&situation("b", false), Some(&rejected), &key), Need::Read(ReadReason::Missing));
        assert_eq!(need(&situation("a", true), Some(&rejected), &key), Need::Read(ReadReason::Forced));
    }

    #[tokio::test(start_paused = true)]
    async fn the_fifth_repair_is_not_made_and_names_the_other_writer() {
        let mut memory = Memory::default();
        let target = owned("x", &key(1), |_| {});
        for _ in 0..4 {
            assert_eq!(allow_repair(ReadReason::Drift, &target, "worker", &mut memory, Instant::now()), Ok(()));
            memory.repaired(Instant::now());
        }
        // A repair that was not made, since AWS did not answer, does not count.
        assert_eq!(memory.repairs_within(Instant::now()), 4);
        let refused = allow_repair(ReadReason::Missing, &target, "worker", &mut memory, Instant::now()).unwrap_err();
        assert!(refused.to_string().contains("kubectl-edit"), "{refused}");
        assert_eq!(allow_repair(ReadReason::Changed, &target, "worker", &mut memory, Instant::now()), Ok(()));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(allow_repair(ReadReason::Drift, &target, "worker", &mut memory, Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_look_comes_an_interval_after_the_last_less_a_tenth_at_most() {
        let looked = Instant::now();
        tokio::time::advance(Duration::from_secs(100)).await;
        let interval = Some(Duration::from_secs(300));
        let next = |jitter| next_look(Some(looked), interval, Instant::now(), jitter).unwrap();
        assert_eq!(next(0.0), Duration::from_secs(200));
        assert_eq!(next(1.0), Duration::from_secs(170));
        assert_eq!(next_look(Some(looked), None, Instant::now(), 0.0), None);
        // The look that comes earliest finds what is known too old to be relied on.
        assert_eq!(relied_on_for(interval), Duration::from_secs(270));
        assert_eq!(relied_on_for(None), Duration::MAX);
    }
}
