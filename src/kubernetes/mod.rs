//! The Kubernetes boundary. Every write stands in [`write`] or [`report`].

pub mod lease;
pub mod report;
pub mod write;
