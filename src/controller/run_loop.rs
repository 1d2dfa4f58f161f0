//! The run loop of a process that leads: one task for each reconcile.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::controller::prepare::Triggers;
use crate::controller::resync::Resync;
use crate::controller::work_queue::WorkQueue;
use crate::controller::{grant_status, startup};
use crate::domain::name::BindingName;
use crate::reconcile::binding::entry::reconcile;
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
    let running = reconciles(context.clone(), triggers, shutdown);
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
/// others.
async fn reconciles(context: Arc<Context>, mut triggers: Triggers, shutdown: impl Future<Output = ()>) {
    let (mut queue, mut under_way) = (WorkQueue::default(), JoinSet::new());
    let (mut triggered, mut resync) = (Vec::new(), Resync::default());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while let Some(binding) = queue.next(Instant::now()) {
            let context = context.clone();
            under_way.spawn(async move {
                let next = reconcile(&binding, &context).await;
                (binding, next)
            });
        }
        let wakes = queue.wakes();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = under_way.join_next() => match ended {
                Ok((binding, next)) => {
                    queue.ended(&binding, next.map(|pause| Instant::now() + pause.min(LONGEST_PAUSE)));
                }
                // Nobody knows what a reconcile that panicked left undone, so the process ends and begins anew.
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            },
            _ = triggers.recv_many(&mut triggered, AT_ONCE) => {
                let now = Instant::now();
                for binding in triggered.drain(..) {
                    queue.ask(&binding, now);
                }
            }
            () = resync.tick() => {
                resync.ask(&mut queue, context.state.bindings.all().map(|binding| name_of(&binding)));
            }
            () = sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Waits until what a reconcile is decided by is known. False where it never will be.
async fn is_complete(context: &Context) -> bool {
    // A binding decided on before the grants are known would be refused for a moment.
    let mut known = context.authorization.wait_until_ready().await;
    known &= context.state.bindings.wait_until_ready().await;
    // A target that is not known yet would be read by itself.
    let complete = context.state.targets.wait_until_complete(context.state.bindings.scopes().len());
    if timeout(TARGETS_TIMEOUT, complete).await.is_err() {
        tracing::warn!("published Secrets cannot be watched, so edits of them are not seen");
    }
    known
}
