//! Events lead to a description of their secret.

use std::sync::Arc;

use crate::aws::events::consumer::EventConsumer;
use crate::aws::versions::{EventOutcome, Versions};
use crate::metrics::Metrics;

/// Takes events from all queues, for ever. An event whose secret could not be described is delivered again.
pub async fn dispatch(queues: Vec<EventConsumer>, versions: Arc<Versions>, metrics: Arc<Metrics>) {
    let consuming = queues.into_iter().map(|queue| {
        let (versions, metrics) = (versions.clone(), metrics.clone());
        queue.consume(move |event| {
            let (versions, metrics) = (versions.clone(), metrics.clone());
            async move {
                let noticed = versions.handle_event(&event).await;
                if noticed == EventOutcome::Unregistered {
                    metrics.event("unwanted");
                }
                noticed != EventOutcome::Unknown
            }
        })
    });
    futures::future::join_all(consuming).await;
    std::future::pending::<()>().await;
}
