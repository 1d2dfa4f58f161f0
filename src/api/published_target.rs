//! The record of the Secrets that a binding published, in its status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The published Secret as Bindery last wrote it, or last found that it still holds the same data.
///
/// A Secret at this resource version needs no look. At another, its data are compared with the digest: where they
/// differ, somebody changed a value, whatever field manager they used, and it is published again.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PublishedTarget {
    /// The name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The uid of the Secret.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The resource version of the Secret.
    #[schemars(length(max = 64))]
    pub resource_version: String,
    /// A keyed digest of the published keys and values. It tells nothing to anybody without the operator's key.
    #[schemars(length(max = 64))]
    pub digest: String,
}

/// A Secret that the binding published under an earlier `spec.target.name`. Only a Secret that stands here, and that
/// still carries what Bindery applied, is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct FormerTarget {
    /// The name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The uid of the Secret; absent where an older release published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}
