//! What is known of an object that this version cannot read: an object of a newer release, or one with a value that the
//! API server takes and this program does not, such as a time beyond the range of its library.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{ANNOTATION_ROTATION, ANNOTATION_SYNC};
use crate::domain::metadata::{MetadataFields, without_managers};

/// The annotations that are used, each up to a length that no person needs. Memory has those of all bindings.
const USED: [&str; 2] = [ANNOTATION_SYNC, ANNOTATION_ROTATION];
const MAX_ANNOTATION: usize = 1 << 10;

/// The bounds of a part of an object. Anybody may make objects of 1.5 MB, and memory has all.
pub(super) struct Extent {
    /// The name of the part.
    name: &'static str,
    /// The most bytes of text.
    text: usize,
    /// The most values.
    values: usize,
    /// What cures a larger one.
    cure: &'static str,
}

/// The bounds of what people write.
pub(super) const SPEC: Extent =
    Extent { name: "spec", text: 128 << 10, values: 4096, cure: "share it out among several objects" };
/// The bounds of what Bindery writes: some dates for each of 500 keys and 50 rules.
pub(super) const STATUS: Extent = Extent {
    name: "status",
    text: 512 << 10,
    values: 32_768,
    cure: "Bindery did not write that: remove it with kubectl patch --subresource=status --type=merge -p '{\"status\":null}'",
};
/// The bounds of the conditions of an object that cannot be read.
const CONDITIONS: Extent = Extent { name: "status.conditions", text: 64 << 10, values: 1024, cure: "" };

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
            annotations.retain(|name, text| USED.contains(&name.as_str()) && text.len() <= MAX_ANNOTATION);
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
        let conditions =
            self.status.get("conditions").filter(|conditions| check_extent(&CONDITIONS, conditions).is_ok());
        let conditions = conditions.and_then(Value::as_array).cloned().unwrap_or_default();
        Box::new(Unreadable { metadata: self.metadata(), fault, conditions })
    }
}

/// Whether a part of an object is small enough to be kept.
///
/// # Errors
/// How large it is.
pub(super) fn check_extent(most: &Extent, value: &Value) -> Result<(), String> {
    let (text, values) = extent(value);
    if text <= most.text && values <= most.values {
        return Ok(());
    }
    Err(format!(
        "{} is too large: it has {text} bytes of text and {values} values, and Bindery keeps {} and {} at most; {}",
        most.name, most.text, most.values, most.cure
    ))
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

/// The bytes of text of a value, and the number of values in it.
fn extent(value: &Value) -> (usize, usize) {
    let add = |sum: (usize, usize), more: (usize, usize)| (sum.0 + more.0, sum.1 + more.1);
    match value {
        Value::String(text) => (text.len(), 1),
        Value::Array(list) => list.iter().map(extent).fold((0, 1), add),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| add((name.len(), 0), extent(value))).fold((0, 1), add)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => (0, 1),
    }
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
