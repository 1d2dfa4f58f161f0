//! The target Secret as it is and as it should be, compared without reading a value.
//!
//! Kubernetes keeps the fields of each writer in `metadata.managedFields` ([server-side apply][ssa]). A key that somebody
//! edits or deletes leaves the entry of the field manager `bindery`. So the digest of the fields in that entry, compared
//! with the digest of the published fields, shows drift from metadata alone.
//!
//! [ssa]: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management

mod desired;
mod error;
mod mark;
mod meta;
pub mod metadata;
mod observed;
pub mod orphan;
mod ownership;
pub mod record;
pub mod referrer;
pub mod reserved;
pub mod risky;
pub mod takeover;
pub mod withdrawal;

pub use crate::domain::target::desired::{Desired, owner_reference};
pub use crate::domain::target::error::TargetError;
pub use crate::domain::target::mark::MarkPlace;
pub use crate::domain::target::meta::SecretMeta;
pub use crate::domain::target::observed::{Comparison, ObservedSecret, ObservedTarget, compare, is_intact, owned_keys};
pub use crate::domain::target::ownership::{TargetState, judge};

#[cfg(test)]
mod tests;
