//! The results of the steps of one reconcile.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::SourceStatus;
use crate::domain::binding::Binding;
use crate::domain::grant::Access;
use crate::domain::rollout::outcome::RolloutOutcome;
use crate::domain::rollout::result::RolloutStep;
use crate::domain::rotation::found::Found;
use crate::domain::target::withdrawal::Withdrawal;
use crate::domain::target::{ObservedTarget, TargetError};
use crate::reconcile::binding::ages::KnownAges;
use crate::reconcile::binding::apply::Applied;
use crate::reconcile::binding::cleanup::{Cleaned, RemainingSecret};
use crate::reconcile::error::Error;
use crate::reconcile::rotation::acting::Acting;
use crate::reconcile::rotation::overlap::handled_command;
use crate::reconcile::rotation::overlap::observed::OverlapReport;
use crate::reconcile::subject::Subject;
use crate::state::history::{AgeHistory, HistoryUpdate};

/// How far a reconcile came. Each step rests on those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// No grant serves the binding.
    #[default]
    Nothing,
    /// A grant serves it.
    Granted,
    /// Its sources are known at their present versions.
    Fetched,
    /// Its keys have their values.
    Rendered,
    /// Its Secret is as it should be.
    Applied,
}

/// The results of the steps of one reconcile, as far as it came.
#[derive(Debug, Default)]
pub struct Attempt {
    /// How far it came.
    pub reached: Reached,
    /// The grant that serves the binding.
    pub grant: Option<GrantInUse>,
    /// What became of the Secret, where its grant ended and asks for its deletion.
    pub withdrawal: Withdrawal,
    /// Whether the target was as Bindery last published it.
    pub integrity: Integrity,
    /// The text of the annotation `bindery.dev/sync` that was acted on.
    pub handled_sync: Option<String>,
    /// The versions that are published, where they were read.
    pub sources: Option<Vec<SourceStatus>>,
    /// What is published.
    pub published: Option<Box<Published>>,
    /// The rotation rules.
    pub rotation: RotationResults,
    /// The restarts.
    pub rollout: RolloutResults,
    /// What is to be remembered.
    pub facts: HistoryUpdate,
}

/// Whether the target was as Bindery last published it.
#[derive(Debug, Default)]
pub enum Integrity {
    /// The reconcile did not come to it.
    #[default]
    Unobserved,
    /// It was not.
    Broken,
    /// It was, as observed.
    Intact(Box<ObservedTarget>),
}

impl Integrity {
    /// The target, where it was intact.
    #[must_use]
    pub fn target(&self) -> Option<&ObservedTarget> {
        match self {
            Self::Intact(target) => Some(target),
            Self::Unobserved | Self::Broken => None,
        }
    }
}

/// The grant that serves a binding.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantInUse {
    /// Its name.
    pub name: String,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Where AWS is asked, as whom, and through what.
    pub place: String,
}

/// The published Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub observed: ObservedTarget,
    /// What became of the Secrets of earlier names; `None` where the reconcile did not come to them.
    pub cleaned: Option<Cleaned>,
    /// The keys whose values no container can take as environment, where the Secret was written.
    pub binary: Option<Vec<String>>,
}

impl Published {
    /// The published target of a binding.
    #[must_use]
    pub fn new(binding: &Binding, observed: ObservedTarget) -> Self {
        Self { name: binding.target.name.clone(), observed, cleaned: None, binary: None }
    }

    /// The Secrets of earlier names that something still refers to.
    #[must_use]
    pub fn remaining(&self) -> &[RemainingSecret] {
        self.cleaned.as_ref().map_or(&[], |cleaned| &cleaned.remaining)
    }

    /// When it was last written.
    #[must_use]
    pub const fn written(&self) -> Option<&Time> {
        self.observed.written.as_ref()
    }
}

/// What came of the rotation rules.
#[derive(Clone, Debug, Default)]
pub struct RotationResults {
    /// What was found out about them.
    pub found: Found,
    /// The overlaps; `None` where the reconcile did not come to them.
    pub overlaps: Option<Vec<OverlapReport>>,
    /// The text of the annotation `bindery.dev/rotation` that was acted on.
    pub handled_command: Option<String>,
    /// When an action that is under way is observed again.
    pub next: Option<Duration>,
}

