//! The group of an overlap, and the pods that its phases wait for.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use tokio::time::timeout;

use crate::api::{ConditionType, SecretBinding};
use crate::domain::name::BindingName;
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::overlap::Member;
use crate::domain::rotation::record::{Record, Records};
use crate::domain::target::ObservedSecret;
use crate::kubernetes::binding_object::Watched;
use crate::kubernetes::write::WriteError;
use crate::reconcile::binding::observe::Look;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::state::bindings::name_of;

const READ_TIMEOUT: Duration = Duration::from_secs(10);

impl Context {
    /// The other bindings of a group that have published its key.
    pub(crate) async fn members(&self, own: &BindingName, group: &str, look: Look) -> Result<Vec<Member>, Error> {
        let mut members = Vec::new();
        for binding in self.bindings_in(&own.namespace) {
            let Ok(manifest) = &binding.0 else { continue };
            if name_of(&binding) == *own || manifest.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let target = manifest.spec.target.as_ref().and_then(|target| target.name.clone());
            let target = target.unwrap_or_else(|| manifest.name_any());
            let Some(records) = self.records_of(manifest, &own.namespace, &target, look).await? else { continue };
            if let Some(record) = member_record(manifest, records, group) {
                members.push(Member { name: manifest.name_any(), record, stuck: stuck(manifest) });
            }
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// The bindings of a namespace.
    pub(crate) fn bindings_in(&self, namespace: &str) -> Vec<Arc<Watched>> {
        let of_namespace = |binding: &Arc<Watched>| binding.namespace().as_deref() == Some(namespace);
        self.scopes.iter().flat_map(|scope| scope.bindings.state()).filter(of_namespace).collect()
    }

    /// The records on another binding's target. `None` where it has none.
    async fn records_of(
        &self,
        manifest: &SecretBinding,
        namespace: &str,
        target: &str,
        look: Look,
    ) -> Result<Option<Records>, Error> {
        let cached = self.targets.get(namespace, target);
        let overlaps = manifest.spec.rotation.iter().any(|rule| rule.overlap.is_some());
        if !overlaps && cached.as_ref().is_none_or(|sighting| sighting.observed.rotation_state.is_none()) {
            return Ok(None);
        }
        let sighting = match look {
            Look::Cached => cached,
            Look::Live => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                let meta = timeout(READ_TIMEOUT, api.get_metadata_opt(target)).await;
                let meta = meta.map_err(|_| untold("another Secret of the group", target))?;
                let meta = meta.map_err(|_| untold("another Secret of the group", target))?;
                meta.map(|meta| Arc::new(ObservedSecret::new(&meta, &self.key)))
            }
        };
        let own = sighting.filter(|sighting| sighting.binding.as_deref() == Some(manifest.name_any().as_str()));
        Ok(own.and_then(|sighting| sighting.observed.rotation_state.as_deref().and_then(Records::parse)))
    }

    /// The pods of a namespace.
    pub(crate) async fn pods(&self, namespace: &str) -> Result<Vec<Pod>, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let (mut pods, mut params) = (Vec::new(), ListParams::default().limit(500));
        loop {
            let page = timeout(READ_TIMEOUT, api.list(&params)).await.map_err(|_| untold("the pods of", namespace))?;
            let page = page.map_err(|_| untold("the pods of", namespace))?;
            pods.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(pods),
            }
        }
    }
}

fn untold(what: &str, name: &str) -> Error {
    WriteError::Failed { name: name.to_owned(), what: format!("the API server does not tell of {what} {name}") }.into()
}

/// The record of the key by which a binding belongs to a group.
fn member_record(manifest: &SecretBinding, records: Records, group: &str) -> Option<Record> {
    let rules = manifest.spec.rotation.iter().filter_map(|rule| Some((rule, rule.overlap.as_ref()?)));
    let mut named = rules.filter(|(rule, overlap)| overlap.group.as_ref().unwrap_or(&rule.name) == group);
    let key = named.find_map(|(rule, _)| rule.keys.first().cloned());
    let flies = |record: &Record| record.flight.as_ref().is_some_and(|flight| flight.settings.group == group);
    let mut records = records.0;
    let in_flight = records.iter().find(|(_, record)| flies(record)).map(|(key, _)| key.clone());
    if let Some(key) = in_flight {
        return records.remove(&key);
    }
    records.remove(&TargetKey::try_from(key?.as_str()).ok()?)
}

/// Why a binding cannot take a step.
fn stuck(manifest: &SecretBinding) -> Option<String> {
    if manifest.spec.suspend.unwrap_or_default() {
        return Some("it is suspended".to_owned());
    }
    let conditions = manifest.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let failed = conditions.iter().find(|condition| {
        condition.status == "False"
            && [ConditionType::Granted, ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied]
                .iter()
                .any(|type_| type_.as_str() == condition.type_)
    });
    failed.map(|condition| condition.reason.clone())
}
