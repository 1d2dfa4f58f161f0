//! AWS's permissions, enforced in front of a mock that does not enforce them.
//!
//! [`policy`] reads IAM policies, [`evaluate`] decides by AWS's documented rules, [`world`] holds who there is and what
//! is attached to whom, and [`gate`] does all this for an HTTP request and answers a refusal as AWS does.
//!
//! What this evaluator does not know, it refuses by name: an operator, a condition key, an operation. A test that
//! passes because something was silently ignored would prove nothing. Not modelled, and refused where a request asks for it:
//! session policies, permissions boundaries, policies of an organisation, SAML, federated users.
//!
//! The tests are in the folder `tests`, which `tests/aws_templates.rs` mounts.

#![allow(dead_code, unused_imports, reason = "each crate of tests uses what it needs of it")]

pub mod context;
pub mod evaluate;
pub mod gate;
pub mod pattern;
pub mod policy;
pub mod shipped;
pub mod sts;
pub mod token;
pub mod wire;
pub mod world;

pub use gate::{Gate, Verdict};
pub use policy::Policy;
pub use world::{IamWorld, Role};
