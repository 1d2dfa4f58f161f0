//! Which objects refer to a Secret. All kinds are looked at that Kubernetes and its usual extensions name Secrets in; a
//! kind that is not installed has no object. Nothing is kept of an object but its name.

use std::ops::ControlFlow;

use kube::Resource as _;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use crate::domain::target::referrer::{SoughtSecret, referrer};
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::list::each_object;

/// The kinds, as `group version kind plural`. The right to list each stands in `deploy/rbac.yaml`.
const KINDS: [(&str, &str, &str, &str); 15] = [
    ("", "v1", "Pod", "pods"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("gateway.networking.k8s.io", "v1", "Gateway", "gateways"),
    ("gateway.networking.k8s.io", "v1beta1", "ReferenceGrant", "referencegrants"),
    ("argoproj.io", "v1alpha1", "Rollout", "rollouts"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("", "v1", "ReplicationController", "replicationcontrollers"),
    ("", "v1", "PodTemplate", "podtemplates"),
    ("", "v1", "PersistentVolume", "persistentvolumes"),
];

/// The objects that are named at most. The rest of the kinds is not looked at then.
pub const MOST: usize = 3;

/// Why the list of a kind failed.
#[derive(Debug, thiserror::Error)]
#[error("{plural} cannot be listed")]
pub struct UnknownReferrers {
    /// The kind, as RBAC names it.
    pub plural: &'static str,
    /// What failed.
    #[source]
    pub source: kube::Error,
}

/// The first objects that refer to the Secret, as `Kind name`. One that cannot be read counts, since it may refer to it.
///
/// # Errors
/// Where a list of a kind fails.
pub async fn find_referrers(client: ReadClient<'_>, sought: SoughtSecret<'_>) -> Result<Vec<String>, UnknownReferrers> {
    let mut found = Vec::new();
    for (group, version, kind, plural) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let namespace = (kind != "PersistentVolume").then_some(sought.namespace);
        let read = each_object(client, DynamicObject::url_path(&resource, namespace), |object| {
            found.extend(referrer(kind, object, sought).map(|name| format!("{kind} {name}")));
            if found.len() < MOST { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match read.await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            read => read.map_err(|source| UnknownReferrers { plural, source })?,
        }
        if found.len() >= MOST {
            break;
        }
    }
    Ok(found)
}