/// What came of the restarts.
#[derive(Clone, Debug, Default)]
pub struct RolloutResults {
    /// How far the workloads are.
    pub outcome: RolloutOutcome,
    /// When they are observed again.
    pub next: Option<Duration>,
}

impl Attempt {
    /// Keeps the grant that serves the binding.
    pub fn keep_grant(&mut self, access: &Access) {
        self.grant = Some(GrantInUse { name: access.grant.clone(), expires: access.expires, place: access.place() });
        self.reached = Reached::Granted;
    }

    /// Keeps where the overlaps stand; `None` where they have a step to take.
    pub fn keep_overlaps(&mut self, at: &Subject<'_>, overlaps: Option<Vec<OverlapReport>>) {
        if overlaps.is_some() {
            self.rotation.overlaps = overlaps;
            self.rotation.handled_command = handled_command(&at.binding);
        }
    }

    /// Keeps that the target is as it should be.
    pub fn keep_current(&mut self, binding: &Binding, current: ObservedTarget) {
        self.published = Some(Box::new(Published::new(binding, current)));
        self.reached = Reached::Applied;
    }

    /// Keeps that the values were read.
    pub fn keep_fetched(&mut self, binding: &Binding, now: Instant) {
        self.facts.verified = Some(now);
        self.handled_sync.clone_from(&binding.sync);
        self.reached = Reached::Fetched;
    }

    /// Keeps what came of a publication.
    ///
    /// # Errors
    /// What kept it from being published.
    pub fn keep_applied(&mut self, at: &Subject<'_>, applied: Applied) -> Result<(), Error> {
        self.facts.rejected = applied.rejected;
        self.facts.repaired = applied.repaired;
        if applied.rendered {
            self.reached = Reached::Rendered;
        }
        self.keep_overlaps(at, applied.overlaps);
        let observed = applied.result?;
        if let Some(aged) = applied.aged {
            (self.rotation.found.ages, self.rotation.found.changed) = (Some(aged.records), aged.changed);
            self.facts.unknown_ages = Some(aged.unknown);
        }
        self.sources = Some(applied.sources);
        self.keep_current(&at.binding, observed);
        if let Some(published) = &mut self.published {
            published.binary = applied.binary;
        }
        Ok(())
    }

    /// Keeps which Secrets of earlier names stay.
    pub fn keep_cleaned(&mut self, binding: &Binding, cleaned: Cleaned) {
        let tidy = cleaned.remaining.is_empty() && cleaned.unproven.is_empty();
        self.facts.tidy = Some(tidy.then_some(binding.generation));
        if let Some(published) = &mut self.published {
            published.cleaned = Some(cleaned);
        }
    }

    /// Says that the published Secret is being deleted. It holds the current values all the same, as long as it is there.
    ///
    /// # Errors
    /// Where somebody deleted it and a finalizer holds it.
    pub fn refuse_held(&self) -> Result<(), Error> {
        match self.published.as_deref() {
            Some(Published { name, observed, .. }) if !observed.held_by.is_empty() => {
                let finalizers = observed.held_by.iter().map(ToString::to_string).collect();
                Err(TargetError::Held { name: name.clone(), finalizers }.into())
            }
            _ => Ok(()),
        }
    }

    /// What is known of the keys of unknown age after a publication.
    #[must_use]
    pub fn ages_so_far(&self, before: &AgeHistory) -> AgeHistory {
        match &self.facts.unknown_ages {
            Some(unknown) if *unknown != before.unknown => {
                AgeHistory { unknown: unknown.clone(), retry_at: None, ..before.clone() }
            }
            _ => before.clone(),
        }
    }

    /// Keeps the ages of the keys.
    pub fn keep_ages(&mut self, known: KnownAges) {
        self.rotation.found.ages = known.ages;
        self.facts.ages = Some(known.history);
    }

    /// Keeps how far the actions of rules are.
    pub fn keep_actions(&mut self, acting: Acting) {
        self.rotation.found.acted = acting.acted;
        self.rotation.next = acting.next;
        self.facts.key_sources = acting.key_sources;
    }

    /// Keeps how far the workloads are.
    pub fn keep_rollout(&mut self, step: RolloutStep) {
        self.rollout = RolloutResults { outcome: step.outcome, next: step.next };
        self.facts.rollout = Some(step.history);
    }
}
