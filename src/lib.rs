//! Bindery: a Kubernetes operator that keeps Secrets true to AWS Secrets Manager.
//!
//! A tour in reading order, which is the order of the layers: each imports only those above it in this list.
//!
//! 1. [`api`]: what users write, `SecretBinding` and `SecretGrant`, and the words of status. Beside it [`metrics`] and
//!    [`settings`].
//! 2. [`domain`]: plain data and pure functions.
//! 3. [`kubernetes`]: every request to the API server but the watches.
//! 4. [`aws`]: every request to AWS, with the audit log.
//! 5. [`state`]: what is remembered, in memory only.
//! 6. [`reconcile`]: observe, plan, apply, report.
//! 7. [`controller`]: watches, triggers, the run loop.
//! 8. [`run`]: the program around it.

#![forbid(unsafe_code)]

pub mod api;
pub mod aws;
pub mod cli;
pub mod controller;
pub mod domain;
pub mod flags;
pub mod http;
pub mod kubernetes;
pub mod metrics;
pub mod reconcile;
pub mod run;
pub mod settings;
pub mod state;
pub mod telemetry;
