//! What is known of an object that this version cannot read: an object of a newer release, or one with a value that the
//! API server takes and this program does not, such as a time beyond the range of its library.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::metadata::{MetadataFields, without_managers};

/// The annotation in which `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The most characters of what the reader says.
const MAX_FAULT: usize = 300;

/// What is known of an object that this version cannot read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What cannot be read, and why.
    pub fault: String,
    /// The conditions of its status, as they are stored.
    pub conditions: Vec<Value>,
}

/// An object with its parts unread.
#[derive(serde::Deserialize)]
pub(super) struct Parts {
    #[serde(default, deserialize_with = "without_managers")]
    metadata: MetadataFields,
    #[serde(default)]
    pub(super) spec: Value,
    #[serde(default)]
    pub(super) status: Value,
}

impl Parts {
    /// What is used of the metadata.
    pub(super) fn metadata(&self) -> ObjectMeta {
        let used = &self.metadata;
        let mut annotations: Option<BTreeMap<String, String>> = used.get("annotations");
        if let Some(annotations) = &mut annotations {
            annotations.remove(LAST_APPLIED);
        }
        ObjectMeta {
            name: used.get("name"),
            namespace: used.get("namespace"),
            uid: used.get("uid"),
            resource_version: used.get("resourceVersion"),
            generation: used.get("generation"),
            creation_timestamp: used.get("creationTimestamp"),
            deletion_timestamp: used.deletion(),
            annotations,
            ..ObjectMeta::default()
        }
    }

    /// The object as one that cannot be read.
    pub(super) fn unreadable(&self, fault: String) -> Box<Unreadable> {
        let conditions = self.status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        Box::new(Unreadable { metadata: self.metadata(), fault, conditions })
    }
}

/// Reads a part of an object.
///
/// # Errors
/// Which field cannot be read, and why.
pub(super) fn read_part<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| {
        let field = culprit::<T>(value).map(|field| format!(".{field}")).unwrap_or_default();
        let why: String = error.to_string().chars().take(MAX_FAULT).collect();
        format!("{name}{field} cannot be read by this version of Bindery: {why}")
    })
}

/// The field without which the others can be read.
fn culprit<T: DeserializeOwned>(value: &Value) -> Option<&String> {
    let fields = value.as_object()?;
    fields.keys().find(|field| {
        let mut others = fields.clone();
        others.remove(*field);
        T::deserialize(Value::Object(others)).is_ok()
    })
}
