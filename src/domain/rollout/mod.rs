//! Restarts: workloads that use a published Secret come to run its current values.
//!
//! | file | content |
//! |---|---|
//! | [`changed`] | the annotation on the Secret: the last change of each key |
//! | [`consumers`] | the keys of a Secret that a pod uses |
//! | [`history`] | the restarts as the operator remembers them |
//! | [`judge`] | the judgement of one workload |
//! | [`manifest`] | the manifests of workloads, as far as restarts need them |
//! | [`mark`] | the annotation on the pod template: the values that pods run with |
//! | [`outcome`] | the status and its condition |
//! | [`plan`] | the plan: which workloads are restarted now, and what the others wait for |
//! | [`pod`] | the manifest of a pod, as far as restarts need it |
//! | [`policy`] | `spec.restart`, parsed |
//! | [`progress`] | the state of a workload's pods |
//! | [`publication`] | the annotation on the Secret with the next write |
//! | [`result`] | the result of a step: the plan with the outcomes of its restarts |
//! | [`unhandled`] | the changes that not all workloads are known to have |
//! | [`verdict`] | the verdict on a workload |
//! | [`workload`] | observed workloads and pods |
//!
//! All of it is pure; [`reconcile::rollout`](crate::reconcile::rollout) applies it.

pub mod changed;
pub mod consumers;
pub mod history;
pub mod judge;
pub mod manifest;
pub mod mark;
pub mod outcome;
pub mod plan;
pub mod pod;
pub mod policy;
pub mod progress;
pub mod publication;
pub mod result;
pub mod unhandled;
pub mod verdict;
pub mod workload;
