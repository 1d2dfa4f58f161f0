//! Restarts: workloads that use a published Secret come to run its current values.
//!
//! | file | content |
//! |---|---|
//! | [`changed`] | the annotation on the Secret: the last change of each key |
//! | [`consumers`] | the keys of a Secret that a pod uses |
//! | [`manifest`] | the manifests of workloads, as far as restarts need them |
//! | [`mark`] | the annotation on the pod template: the values that pods run with |
//! | [`outcome`] | the status and its condition |
//! | [`plan`] | the decision which workloads to restart |
//! | [`policy`] | `spec.restart`, parsed |
//! | [`progress`] | the state of a workload's pods |
//! | [`workload`] | observed workloads and pods |
//!
//! All of it is pure; [`reconcile::rollout`](crate::reconcile::rollout) applies it.

pub mod changed;
pub mod consumers;
pub mod manifest;
pub mod mark;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod workload;
