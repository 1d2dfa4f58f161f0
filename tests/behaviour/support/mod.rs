//! A world for one test: a namespace of its own, secrets of its own in Secrets Manager, an operator process that
//! watches only that namespace, and proxies between the operator and AWS, and between it and the API server, that count
//! and can fail.

pub mod account;
#[allow(dead_code, reason = "the matrix of the control plane uses the rest")]
pub mod api_proxy;
pub mod aws_proxy;
pub mod board;
pub mod iam;
pub mod operator;
pub mod release;
pub mod serving;
#[allow(dead_code, reason = "the tests of rights and packages use the rest")]
pub mod workloads;
pub mod world;

pub use api_proxy::{ApiFault, ApiProxy};
pub use aws_proxy::Fault;
pub use operator::Operator;
pub use world::{World, eventually};
