//! Restarts of workloads.

use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use tokio::time::timeout;

use crate::api::RESTART_FIELD_MANAGER;
use crate::domain::rollout::workload::Workload;
use crate::kubernetes::api_server::WriteClient;
use crate::kubernetes::deadline::timed_out;
use crate::kubernetes::workloads::resource;

/// A restart that takes longer than this is given up; the next observation shows whether it arrived.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Annotates the pod template of a workload, if it is exactly the one that was seen: its controller then replaces the
/// pods as its strategy says, as with `kubectl rollout restart`. A merge patch leaves the annotations of others alone,
/// those of other bindings' restarts among them, which an apply under one field manager would take away.
///
/// # Errors
/// 409 where the workload is not as it was seen, else what Kubernetes refuses.
pub async fn restart_workload(
    client: WriteClient<'_>,
    namespace: &str,
    workload: &Workload,
    annotation: &str,
    mark: &str,
) -> Result<(), kube::Error> {
    let Workload { reference, resource_version, .. } = workload;
    let api: Api<DynamicObject> = Api::namespaced_with(client.request().clone(), namespace, &resource(reference.kind));
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": resource_version},
        "spec": {"template": {"metadata": {"annotations": {annotation: mark}}}},
    });
    let params = PatchParams { field_manager: Some(RESTART_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    timeout(WRITE_TIMEOUT, api.patch_metadata(&reference.name, &params, &Patch::Merge(&patch)))
        .await
        .map_err(|_| timed_out())??;
    Ok(())
}
