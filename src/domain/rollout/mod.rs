//! Restarts: which workloads use what was published, and how they come to run the current values.
//!
//! | file | what |
//! |---|---|
//! | [`changed`] | when each key was changed: the annotation on the Secret |
//! | [`consumers`] | what a pod can see of a Secret |
//! | [`manifest`] | the manifests of workloads, as far as restarts need them |
//! | [`mark`] | which values pods run with: the annotation on the pod template |
//! | [`outcome`] | what the status says |
//! | [`plan`] | which workloads are to be restarted |
//! | [`policy`] | which workloads are restarted, and when, parsed |
//! | [`progress`] | how far the pods of a workload follow its template |
//! | [`workload`] | workloads and pods as they are observed |
//!
//! All of it is pure. What a pass does with it is in [`controller::rollout`](crate::reconcile::rollout).

pub mod changed;
pub mod consumers;
pub mod manifest;
pub mod mark;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod workload;
