//! Reconciles: from what is observed to what is written.

pub mod authorization;
pub mod binding;
mod cause;
pub mod consistency;
pub mod context;
pub mod error;
pub mod refresh;
pub mod rollout;
pub mod rotation;
pub mod selection;
pub mod subject;
pub mod unreadable;
