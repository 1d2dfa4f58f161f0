//! Bindery: a Kubernetes operator that keeps Secrets true to AWS Secrets Manager.
//!
//! A tour, in reading order:
//!
//! 1. [`api`]: what users write, `SecretBinding` and `SecretGrant`, and the words of status.
//! 2. [`binding`]: the pure domain: references, payloads, mapping, templates.
//! 3. [`grant`]: who may read what, pure.
//! 4. [`source`]: the AWS boundary, with the audit log.
//! 5. [`rotation`]: ages, due times, actions, overlaps.
//! 6. [`restart`]: which workloads use what was published, and how they come to run it.
//! 7. [`controller`]: observe, plan, apply, report.
//! 8. [`kubernetes`]: every write to the API server, and the lease.
//! 9. [`run`]: the program around it.

#![forbid(unsafe_code)]

pub mod api;
pub mod binding;
pub mod cli;
pub mod controller;
pub mod fingerprint;
pub mod grant;
pub mod http;
pub mod kubernetes;
pub mod metrics;
pub mod restart;
pub mod rotation;
pub mod run;
pub mod settings;
pub mod source;
pub mod telemetry;
