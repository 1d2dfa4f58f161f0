//! The target Secret as it should be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;

use crate::api::{ANNOTATION_BINDING, ANNOTATION_INPUTS, DeletionPolicy, LABEL_MANAGED, SecretBinding};
use crate::domain::binding::Binding;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::render::key::TargetKey;
use crate::domain::target::mark::{fields_digest, mark, place_digest};
use crate::domain::target::record::data_digest;
use crate::domain::value::Value;

/// The Secret as it should be. Deliberately without `Debug`, `Clone` and `Serialize`.
pub struct Desired {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The type.
    pub type_: String,
    /// The labels, Bindery's own among them.
    pub labels: BTreeMap<String, String>,
    /// The annotations, Bindery's own among them.
    pub annotations: BTreeMap<String, String>,
    /// The binding, if it owns the Secret.
    pub owner: Option<OwnerReference>,
    /// The keys and values.
    pub data: BTreeMap<TargetKey, Value>,
}

impl Desired {
    /// The Secret of `binding` with this data. `history` are annotations of Bindery about earlier values.
    #[must_use]
    pub fn new(
        binding: &Binding,
        data: BTreeMap<TargetKey, Value>,
        history: BTreeMap<String, String>,
        inputs: &str,
        key: &FingerprintKey,
    ) -> Self {
        let target = &binding.target;
        let mut labels = target.labels.clone();
        labels.insert(LABEL_MANAGED.to_owned(), "true".to_owned());
        let mut annotations = target.annotations.clone();
        annotations.extend(history);
        annotations.insert(ANNOTATION_BINDING.to_owned(), binding.name.clone());
        annotations.insert(ANNOTATION_INPUTS.to_owned(), String::new());
        let mut desired = Self {
            namespace: binding.namespace.clone(),
            name: target.name.clone(),
            type_: target.type_.clone(),
            labels,
            annotations,
            owner: (target.deletion_policy == DeletionPolicy::Delete).then(|| owner_reference(binding)),
            data,
        };
        desired.sign(inputs, key);
        desired
    }

    /// The same without an owner: it outlives its binding.
    #[must_use]
    pub fn without_owner(mut self, inputs: &str, key: &FingerprintKey) -> Self {
        self.owner = None;
        self.sign(inputs, key);
        self
    }

    fn sign(&mut self, inputs: &str, key: &FingerprintKey) {
        let place = place_digest((&self.namespace, &self.name), key);
        let mark = mark(&place, inputs, &fields_digest(&self.fields(), key));
        self.annotations.insert(ANNOTATION_INPUTS.to_owned(), mark);
    }

    /// The digest of the data.
    #[must_use]
    pub fn digest(&self, key: &FingerprintKey) -> String {
        let data = self.data.iter().map(|(name, value)| (name.as_str(), value));
        data_digest((&self.namespace, &self.name), data, key)
    }

    fn fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::from(["type".to_owned()]);
        fields.extend(self.data.keys().map(|key| format!("data/{key}")));
        fields.extend(self.labels.keys().map(|key| format!("label/{key}")));
        fields.extend(self.annotations.keys().map(|key| format!("annotation/{key}")));
        fields.extend(self.owner.iter().map(|owner| format!("owner/{}", owner.uid)));
        fields
    }
}

/// The owner reference of objects that Kubernetes deletes with the binding.
#[must_use]
pub fn owner_reference(binding: &Binding) -> OwnerReference {
    OwnerReference {
        api_version: SecretBinding::api_version(&()).into_owned(),
        kind: SecretBinding::kind(&()).into_owned(),
        name: binding.name.clone(),
        uid: binding.uid.clone(),
        controller: Some(true),
        // A Secret never blocks the deletion of its binding.
        block_owner_deletion: Some(false),
    }
}
