//! Reconciles: from what is observed to what is written.

pub mod binding;
pub mod context;
pub mod error;
pub mod rollout;
pub mod rotation;
