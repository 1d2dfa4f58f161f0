//! The target Secret as it is, as it should be, and whether the two agree: all without reading a value.
//!
//! Kubernetes keeps in `metadata.managedFields` which fields each writer owns ([server-side apply][ssa]). A key that
//! somebody edits, or deletes, leaves the entry of the field manager `bindery`. So the set of fields in that entry,
//! compared by digest with the set that was published, shows drift from metadata alone.
//!
//! [ssa]: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management

mod desired;
mod error;
mod mark;
mod observed;
pub mod orphan;
mod ownership;

pub use crate::domain::target::desired::{Desired, owner_reference};
pub use crate::domain::target::error::TargetError;
pub use crate::domain::target::observed::{
    Comparison, ObservedSecret, ObservedTarget, SecretMeta, compare, is_intact, owned_keys,
};
pub use crate::domain::target::ownership::{TargetState, judge};

#[cfg(test)]
mod tests;
