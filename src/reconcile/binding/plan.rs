//! Decides whether values must be read, as pure functions of what was observed.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::api::SecretBindingStatus;
use crate::aws::audit::ReadReason;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::inputs::{inputs, source_text};
use crate::domain::render::rejection::Rejection;
use crate::domain::rotation::age;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::domain::target::record::is_forged;
use crate::domain::target::{self, Comparison, TargetError, TargetState, compare};
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::observe::Observed;
use crate::reconcile::subject::Subject;
use crate::state::history::{History, RejectedInputs, Repairs};

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
    Nothing(Box<target::ObservedTarget>),
    /// These inputs were read before and give no Secret; to read them again would change nothing.
    Refuse(Rejection),
    /// The values are needed.
    Read(ReadReason),
}

/// Decides whether values must be read, and why.
#[must_use]
pub fn need(situation: &Situation<'_>, rejected: Option<&RejectedInputs>, key: &FingerprintKey) -> Need {
    if situation.forced {
        return Need::Read(ReadReason::Forced);
    }
    if let (Some(inputs), Some(rejected)) = (&situation.inputs, rejected)
        && rejected.inputs == *inputs
    {
        return Need::Refuse(rejected.rejection.clone());
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
        Comparison::Current if is_forged(situation.status, situation.target_name, observed, key) => {
            Need::Read(ReadReason::Drift)
        }
        Comparison::Current => match situation.rotation {
            Some(reason) => Need::Read(reason),
            None => Need::Nothing(Box::new(observed.clone())),
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
fn is_marked_by_another_key(observed: &target::ObservedTarget, key: &FingerprintKey) -> bool {
    let inputs = observed.mark.as_deref().and_then(|mark| mark.split(':').nth(1));
    observed.owns_mark && inputs.is_some_and(|inputs| !inputs.starts_with(key.id()))
}

/// Refuses the repair of a target that was repaired too often, since somebody else undoes it.
///
/// # Errors
/// [`TargetError::Contested`] at the fifth repair within ten minutes.
pub fn allow_repair(
    reason: ReadReason,
    target: &TargetState,
    name: &str,
    repairs: &Repairs,
    now: Instant,
) -> Result<(), TargetError> {
    let times = repairs.recent(now);
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

/// Whether a read would rest on a list alone. A list proves that nothing changed; that something did, AWS is asked
/// again.
#[must_use]
pub fn must_confirm(need: &Need, observed: &Observed) -> bool {
    matches!(need, Need::Read(_)) && observed.sources.as_ref().is_some_and(|sources| !sources.confirmed)
}

/// Plans a reconcile: whether values must be read, and why.
#[must_use]
pub fn plan(
    subject: &Subject<'_>,
    authorized: &AuthorizedBinding,
    observed: &Observed,
    history: &History,
    key: &FingerprintKey,
) -> Need {
    let AuthorizedBinding { binding, access, .. } = authorized;
    let Observed { target, sources, overlap_due, .. } = observed;
    let versions = sources.as_ref().map(|sources| &sources.versions);
    let age_is_due = || age::needs_read(&binding.rotation, subject.before, &history.ages.unknown, key);
    let situation = Situation {
        target,
        status: subject.before,
        inputs: versions.map(|versions| inputs(binding, access, versions, records_text(target), key)),
        versions,
        by_event: sources.as_ref().is_some_and(|sources| sources.by_event),
        forced: subject.asks_for_sync(),
        rotation: if *overlap_due { Some(ReadReason::Overlap) } else { age_is_due().then_some(ReadReason::Age) },
        grant: &access.grant,
        target_name: &binding.target.name,
    };
    need(&situation, history.rejected.as_ref(), key)
}

/// The records of overlaps on a target, as they stand there.
#[must_use]
pub fn records_text(target: &TargetState) -> Option<&str> {
    match target {
        TargetState::Owned(observed) => observed.rotation_state.as_deref(),
        TargetState::Absent | TargetState::Adoptable(_) | TargetState::Foreign(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::api::{ANNOTATION_INPUTS, PublishedTarget, Reason, SourceStatus, TargetReference};
    use crate::domain::render::mapping::error::RenderError;
    use crate::domain::secret::reference::VersionSelector;
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
        TargetState::Owned(target::ObservedTarget {
            uid: "u".to_owned(),
            resource_version: "1".to_owned(),
            mark: Some(format!("v1:{inputs}:{published}")),
            fields: digest(&fields, &self::key(1)),
            keys: 1,
            owns_mark: fields.contains(&format!("annotation/{ANNOTATION_INPUTS}")),
            written: None,
            changed: None,
            rotation_state: None,
            digest: None,
            foreign: Box::default(),
            risky: Box::default(),
            held_by: Box::default(),
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

    /// A binding that is published through grant `g` as `worker`.
    fn situation<'a>(
        target: &'a TargetState,
        status: &'a SecretBindingStatus,
        inputs: &str,
        versions: &'a BTreeMap<Source, VersionRef>,
    ) -> Situation<'a> {
        Situation {
            target,
            status,
            inputs: Some(inputs.to_owned()),
            versions: Some(versions),
            by_event: false,
            forced: false,
            rotation: None,
            grant: "g",
            target_name: "worker",
        }
    }

    #[test]
    fn a_value_is_read_only_for_a_reason_and_the_reason_is_named() {
        let (key, other) = (key(1), key(2));
        let inputs = key.digest("inputs", ["x"]);
        let (known, recorded) = (versions(), recorded());
        let base = situation(&TargetState::Absent, &recorded, &inputs, &known);
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
    fn a_value_that_differs_from_the_record_is_drift_whoever_wrote_it() {
        let (key, other) = (key(1), key(2));
        let inputs = key.digest("inputs", ["x"]);
        let known = versions();
        let TargetState::Owned(current) = owned(&inputs, &key, |_| {}) else { panic!() };
        let (ours, theirs) = (key.digest("data", ["ours"]), key.digest("data", ["theirs"]));
        for (digest, recorded_digest, drifted) in [
            (Some(&ours), Some(&ours), false),
            (Some(&theirs), Some(&ours), true),
            // An older release recorded none, and a digest under a key that is gone tells nothing.
            (Some(&theirs), None, false),
            (Some(&theirs), Some(&other.digest("data", ["ours"])), false),
        ] {
            let target = recorded_digest.map(|digest| PublishedTarget {
                name: "worker".to_owned(),
                digest: digest.clone(),
                ..PublishedTarget::default()
            });
            let status = SecretBindingStatus { target, ..recorded() };
            let digest = digest.map(|digest| digest.as_str().into());
            let target = TargetState::Owned(target::ObservedTarget { digest, ..current.clone() });
            let needed = need(&situation(&target, &status, &inputs, &known), None, &key);
            assert_eq!(needed == Need::Read(ReadReason::Drift), drifted, "{needed:?}");
        }
    }

    #[test]
    fn what_was_refused_is_refused_again_without_a_read_until_the_inputs_change() {
        let key = key(1);
        let (known, recorded) = (versions(), recorded());
        let rejection = Rejection::from(RenderError::TooLarge { total: 2_000_000, largest: "A".try_into().unwrap() });
        assert_eq!(crate::reconcile::error::Error::Render(rejection.clone()).reason(), Reason::TooLarge);
        let with = |inputs| situation(&TargetState::Absent, &recorded, inputs, &known);
        let rejected = RejectedInputs { inputs: "a".to_owned(), rejection: rejection.clone() };
        assert_eq!(need(&with("a"), Some(&rejected), &key), Need::Refuse(rejection));
        assert_eq!(need(&with("b"), Some(&rejected), &key), Need::Read(ReadReason::Missing));
        let forced = Situation { forced: true, ..with("a") };
        assert_eq!(need(&forced, Some(&rejected), &key), Need::Read(ReadReason::Forced));
    }

    #[test]
    fn the_fifth_repair_is_not_made_and_names_the_other_writer() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut repairs = Repairs::default();
        let target = owned("x", &key(1), |_| {});
        for _ in 0..4 {
            assert_eq!(allow_repair(ReadReason::Drift, &target, "worker", &repairs, at(0)), Ok(()));
            repairs = repairs.with(at(0));
        }
        // A repair that was not made, since AWS did not answer, does not count.
        assert_eq!(repairs.recent(at(0)), 4);
        let refused = allow_repair(ReadReason::Missing, &target, "worker", &repairs, at(0)).unwrap_err();
        assert!(refused.to_string().contains("kubectl-edit"), "{refused}");
        assert_eq!(allow_repair(ReadReason::Changed, &target, "worker", &repairs, at(0)), Ok(()));
        assert_eq!(allow_repair(ReadReason::Drift, &target, "worker", &repairs, at(601)), Ok(()));
    }
}
