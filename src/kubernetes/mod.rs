//! The Kubernetes boundary. Every write stands in [`mod@write`] or [`report`].

pub mod binding_object;
pub mod lease;
pub mod read;
pub mod report;
pub mod workloads;
pub mod write;
