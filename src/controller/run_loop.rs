//! The run loop of a process that leads: one task for each reconcile.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::controller::panics::Panics;
use crate::controller::prepare::Triggers;
use crate::controller::resync::Resync;
use crate::controller::work_queue::WorkQueue;
use crate::controller::{grant_status, startup};
use crate::domain::name::BindingName;
use crate::reconcile::binding::entry::{PANICKED, reconcile};
use crate::reconcile::context::Context;
use crate::state::bindings::name_of;

/// The time in which the watch of published Secrets must list all.
const TARGETS_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two reconciles; a point in time may not be any distance away.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// The triggers that are taken at once.
const AT_ONCE: usize = 1024;

/// Makes reconciles until `shutdown`, then waits for those under way.
pub async fn lead(
    context: Arc<Context>,
    triggers: Triggers,
    mut changes: mpsc::UnboundedReceiver<BindingName>,
    shutdown: impl Future<Output = ()>,
) {
    if !is_complete(&context).await {
        return;
    }
    let one = |binding: BindingName| {
        let context = context.clone();
        async move { reconcile(&binding, &context).await }
    };
    let all = || context.state.bindings.all().map(|binding| name_of(&binding)).collect();
    let running = reconciles(one, |binding| forget_panicked(&context, binding), all, triggers, shutdown);
    // What changes from here on is triggered by the watches, and what was there before, from now on.
    context.state.requeue.begin();
    let warm_up = async {
        startup::warm_up(&context).await;
        std::future::pending::<()>().await;
    };
    let changes = async {
        while let Some(binding) = changes.recv().await {
            context.state.requeue.trigger(&binding);
        }
    };
    tokio::select! {
        () = running => {}
        () = warm_up => {}
        () = changes => {}
        () = grant_status::keep_current(&context) => {}
        () = context.clients.events.publish(|| context.clients.kubernetes.is_busy()) => {}
    }
    context.state.backfills.stop().await;
    context.clients.events.flush().await;
}

/// Makes the reconciles that are triggered, each as a task of its own: one that waits for AWS takes no place from the
/// others, and one that panics ends alone.
async fn reconciles<F>(
    reconcile: impl Fn(BindingName) -> F,
    forget: impl Fn(&BindingName),
    all: impl Fn() -> Vec<BindingName>,
    mut triggers: Triggers,
    shutdown: impl Future<Output = ()>,
) where
    F: Future<Output = Option<Duration>> + Send + 'static,
{
    let (mut queue, mut under_way) = (WorkQueue::default(), JoinSet::new());
    let (mut triggered, mut resync, mut panics) = (Vec::new(), Resync::default(), Panics::default());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while let Some(binding) = queue.next(Instant::now()) {
            let reconcile = AssertUnwindSafe(reconcile(binding.clone())).catch_unwind();
            under_way.spawn(async move { (binding, reconcile.await) });
        }
        let wakes = queue.wakes();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = under_way.join_next() => match ended {
                Ok((binding, ended)) => {
                    let next = if let Ok(next) = ended {
                        panics.forget(&binding);
                        next
                    } else {
                        forget(&binding);
                        Some(panics.pause(&binding, fastrand::f64()))
                    };
                    queue.ended(&binding, next.map(|pause| Instant::now() + pause.min(LONGEST_PAUSE)));
                }
                // A task that was caught does not panic, and none is cancelled.
                Err(error) => tracing::error!(cancelled = error.is_cancelled(), "a reconcile was lost"),
            },
            _ = triggers.recv_many(&mut triggered, AT_ONCE) => {
                let now = Instant::now();
                for binding in triggered.drain(..) {
                    queue.ask(&binding, now);
                }
            }
            () = resync.tick() => {
                resync.ask(&mut queue, all().into_iter());
            }
            () = sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Forgets what is remembered of a binding whose reconcile panicked, since nobody knows what was left half done.
fn forget_panicked(context: &Context, binding: &BindingName) {
    let (namespace, name) = (&binding.namespace, &binding.name);
    tracing::error!(%namespace, %name, "a fault of Bindery ended a reconcile; it is tried again with growing pauses");
    context.forget(binding);
    context.metrics.reconciled(PANICKED, Duration::ZERO);
}

/// Waits until what a reconcile is decided by is known. False where it never will be.
async fn is_complete(context: &Context) -> bool {
    // A binding decided on before the grants are known would be refused for a moment.
    let mut known = context.authorization.wait_until_ready().await;
    let left = context.state.bindings.wait_until_ready().await;
    known &= left.is_some();
    for namespace in left.into_iter().flatten() {
        tracing::warn!(
            %namespace,
            "the bindings of a namespace cannot be listed, so it is not served until they can; the others are served"
        );
    }
    // A target that is not known yet would be read by itself.
    let complete = context.state.targets.wait_until_complete(context.state.bindings.scopes().len());
    if timeout(TARGETS_TIMEOUT, complete).await.is_err() {
        tracing::warn!("published Secrets cannot be watched, so edits of them are not seen");
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_panics_is_tried_with_growing_pauses_and_the_others_go_on() {
        let (asks, triggers) = mpsc::unbounded_channel();
        let (counts, forgotten) = (Arc::new(Mutex::new(BTreeMap::new())), Mutex::new(0));
        let reconcile = |binding: BindingName| {
            let counts = counts.clone();
            async move {
                *counts.lock().unwrap().entry(binding.name.to_string()).or_insert(0) += 1;
                assert!(&*binding.name != "bad", "a value");
                Some(Duration::from_secs(10))
            }
        };
        for name in ["bad", "good"] {
            asks.send(BindingName::new("n", name)).unwrap();
        }
        let shutdown = tokio::time::sleep(Duration::from_secs(600));
        reconciles(reconcile, |_| *forgotten.lock().unwrap() += 1, Vec::new, triggers, shutdown).await;
        let counts = counts.lock().unwrap();
        assert!((58..=61).contains(&counts["good"]), "{counts:?}");
        assert!((8..=20).contains(&counts["bad"]), "{counts:?}");
        assert_eq!(*forgotten.lock().unwrap(), counts["bad"]);
    }
}
