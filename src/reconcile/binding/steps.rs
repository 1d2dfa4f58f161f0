//! The way from the grant to the Secret, step by step. Each step returns its result, and the attempt keeps it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::kubernetes::api_server::Permit;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::ages::{KnownAges, backfill};
use crate::reconcile::binding::apply::{Publication, apply};
use crate::reconcile::binding::attempt::{Attempt, Integrity, Reached};
use crate::reconcile::binding::authorize::authorize;
use crate::reconcile::binding::cleanup::cleanup;
use crate::reconcile::binding::fetch::{fetch, recheck};
use crate::reconcile::binding::observe::{Observed, confirm, observe};
use crate::reconcile::binding::observe_target::{intact, observe_target};
use crate::reconcile::binding::plan::{Need, allow_repair, must_confirm, plan};
use crate::reconcile::binding::withdraw::withdraw;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rollout::rollout;
use crate::reconcile::rotation::acting::act_on_rules;
use crate::reconcile::rotation::overlap;
use crate::reconcile::subject::Subject;
use crate::state::history::History;

/// No reconcile takes longer, the wait for its permit among ten thousand others included; the requests within it have
/// much shorter deadlines of their own.
const DEADLINE: Duration = Duration::from_secs(600);

/// Makes one attempt: publishes, then acts on the rules that are due, then restarts what uses other values.
pub async fn run(
    cx: &Arc<Context>,
    at: &Subject<'_>,
    history: &History,
    permit: &Permit<'_>,
) -> (Attempt, Option<Error>) {
    let mut attempt = Attempt::default();
    let steps = Box::pin(steps(cx, at, history, permit, &mut attempt));
    let outcome = match timeout(DEADLINE, steps).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Deadline { seconds: DEADLINE.as_secs(), fetched: attempt.reached >= Reached::Fetched }),
    };
    // An action begins only once the status tells of it, for whoever takes over.
    if outcome.is_ok() && history.unwritten.is_none() {
        let acting = Box::pin(act_on_rules(cx, at, &attempt.rotation.found, history, permit));
        if let Ok(acting) = timeout(DEADLINE, acting).await {
            attempt.keep_actions(acting);
        }
    }
    if outcome != Err(Error::Superseded) {
        let target = attempt.published.as_ref().map(|published| published.observed.clone());
        attempt.keep_rollout(Box::pin(rollout(cx, at, target, &history.rollout, permit)).await);
    }
    let place = attempt.grant.as_ref().map(|grant| grant.place.as_str());
    let error = outcome.err().map(|error| error.asked(place));
    (attempt, error)
}

async fn steps(
    cx: &Arc<Context>,
    at: &Subject<'_>,
    history: &History,
    permit: &Permit<'_>,
    attempt: &mut Attempt,
) -> Result<(), Error> {
    let authorized = match Box::pin(authorize(cx, at)).await {
        Ok(authorized) => authorized,
        Err(refusal) => {
            attempt.withdrawal = Box::pin(withdraw(cx, at, &refusal, permit)).await?;
            return Err(refusal);
        }
    };
    attempt.keep_grant(&authorized.access);

    // The block ends before the wait: the target would stand twice on the heap of each binding that waits.
    let observed = {
        let target = Box::pin(observe_target(cx, at)).await?;
        attempt.integrity = intact(cx, at, &target).map_or(Integrity::Broken, Integrity::Intact);
        Box::pin(observe(cx, at, &authorized, history, target))
    };
    let observed = observed.await?;
    attempt.facts.verified = observed.verified();
    let (mut observed, need) = Box::pin(confirmed(cx, at, &authorized, history, observed)).await?;
    attempt.facts.verified = observed.verified().or(attempt.facts.verified);
    attempt.rotation.found.aws = observed.sources.as_ref().and_then(|sources| sources.rotations.clone());
    if !observed.overlap_due {
        let overlaps = Box::pin(overlap::start_jobs(at, std::mem::take(&mut observed.overlaps), permit)).await;
        attempt.keep_overlaps(at, overlap::overlaps_rest(cx, at, &overlaps).ok());
    }

    match need {
        Need::Nothing(current) => attempt.keep_current(&at.binding, *current),
        Need::Refuse(rejection) => {
            attempt.reached = Reached::Fetched;
            return Err(Error::Render(rejection));
        }
        Need::Read(reason) => {
            allow_repair(reason, &observed.target, &at.binding.target.name, &history.repairs, Instant::now())?;
            let fetched = Box::pin(fetch(cx, &authorized, reason, observed.wanted(at))).await?;
            attempt.keep_fetched(&at.binding, Instant::now());
            // Values wait for the permit unrendered, so that those who share one hold it once.
            permit.acquire().await;
            recheck(cx, &authorized, &fetched)?;
            let ages = &history.ages;
            let publication = Publication { authorized: &authorized, reason, seen: observed.target, ages };
            let applied = Box::pin(apply(cx, at, publication, fetched, permit)).await;
            attempt.keep_applied(at, applied)?;
        }
    }
    attempt.keep_cleaned(&at.binding, Box::pin(cleanup(cx, at, history.tidy, permit)).await);
    let known = KnownAges { ages: attempt.rotation.found.ages.take(), history: attempt.ages_so_far(&history.ages) };
    attempt.keep_ages(backfill(cx, at, &authorized, known));
    attempt.refuse_held()
}

/// What the binding needs by what was observed. Before values are read, the sources are observed by more than a list.
async fn confirmed(
    cx: &Arc<Context>,
    at: &Subject<'_>,
    authorized: &AuthorizedBinding,
    history: &History,
    observed: Observed,
) -> Result<(Observed, Need), Error> {
    let need = plan(at, authorized, &observed, history, &cx.key);
    if !must_confirm(&need, &observed) {
        return Ok((observed, need));
    }
    let observed = confirm(cx, at, authorized, history, observed).await?;
    let need = plan(at, authorized, &observed, history, &cx.key);
    Ok((observed, need))
}

/// The bytes that the steps hold while they wait for AWS.
#[cfg(test)]
pub fn size() -> usize {
    fn of<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }
    of(steps)
}
