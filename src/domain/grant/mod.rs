//! Grants: the decision which secrets a binding may read.
//!
//! A namespace reads nothing until a [`SecretGrant`](crate::api::SecretGrant) allows it. Bindery decides
//! before any call to AWS, and again after the read, before it uses the value.

mod access;
mod candidate;
mod decision;
mod denial;
mod error;
mod namespace;
mod request;
mod rule;

pub use crate::domain::grant::access::Access;
pub use crate::domain::grant::candidate::GrantCandidate;
pub use crate::domain::grant::decision::{Home, Requester, decide, is_candidate, needs_account};
pub use crate::domain::grant::denial::explained;
pub use crate::domain::grant::error::{DenialHint, GrantError};
pub use crate::domain::grant::request::{RequestedKeys, requested_keys};
pub use crate::domain::grant::rule::{GrantedKeys, Rules, fault, names_namespace};

#[cfg(test)]
mod tests;
