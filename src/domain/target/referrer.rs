//! Whether an object names a Secret.
//!
//! Kinds name Secrets in many places, and more come with each release of Kubernetes and of its extensions. But they have
//! ways in common: a field whose name speaks of a secret or a certificate holds the name, or an object or a list of objects
//! with a `name`. So the whole specification is read, of whatever kind, and nothing of it is kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The Secret that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct SoughtSecret<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// An object that may name a Secret.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Header {
    metadata: Metadata,
    status: Status,
}

/// A ReferenceGrant, which lets objects of other namespaces refer to those of its own.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ReferenceGrant {
    spec: ReferenceGrantSpec,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ReferenceGrantSpec {
    to: Vec<Referred>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Referred {
    kind: String,
    name: Option<String>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Owner {
    controller: bool,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// The name of the object with this text, if it names the Secret, or if nobody can tell. A pod or Job that has ended does
/// not read it any more. What makes the pods of a ReplicaSet that has a controller is that one's template.
#[must_use]
pub fn referrer(kind: &str, object: &[u8], sought: SoughtSecret<'_>) -> Option<String> {
    let Ok(Header { metadata, status }) = serde_json::from_slice(object) else {
        return Some("without a name".to_owned());
    };
    let has_ended = match kind {
        "Pod" => matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        "Job" => status
            .conditions
            .iter()
            .any(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"),
        "ReplicaSet" | "ReplicationController" => metadata.owner_references.iter().any(|owner| owner.controller),
        _ => false,
    };
    if has_ended {
        return None;
    }
    if kind == "ReferenceGrant" {
        let allows = |to: &Referred| to.kind == "Secret" && to.name.as_ref().is_none_or(|name| name == sought.name);
        let grant = serde_json::from_slice::<ReferenceGrant>(object);
        return grant.map_or(true, |grant| grant.spec.to.iter().any(allows)).then_some(metadata.name);
    }
    let place = Place { sought, own: &metadata.namespace, speaks: false };
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    let names = Object(place).deserialize(&mut deserializer);
    names.unwrap_or(true).then_some(metadata.name)
}

/// A place in an object.
#[derive(Clone, Copy)]
struct Place<'a> {
    sought: SoughtSecret<'a>,
    /// The namespace of the object.
    own: &'a str,
    /// Whether the name of the field speaks of a secret.
    speaks: bool,
}

impl Place<'_> {
    /// Whether a reference into this namespace may be to the Secret. An object of no namespace may mean any.
    fn is_here(&self, namespace: &str) -> bool {
        namespace.is_empty() || namespace == self.sought.namespace
    }
}

/// Whether the name of a field speaks of a Secret.
fn speaks(field: &str) -> bool {
    let field = field.to_ascii_lowercase();
    ["secret", "certificateref", "credential"].iter().any(|word| field.contains(word))
}

/// The object as a whole. Metadata and status name nothing that is read.
struct Object<'a>(Place<'a>);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut names = false;
        while let Some(field) = map.next_key::<String>()? {
            if matches!(field.as_str(), "metadata" | "status") {
                map.next_value::<IgnoredAny>()?;
            } else {
                names |= map.next_value_seed(Place { speaks: speaks(&field), ..self.0 })?;
            }
        }
        Ok(names)
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(self.speaks && text == self.sought.name && self.is_here(self.own))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let mut names = false;
        while let Some(element) = list.next_element_seed(self)? {
            names |= element;
        }
        Ok(names)
    }

    /// A reference has a `name`, and perhaps a `kind` and a `namespace`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let (mut below, mut is_named) = (false, false);
        let (mut namespace, mut kind) = (None, None);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "name" if self.speaks => is_named = map.next_value::<Text>()?.0.as_deref() == Some(self.sought.name),
                "namespace" if self.speaks => namespace = map.next_value::<Text>()?.0,
                "kind" if self.speaks => kind = map.next_value::<Text>()?.0,
                _ => below |= map.next_value_seed(Place { speaks: speaks(&field), ..self })?,
            }
        }
        let here = self.is_here(namespace.as_deref().unwrap_or(self.own));
        Ok(below || (is_named && here && kind.is_none_or(|kind| kind == "Secret")))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
}

