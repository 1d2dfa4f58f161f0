//! Bindery: a Kubernetes operator that keeps Secrets true to AWS Secrets Manager.
//!
//! A tour, in reading order:
//!
//! 1. [`api`]: what users write, `SecretBinding` and `SecretGrant`, and the words of status.
//! 2. [`domain`]: plain data and pure functions.
//! 3. [`kubernetes`]: every request to the API server but the watches.
//! 4. [`source`]: the AWS boundary, with the audit log.
//! 5. [`controller`]: observe, plan, apply, report.
//! 6. [`run`]: the program around it.

#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod controller;
pub mod domain;
pub mod flags;
pub mod http;
pub mod kubernetes;
pub mod metrics;
pub mod run;
pub mod settings;
pub mod source;
pub mod telemetry;
