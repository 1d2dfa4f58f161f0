//! A secret of AWS Secrets Manager: references, identities, descriptions, versions, failures.

pub mod description;
pub mod error;
pub mod identity;
pub mod reference;
pub mod version;