/// A text, or nothing where there is something else.
struct Text(Option<String>);

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Option<String> as serde::Deserialize>::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn names(kind: &str, more: &Value) -> bool {
        let mut object = json!({"metadata": {"name": "o", "namespace": "n", "labels": {"secret": "s"}}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let sought = SoughtSecret { namespace: "n", name: "s" };
        let found = referrer(kind, object.to_string().as_bytes(), sought);
        assert!(found.as_deref().is_none_or(|name| name == "o"), "{found:?}");
        found.is_some()
    }

    #[test]
    fn a_pod_refers_to_a_secret_in_each_way_that_kubernetes_knows() {
        let env = |from: Value| json!({"containers": [{"name": "s", "image": "s", "env": [{"name": "s", "valueFrom": from}]}]});
        let volume = |source: Value| json!({"volumes": [source]});
        for (spec, refers) in [
            (env(json!({"secretKeyRef": {"name": "s", "key": "k"}})), true),
            (env(json!({"secretKeyRef": {"name": "s2", "key": "s"}})), false),
            (env(json!({"configMapKeyRef": {"name": "s", "key": "s"}})), false),
            (json!({"initContainers": [{"envFrom": [{"prefix": "s", "secretRef": {"name": "s"}}]}]}), true),
            (json!({"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}), true),
            (json!({"containers": [{"envFrom": [{"configMapRef": {"name": "s"}}]}]}), false),
            (volume(json!({"name": "s", "secret": {"secretName": "s"}})), true),
            (volume(json!({"name": "s", "secret": {"secretName": "s2", "items": [{"key": "s", "path": "s"}]}})), false),
            (volume(json!({"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}})), true),
            (volume(json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}})), true),
            (volume(json!({"name": "v", "azureFile": {"secretName": "s", "shareName": "x"}})), true),
            (volume(json!({"name": "v", "iscsi": {"iqn": "s", "secretRef": {"name": "s"}}})), true),
            (volume(json!({"name": "v", "cephfs": {"monitors": ["s"], "secretRef": {"name": "s"}}})), true),
            (volume(json!({"name": "v", "flexVolume": {"driver": "d", "secretRef": {"name": "s"}}})), true),
            (volume(json!({"name": "s", "configMap": {"name": "s"}})), false),
            (json!({"imagePullSecrets": [{"name": "s2"}, {"name": "s"}]}), true),
            (json!({"serviceAccountName": "s", "hostname": "s", "nodeSelector": {"a": "s"}}), false),
        ] {
            assert_eq!(names("Pod", &json!({"spec": spec})), refers, "{spec}");
            let template = json!({"spec": {"template": {"metadata": {"name": "s"}, "spec": spec}}});
            assert_eq!(names("Deployment", &template), refers, "{spec}");
            let job = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}});
            assert_eq!(names("CronJob", &job), refers, "{spec}");
            assert_eq!(names("PodTemplate", &json!({"template": {"spec": spec}})), refers, "{spec}");
        }
    }

    #[test]
    fn other_kinds_refer_to_secrets_of_their_namespace() {
        let listener =
            |reference: Value| json!({"spec": {"listeners": [{"name": "s", "tls": {"certificateRefs": [reference]}}]}});
        for (kind, object, refers) in [
            ("Ingress", json!({"spec": {"tls": [{"hosts": ["s"], "secretName": "s"}]}}), true),
            ("Ingress", json!({"spec": {"ingressClassName": "s", "rules": [{"host": "s"}]}}), false),
            ("Gateway", listener(json!({"name": "s"})), true),
            ("Gateway", listener(json!({"kind": "Secret", "group": "", "name": "s", "namespace": "n"})), true),
            ("Gateway", listener(json!({"kind": "Secret", "name": "s", "namespace": "elsewhere"})), false),
            ("Gateway", listener(json!({"namespace": null, "kind": "ConfigMap", "name": "s"})), false),
            (
                "Gateway",
                json!({"spec": {"gatewayClassName": "s", "backendTLS": {"clientCertificateRef": {"name": "s"}}}}),
                true,
            ),
            ("ServiceAccount", json!({"imagePullSecrets": [{"name": "s"}]}), true),
            ("ServiceAccount", json!({"secrets": [{"name": "s"}]}), true),
            ("ServiceAccount", json!({"secrets": [{"name": "s2"}]}), false),
            ("ReferenceGrant", json!({"spec": {"to": [{"group": "", "kind": "Secret"}]}}), true),
            ("ReferenceGrant", json!({"spec": {"to": [{"group": "", "kind": "Secret", "name": "s"}]}}), true),
            ("ReferenceGrant", json!({"spec": {"to": [{"kind": "Service"}, {"kind": "Secret", "name": "t"}]}}), false),
            ("Rollout", json!({"spec": {"workloadRef": {"kind": "Deployment", "name": "s"}}}), false),
            ("Pod", json!({"status": {"phase": "Succeeded"}, "spec": {"imagePullSecrets": [{"name": "s"}]}}), false),
            (
                "Job",
                json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}, "spec": {"secret": "s"}}),
                false,
            ),
            (
                "Job",
                json!({"status": {"conditions": [{"type": "Failed", "status": "False"}]}, "spec": {"secret": "s"}}),
                true,
            ),
            ("ReplicaSet", json!({"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "s"}]}}}}), true),
            ("Pod", json!({"status": {"conditions": [{"secretName": "s"}]}}), false),
        ] {
            assert_eq!(names(kind, &object), refers, "{kind} {object}");
        }
        let elsewhere = json!({"metadata": {"name": "g", "namespace": "m"}, "spec": {"certificateRefs": [{"name": "s", "namespace": "n"}, {"name": "t"}]}});
        let of =
            |name: &str| referrer("Gateway", elsewhere.to_string().as_bytes(), SoughtSecret { namespace: "n", name });
        assert_eq!((of("s").as_deref(), of("t")), (Some("g"), None), "across namespaces only what says so");
        let volume = |source: Value| {
            let volume = json!({"metadata": {"name": "v"}, "spec": source}).to_string();
            referrer("PersistentVolume", volume.as_bytes(), SoughtSecret { namespace: "n", name: "s" }).is_some()
        };
        assert!(volume(json!({"azureFile": {"secretName": "s", "secretNamespace": "n"}})));
        assert!(volume(json!({"csi": {"driver": "s", "nodeStageSecretRef": {"name": "s", "namespace": "n"}}})));
        assert!(!volume(json!({"csi": {"driver": "s", "nodeStageSecretRef": {"name": "s", "namespace": "m"}}})));
    }

    #[test]
    fn what_cannot_be_read_may_refer_to_it() {
        let of = |text: &str| referrer("Pod", text.as_bytes(), SoughtSecret { namespace: "n", name: "s" });
        assert_eq!(of("{\"metadata\": {\"name\": 7}}").as_deref(), Some("without a name"));
        assert_eq!(
            of("{\"metadata\": {\"name\": \"p\"}, \"spec\": {\"secretRef\": {\"name\": 7}}}").as_deref(),
            Some("p")
        );
    }
}
