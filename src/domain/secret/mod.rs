//! A secret of AWS Secrets Manager: how a binding names it, as whom it is read, what AWS tells of it.

pub mod description;
pub mod error;
pub mod identity;
pub mod reference;
pub mod version;
