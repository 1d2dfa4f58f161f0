//! For whom a value is read, why, and what the binding takes of it.

use std::sync::Arc;

use crate::aws::audit::ReadReason;
use crate::domain::name::BindingName;
use crate::domain::secret::error::SourceErrorKind;
use crate::domain::secret::version::SecretVersion;

/// The JSON keys that a binding takes of a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Their names.
    pub keys: Vec<String>,
    /// Whether the payload is also taken whole.
    pub whole_payload: bool,
}

/// Judges an answer for one binding: which keys it takes, or why it may not have the value after all.
pub type AnswerCheck = Arc<dyn Fn(&SecretVersion) -> Result<Selection, SourceErrorKind> + Send + Sync>;

/// For whom a value is read, and why.
#[derive(Clone)]
pub struct ReadRequest {
    /// The binding.
    pub binding: BindingName,
    /// The grant that allows the read.
    pub grant: String,
    /// Why the value is needed.
    pub reason: ReadReason,
    /// The version that is wanted, where it is known: a read that is under way and answers it will do. Without one,
    /// only a read that begins after the demand will.
    pub version_id: Option<String>,
    /// Asked after the read and before the value is handed on.
    pub check: AnswerCheck,
}
