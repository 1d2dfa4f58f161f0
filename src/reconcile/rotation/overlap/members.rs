//! The group of an overlap, and the pods that its phases wait for.

#![allow(clippy::too_many_arguments, reason = "the object SecretRotation replaces this file")]

use std::sync::Arc;

use kube::ResourceExt as _;

use crate::api::{ConditionType, SecretBinding};
use crate::domain::name::BindingName;
use crate::domain::render::key::TargetKey;
use crate::domain::rollout::consumers::{Uses, uses};
use crate::domain::rollout::pod::PodManifest;
use crate::domain::rotation::overlap::Member;
use crate::domain::rotation::record::{Record, Records};
use crate::domain::target::ObservedSecret;
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::list::{Listed, list_pods};
use crate::kubernetes::read::read_secret_metadata;
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::consistency::Consistency;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::state::bindings::name_of;

/// The other bindings of a group that have published its key.
pub(crate) async fn members(
    cx: &Context,
    own: &BindingName,
    group: &str,
    consistency: Consistency,
    client: ReadClient<'_>,
) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    for binding in cx.state.bindings.in_namespace(&own.namespace) {
        let Ok(manifest) = &binding.0 else { continue };
        if name_of(&binding) == *own || manifest.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let target = manifest.spec.target.as_ref().and_then(|target| target.name.clone());
        let target = target.unwrap_or_else(|| manifest.name_any());
        let Some(records) = records_of(cx, manifest, &own.namespace, &target, consistency, client).await? else {
            continue;
        };
        if let Some(record) = member_record(manifest, records, group) {
            members.push(Member { name: manifest.name_any(), record, stuck: stuck(manifest) });
        }
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

/// The records on another binding's target. `None` where it has none.
async fn records_of(
    cx: &Context,
    manifest: &SecretBinding,
    namespace: &str,
    target: &str,
    consistency: Consistency,
    client: ReadClient<'_>,
) -> Result<Option<Records>, Error> {
    let cached = cx.state.targets.get(namespace, target);
    let overlaps = manifest.spec.rotation.iter().any(|rule| rule.overlap.is_some());
    if !overlaps && cached.as_ref().is_none_or(|sighting| sighting.observed.rotation_state.is_none()) {
        return Ok(None);
    }
    let sighting = match consistency {
        Consistency::Cached => cached,
        Consistency::Live => {
            let meta = read_secret_metadata(client, namespace, target).await;
            let meta = meta.map_err(|_| untold("another Secret of the group", target))?;
            meta.map(|meta| Arc::new(ObservedSecret::new(&meta, &cx.key)))
        }
    };
    let own = sighting.filter(|sighting| sighting.binding.as_deref() == Some(manifest.name_any().as_str()));
    Ok(own.and_then(|sighting| sighting.observed.rotation_state.as_deref().and_then(Records::parse)))
}

/// The pods of a namespace that use the Secret `target`.
pub(crate) async fn pods(client: ReadClient<'_>, namespace: &str, target: &str) -> Result<Listed<PodManifest>, Error> {
    let uses_target = |pod: &PodManifest| pod.spec().is_some_and(|spec| uses(spec, target) != Uses::Nothing);
    let listed = list_pods(client, namespace, |pod| Some(pod).filter(uses_target)).await;
    listed.map_err(|_| untold("the pods of", namespace))
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
