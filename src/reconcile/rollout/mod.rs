//! The last step of a reconcile: workloads that use the published Secret come to run its current values.
//!
//! `start` finds what is left to do. `observe` reads the workloads, [`plan`] decides (pure), `apply` restarts, and
//! [`RolloutProgress::of`] makes the report of it (pure). `report` frees the slots of a finished rollout.

mod apply;
mod observe;
mod report;
mod start;

use std::ops::ControlFlow;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rollout::plan::{RolloutTerms, plan};
use crate::domain::rollout::result::{RolloutProgress, RolloutStep, UnknownWorkloads};
use crate::domain::target::ObservedTarget;
use crate::kubernetes::api_server::Permit;
use crate::reconcile::context::Context;
use crate::reconcile::rollout::start::RolloutStart;
use crate::reconcile::subject::Subject;

/// The longest time of one step, from the first request to the last.
const DEADLINE: Duration = Duration::from_secs(60);

/// Takes one step of the rollout of a binding. `target` is the Secret, if it is known to be published.
pub async fn rollout(
    cx: &Context,
    at: &Subject<'_>,
    target: Option<ObservedTarget>,
    history: &RolloutHistory,
    permit: &Permit<'_>,
) -> RolloutStep {
    let RolloutStart { left, settles, history } = match start::start(cx, at, target, history) {
        ControlFlow::Continue(start) => start,
        ControlFlow::Break(step) => return report::report(cx, at, step),
    };
    let deadline = Instant::now() + DEADLINE;
    let observing = async { observe::observe(cx, at, &left, &history, permit.reads().await).await };
    let observed = timeout_at(deadline, Box::pin(observing)).await.unwrap_or(Err(UnknownWorkloads::Unanswered));
    let progress = match observed {
        Ok(observed) => {
            let terms = RolloutTerms { restart: &at.binding.restart, changes: &left.changes, settles, key: &cx.key };
            let plan = plan(terms, &observed, history, Instant::now().into_std(), Timestamp::now());
            let outcomes = Box::pin(apply::apply(cx, at, &plan, deadline, permit)).await;
            RolloutProgress::of(plan, outcomes)
        }
        Err(why) => RolloutProgress::unknown(why, history),
    };
    report::report(cx, at, RolloutStep::new(&left, progress))
}
