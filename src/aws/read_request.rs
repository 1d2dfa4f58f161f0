//! The request of a binding for a value: the reason, and the check of the answer.

use std::sync::Arc;

use crate::aws::audit::{ReadReason, Served};
use crate::domain::name::BindingName;
use crate::domain::secret::error::SourceErrorKind;
use crate::domain::secret::version::SecretVersion;

/// The JSON keys of a payload that a binding selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The names of the keys.
    pub keys: Vec<String>,
    /// Whether the binding also selects the whole payload.
    pub whole_payload: bool,
}

/// The check of an answer for one binding. It returns the selected keys, or why the binding may not have the value.
pub type AnswerCheck = Arc<dyn Fn(&SecretVersion) -> Result<Selection, SourceErrorKind> + Send + Sync>;

/// The request of one binding for a value.
#[derive(Clone)]
pub struct ReadRequest {
    /// The binding.
    pub binding: BindingName,
    /// The grant that allows the read.
    pub grant: String,
    /// Why the binding needs the value.
    pub reason: ReadReason,
    /// The version that the binding expects, where it is known. A read in flight serves the request if it answers this
    /// version. Without one, only a read that begins after the request serves it.
    pub version_id: Option<String>,
    /// Runs after the read and before the binding gets the value.
    pub check: AnswerCheck,
}

impl ReadRequest {
    /// The entry of the audit record, before the check.
    pub(super) fn served(&self) -> Served<'_> {
        Served {
            namespace: &self.binding.namespace,
            binding: &self.binding.name,
            grant: &self.grant,
            reason: self.reason,
            keys: Vec::new(),
            whole_payload: false,
            denied: false,
        }
    }

    /// The entry of the audit record, after the check.
    pub(super) fn served_with(&self, check: Result<Selection, SourceErrorKind>) -> Served<'_> {
        match check {
            Ok(Selection { keys, whole_payload }) => Served { keys, whole_payload, ..self.served() },
            Err(_) => Served { denied: true, ..self.served() },
        }
    }
}
