//! Bindery: a Kubernetes operator that keeps Secrets true to AWS Secrets Manager.
//!
//! A tour, in reading order:
//!
//! 1. [`api`]: what users write, `SecretBinding` and `SecretGrant`, and the words of status.
//! 2. [`domain`]: plain data and pure functions.
//! 3. [`kubernetes`]: every request to the API server but the watches.
//! 4. [`aws`]: the AWS boundary, with the audit log.
//! 5. [`state`]: what is remembered, in memory only.
//! 6. [`reconcile`]: observe, plan, apply, status.
//! 7. [`controller`]: watches, triggers, the loop.
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
