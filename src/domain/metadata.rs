//! The metadata of an object, read field by field: one that cannot be read takes no other with it.
//!
//! Anybody who may edit an object may write its managed fields, with a time that no library knows. Read as a whole, one
//! such object would stop the list of all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::{Map, Value};

/// The fields of the metadata of an object.
#[derive(Clone, Debug, Default)]
pub struct MetadataFields(Map<String, Value>);

impl<'de> Deserialize<'de> for MetadataFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Object(fields) => Self(fields),
            _ => Self::default(),
        })
    }
}

impl MetadataFields {
    /// A field, if it is there and can be read.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.0.get(name)?).ok()
    }

    /// When the object was deleted. One whose time cannot be read is deleted too.
    #[must_use]
    pub fn deletion(&self) -> Option<Time> {
        let time = self.0.get("deletionTimestamp").filter(|time| !time.is_null())?;
        Some(Time::deserialize(time).unwrap_or(Time(Timestamp::UNIX_EPOCH)))
    }

    /// What each field manager owns. A time that cannot be read is left out.
    #[must_use]
    pub fn managed_fields(&self) -> Option<Vec<ManagedFieldsEntry>> {
        let entries = self.0.get("managedFields")?.as_array()?;
        let readable = |entry: &Value| {
            ManagedFieldsEntry::deserialize(entry).ok().or_else(|| {
                let mut entry = entry.as_object()?.clone();
                entry.remove("time");
                ManagedFieldsEntry::deserialize(Value::Object(entry)).ok()
            })
        };
        Some(entries.iter().filter_map(readable).collect())
    }

    /// All that can be read of what Bindery uses.
    #[must_use]
    pub fn read(&self) -> ObjectMeta {
        ObjectMeta {
            name: self.get("name"),
            namespace: self.get("namespace"),
            uid: self.get("uid"),
            resource_version: self.get("resourceVersion"),
            generation: self.get("generation"),
            creation_timestamp: self.get("creationTimestamp"),
            deletion_timestamp: self.deletion(),
            labels: self.get("labels"),
            annotations: self.get("annotations"),
            owner_references: self.get("ownerReferences"),
            finalizers: self.get("finalizers"),
            managed_fields: self.managed_fields(),
            ..ObjectMeta::default()
        }
    }
}

/// Reads fields but for what each manager owns, the larger part, which is passed over as it is read.
///
/// # Errors
/// Where these are no fields.
pub fn without_managers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MetadataFields, D::Error> {
    #[derive(serde::Deserialize)]
    struct Used {
        #[serde(default, rename = "managedFields")]
        _managed_fields: IgnoredAny,
        #[serde(flatten)]
        fields: Map<String, Value>,
    }
    Used::deserialize(deserializer).map(|used| MetadataFields(used.fields))
}

/// Reads metadata of which something may be unreadable.
///
/// # Errors
/// Where the text is no JSON.
pub fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    MetadataFields::deserialize(deserializer).map(|fields| fields.read())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_cannot_be_read_takes_no_other_with_it() {
        let never = "9999-12-31T23:59:59Z";
        let entry =
            json!({"manager": "bindery", "operation": "Apply", "time": never, "fieldsV1": {"f:data": {"f:A": {}}}});
        let metadata = json!({"name": "s", "uid": "u", "labels": {"a": 7}, "creationTimestamp": never,
            "deletionTimestamp": never, "ownerReferences": "nobody", "annotations": {"a": "b"}, "managedFields": [entry, 7]});
        let read = readable(metadata).unwrap();
        assert_eq!((read.name.as_deref(), read.uid.as_deref()), (Some("s"), Some("u")));
        assert_eq!((read.labels, read.creation_timestamp, read.owner_references), (None, None, None));
        assert!(read.deletion_timestamp.is_some(), "it is deleted, whenever that was");
        assert_eq!(read.annotations.unwrap()["a"], "b");
        let entries = read.managed_fields.unwrap();
        assert_eq!((entries.len(), entries[0].manager.as_deref()), (1, Some("bindery")));
        assert!(entries[0].time.is_none() && entries[0].fields_v1.is_some());
        assert_eq!(readable(json!("none")).unwrap(), ObjectMeta::default());
        let fields = without_managers(json!({"name": "s", "labels": 7, "managedFields": [7]})).unwrap();
        assert_eq!((fields.get("name"), fields.managed_fields()), (Some("s".to_owned()), None));
    }
}
