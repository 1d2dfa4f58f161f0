//! Taking over a Secret that lost Bindery's entry in its managed fields, as a restore without them loses it.
//!
//! Whoever restores a Secret owns its keys from then on, and Kubernetes keeps a key as long as anybody owns it. So the keys
//! that are proven to be published by Bindery are taken over once: else a key that AWS drops would stay for ever.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::ResourceExt as _;
use serde_json::{Map, Value as Json, json};

use crate::api::{ANNOTATION_INPUTS, FIELD_MANAGER, GROUP, SecretBindingStatus};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::target::desired::Desired;
use crate::domain::target::mark::{MarkPlace, fields_digest, fields_of, place_of};
use crate::domain::target::meta::SecretMeta;
use crate::domain::target::record::data_digest;
use crate::domain::value::Value;

/// The keys of a Secret that are proven to be published by Bindery: all of them, or at least those that it still
/// publishes. The proof is a keyed digest, of the data in the status or of the fields in the annotation
/// `bindery.dev/inputs`, where that was made for this Secret and no other. Empty where neither proves anything.
#[must_use]
pub fn proven_keys(
    status: &SecretBindingStatus,
    desired: &Desired,
    meta: &SecretMeta,
    data: &BTreeMap<String, Value>,
    key: &FingerprintKey,
) -> BTreeSet<String> {
    let all: BTreeSet<String> = data.keys().cloned().collect();
    let wanted: BTreeSet<String> =
        all.iter().filter(|key| desired.data.keys().any(|wanted| wanted.as_str() == **key)).cloned().collect();
    let place = (&*desired.namespace, &*desired.name);
    let recorded = status.target.as_ref().filter(|record| record.name == desired.name);
    let by_data = |keys: &BTreeSet<String>| {
        let data = data.iter().filter(|(key, _)| keys.contains(*key)).map(|(key, value)| (key.as_str(), value));
        recorded.is_some_and(|record| record.digest == data_digest(place, data, key))
    };
    let mark = meta.annotations().get(ANNOTATION_INPUTS).map(String::as_str);
    let mark = mark.filter(|mark| place_of(Some(mark), place, key) == MarkPlace::Here).and_then(fields_of);
    let by_fields = |keys: &BTreeSet<String>| mark == Some(&fields_digest(&published_fields(desired, meta, keys), key));
    [all, wanted].into_iter().find(|keys| by_data(keys) || by_fields(keys)).unwrap_or_default()
}

/// The fields that Bindery published, if these were the keys.
fn published_fields(desired: &Desired, meta: &SecretMeta, keys: &BTreeSet<String>) -> BTreeSet<String> {
    let own = |name: &str| name.split('/').next() == Some(GROUP);
    let labels = meta.labels().keys().filter(|name| own(name) || desired.labels.contains_key(*name));
    let annotations = meta.annotations().keys().filter(|name| own(name) || desired.annotations.contains_key(*name));
    let owner = meta.owner_references().iter().find(|owner| owner.controller == Some(true));
    let mut fields = BTreeSet::from(["type".to_owned()]);
    fields.extend(keys.iter().map(|key| format!("data/{key}")));
    fields.extend(labels.map(|name| format!("label/{name}")));
    fields.extend(annotations.map(|name| format!("annotation/{name}")));
    fields.extend(owner.map(|owner| format!("owner/{}", owner.uid)));
    fields
}

/// The managed fields of a Secret once these keys are Bindery's alone. Who applies a key goes on owning it: that one wants
/// it, while a restore or `kubectl create` only happened to write it.
#[must_use]
pub fn managed_fields(meta: &SecretMeta, keys: &BTreeSet<String>) -> Vec<ManagedFieldsEntry> {
    let mut entries = meta.managed_fields().to_vec();
    for entry in entries.iter_mut().filter(|entry| entry.operation.as_deref() != Some("Apply")) {
        let Some(Json::Object(fields)) = entry.fields_v1.as_mut().map(|fields| &mut fields.0) else { continue };
        let Some(Json::Object(data)) = fields.get_mut("f:data") else { continue };
        data.retain(|field, _| !field.strip_prefix("f:").is_some_and(|key| keys.contains(key)));
        if !data.keys().any(|field| field.starts_with("f:")) {
            fields.remove("f:data");
        }
    }
    let data: Map<String, Json> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    entries.push(ManagedFieldsEntry {
        manager: Some(FIELD_MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        api_version: Some("v1".to_owned()),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(json!({"f:data": data}))),
        ..ManagedFieldsEntry::default()
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restorer_loses_the_proven_keys_and_who_applies_them_does_not() {
        let entry = |manager: &str, operation: &str| {
            json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, "f:A": {}, "f:EXTRA": {}}, "f:type": {}}})
        };
        let metadata = json!({"managedFields": [entry("velero-server", "Update"), entry("argocd", "Apply")]});
        let meta = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).unwrap();
        let after = managed_fields(&meta, &BTreeSet::from(["A".to_owned()]));
        let data = |index: usize| after[index].fields_v1.as_ref().unwrap().0["f:data"].clone();
        assert_eq!(data(0), json!({".": {}, "f:EXTRA": {}}));
        assert_eq!(data(1), json!({".": {}, "f:A": {}, "f:EXTRA": {}}));
        assert_eq!(data(2), json!({"f:A": {}}));
        assert_eq!(after[2].manager.as_deref(), Some(FIELD_MANAGER));
    }
}
