//! Behaviour on a real API server and on Secrets Manager as moto serves it. `make test` brings both up.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

#[path = "../standin/mod.rs"]
mod standin;
mod support;

mod access;
mod actions;
mod admission;
mod ages;
mod api_proxy;
mod audit;
mod concurrency;
mod credentials;
mod double_write;
mod enforced;
mod faults;
mod gitops;
mod guide;
mod identities;
mod lifecycle;
mod mark_copies;
mod marks;
mod messages;
mod metadata;
mod namespaces;
mod overlap;
mod publishing;
mod repair;
mod restart;
mod rights;
mod rollout;
mod serving;
mod sharing;
mod suspended;
mod target;
mod tenants;
mod unwritten;
