//! The Kubernetes API of Bindery: the kinds users write, as typed structs.
//!
//! Doc comments here are the user's reference: they become the `description` fields of the CRDs in
//! `crds/` and so the output of `kubectl explain`. [`domain::binding`](crate::domain::binding)
//! parses a manifest into a checked [`Binding`](crate::domain::binding::Binding).

pub mod condition;
mod published_target;
mod restart;
mod rotation;
mod secret_binding;
mod secret_grant;

pub use crate::api::condition::{ConditionType, Reason};
pub use crate::api::published_target::{FormerTarget, PublishedTarget};
pub use crate::api::restart::{
    RestartPolicy, RestartSpec, RestartWindow, RolloutStatus, WorkloadKind, WorkloadReference,
};
pub use crate::api::rotation::{
    Contact, CronJobReference, GenerateEncoding, GenerateSpec, KeyAge, OverlapSpec, OverlapStrategy, RotationRule,
    RotationState, RotationStatus, RuleAction,
};
pub use crate::api::secret_binding::{
    DataEntry, DataFromEntry, DeletionPolicy, EncodingSpec, KeyFormatSpec, KeyReference, SecretBinding,
    SecretBindingSpec, SecretBindingStatus, SourceStatus, Target, TargetReference,
};
pub use crate::api::secret_grant::{
    AwsAccess, GrantedNamespaces, GrantedRotation, GrantedSecret, OnExpiry, RotationAction, SecretGrant,
    SecretGrantSpec, SecretGrantStatus,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of every kind of Bindery.
pub const GROUP: &str = "bindery.dev";
/// The version of the API described by this module.
pub const VERSION: &str = "v1alpha1";

/// Label on every Secret that Bindery publishes; the operator watches Secrets by it.
pub const LABEL_MANAGED: &str = "bindery.dev/managed";
/// Annotation on a published Secret: the name of the binding, in the same namespace, it belongs to.
pub const ANNOTATION_BINDING: &str = "bindery.dev/binding";
/// Annotation on a published Secret: keyed digests that prove it unchanged without reading a value.
pub const ANNOTATION_INPUTS: &str = "bindery.dev/inputs";
/// Annotation on somebody's Secret: the binding of this name may take it over.
pub const ANNOTATION_ADOPT_BY: &str = "bindery.dev/adopt-by";
/// Annotation on a binding: any new text forces a fresh read, once per text.
pub const ANNOTATION_SYNC: &str = "bindery.dev/sync";
/// Annotation on a binding: `emergency-<rule>`, `abort-<rule>` or `retire-<rule>`, acted on once per text.
pub const ANNOTATION_ROTATION: &str = "bindery.dev/rotation";
/// Annotation on a published Secret: the records of its overlaps.
pub const ANNOTATION_ROTATION_STATE: &str = "bindery.dev/rotation-state";
/// Annotation on a published Secret: when each of its keys was last changed.
pub const ANNOTATION_CHANGED: &str = "bindery.dev/changed";
/// Annotation on a CronJob, and on its namespace: `allowed` on both lets bindings run Jobs from its template.
pub const ANNOTATION_RUN: &str = "bindery.dev/run";
/// Annotation on a Job that Bindery made: the CronJob whose template it is.
pub const ANNOTATION_CRON_JOB: &str = "bindery.dev/cron-job";
/// Annotation on a Job that Bindery made: the rotation rule for which it runs.
pub const ANNOTATION_RULE: &str = "bindery.dev/rule";
/// Annotation on a workload: `false` keeps Bindery from restarting it.
pub const ANNOTATION_RESTART: &str = "bindery.dev/restart";
/// Before the name of a target, as an annotation on pod templates: which of its values the pods run with.
pub const RESTART_MARK_PREFIX: &str = "secrets.bindery.dev/";

/// Field manager of the published Secrets.
pub const FIELD_MANAGER: &str = "bindery";
/// Field manager of the status of bindings.
pub const STATUS_FIELD_MANAGER: &str = "bindery-status";
/// Field manager of restarts.
pub const RESTART_FIELD_MANAGER: &str = "bindery-restart";

/// The custom resource definitions, in the order of `crds/`.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![SecretBinding::crd(), SecretGrant::crd()]
}
