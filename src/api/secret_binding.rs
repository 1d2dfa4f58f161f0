//! `SecretBinding`: which keys of which AWS secrets a namespace wants as one Kubernetes Secret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::published_target::{FormerTarget, PublishedTarget};
use crate::api::restart::{RestartSpec, RolloutStatus};
use crate::api::rotation::{RotationRule, RotationStatus};

/// What a binding wants to be published.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "bindery.dev",
    version = "v1alpha1",
    kind = "SecretBinding",
    plural = "secretbindings",
    namespaced,
    shortname = "sb",
    category = "bindery",
    status = "SecretBindingStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A SecretBinding publishes keys of AWS Secrets Manager secrets as one Kubernetes Secret in its own namespace and keeps that Secret true to them. A SecretGrant must allow the namespace to read the secrets.",
    validation = Rule::new("self.metadata.name.size() <= 253").message("the name of a SecretBinding has at most 253 characters"),
    validation = Rule::new("(has(self.spec.target) && has(self.spec.target.name)) || !(self.metadata.name.startsWith('sh.helm.release.') || self.metadata.name.startsWith('tfstate-'))").message("Helm or Terraform takes a Secret of this name for its own state and acts on what stands in it: set spec.target.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.binding.name", description = "The Kubernetes Secret that holds the keys"),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keys"),
    printcolumn(name = "Rotation", type_ = "string", json_path = ".status.rotationState", description = "The worst state of the rotation rules, or the phase of an overlap"),
    printcolumn(name = "Changed", type_ = "date", json_path = ".status.lastChangedTime", description = "When the Secret was last written"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Grant", type_ = "string", json_path = ".status.grant", priority = 1),
    printcolumn(name = "Next-Rotation", type_ = "string", json_path = ".status.nextRotationTime", priority = 1, description = "When the next rotation rule is due")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.dataFrom) && self.dataFrom.size() > 0) || (has(self.data) && self.data.size() > 0)").message("nothing to publish: give at least one entry under dataFrom or data"))]
#[x_kube(validation = Rule::new("!has(self.rotation) || !self.rotation.exists(r, has(r.overlap) && r.overlap.strategy == 'Staged') || (has(self.restart) && has(self.restart.policy) && self.restart.policy != 'Never')").message("overlap with strategy: Staged needs pods that are restarted: set restart.policy to Consumers or Listed"))]
#[x_kube(validation = Rule::new("!has(self.rotation) || !self.rotation.exists(r, has(r.overlap)) || !(has(self.target) && has(self.target.templateOnly) && self.target.templateOnly)").message("overlap publishes keys of its own, which target.templateOnly does not allow"))]
pub struct SecretBindingSpec {
    /// The SecretGrant to read through. Needed only where several grants allow the namespace to read
    /// the secrets; every secret of one binding is read through one grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub grant: Option<String>,

    /// True leaves everything as it is: no call to AWS and no write, until it is false or absent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// How often the secrets are checked for a new version, such as `5m` or `1d12h`. At least `10s`;
    /// `0s` means never by the clock. The default is the operator's `--refresh-interval` (`5m`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    #[x_kube(validation = Rule::new("self == '0s' || self.matches('[1-9][0-9]*[dhm]') || self.matches('[1-9][0-9]+s')").message("refreshInterval must be 0s (never by the clock) or at least 10s"))]
    pub refresh_interval: Option<String>,

    /// Whole JSON objects, in order: each publishes its keys, and a later entry wins over an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub data_from: Vec<DataFromEntry>,

    /// Single keys. They win over `dataFrom`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub data: Vec<DataEntry>,

    /// The Kubernetes Secret to publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// When keys are due for rotation, what is done then, and whom to ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rotation: Vec<RotationRule>,

    /// Which workloads are restarted when values change that they use. The default is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartSpec>,
}

/// A whole JSON object whose keys become keys of the target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.versionStage) && has(self.versionId))").message("give versionStage or versionId, not both"))]
pub struct DataFromEntry {
    /// The secret in Secrets Manager, by name or ARN.
    #[schemars(length(min = 1, max = 640))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9/_+=.@!-]{1,512}|arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519})$')").message("not a Secrets Manager name (letters, digits and /_+=.@!-) nor an ARN like arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"))]
    pub secret: String,

    /// The version stage to read. The default is `AWSCURRENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub version_stage: Option<String>,

    /// The id of one fixed version to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 32, max = 64))]
    pub version_id: Option<String>,

    /// Globs over the JSON keys to take; `*` stands for any characters and `?` for one. The default is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 512)))]
    pub include: Vec<String>,

    /// Globs over the JSON keys to leave out; they win over `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 512)))]
    pub exclude: Vec<String>,

    /// Text put before each key that `include` and `exclude` chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[-._a-zA-Z0-9]*$"))]
    pub prefix: Option<String>,

    /// The form of the keys, prefix included. The default is `AsIs`. `EnvVar` writes them as environment variables are
    /// named by custom: in upper case, with `_` for each character other than `A-Z` and `0-9`, so that `foo-bar`
    /// becomes `FOO_BAR`. Two keys of the entry that become one are an error. A leading digit stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_format: Option<KeyFormatSpec>,
}

/// The form of the keys that a whole JSON object gives.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormatSpec {
    /// As they are in the JSON object.
    AsIs,
    /// In upper case, with `_` for each character other than `A-Z` and `0-9`.
    EnvVar,
}

/// One key of the target and where its value comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.valueFrom) != has(self.from)").message("give exactly one of valueFrom and from"))]
pub struct DataEntry {
    /// The key in the target Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,

    /// The source in the form that ECS task definitions use: `secret[:json-key[:version-stage[:version-id]]]`,
    /// where `secret` is a name or an ARN. Without a JSON key the whole payload is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1280))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9/_+=.@!-]{1,512}|arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519})(:[^:]*){0,3}$')").message("not a reference of the form secret:json-key:version-stage:version-id, where secret is a Secrets Manager name or ARN and the parts after it may be empty"))]
    pub value_from: Option<String>,

    /// The same, spelled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<KeyReference>,

    /// How the value is encoded at the source: it is decoded before it is published. The default is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingSpec>,

    /// True: a key absent at the source is absent in the target. The default is that it is an error, which
    /// leaves the target as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A secret, optionally one JSON key of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.versionStage) && has(self.versionId))").message("give versionStage or versionId, not both"))]
pub struct KeyReference {
    /// The secret in Secrets Manager, by name or ARN.
    #[schemars(length(min = 1, max = 640))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9/_+=.@!-]{1,512}|arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519})$')").message("not a Secrets Manager name (letters, digits and /_+=.@!-) nor an ARN like arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"))]
    pub secret: String,

    /// The JSON key: looked up literally, and if it is absent and starts with `/`, as a JSON Pointer
    /// (RFC 6901), which goes on into a string that is itself JSON. Without it the whole payload is published byte for
    /// byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key: Option<String>,

    /// The version stage to read. The default is `AWSCURRENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub version_stage: Option<String>,

    /// The id of one fixed version to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 32, max = 64))]
    pub version_id: Option<String>,
}

/// How a value is encoded at the source.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingSpec {
    /// Publish the value as it is.
    None,
    /// Decode the value from Base64 (RFC 4648).
    Base64,
}

/// The Kubernetes Secret to publish.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.adopt) && self.adopt) || (has(self.deletionPolicy) && self.deletionPolicy == 'Retain')").message("adopt needs deletionPolicy: Retain"))]
#[x_kube(validation = Rule::new("!(has(self.templateOnly) && self.templateOnly) || has(self.template)").message("templateOnly needs a template"))]
#[x_kube(validation = Rule::new("!has(self.template) || self.template.map(key, self.template[key].size()).sum() <= 65536").message("the templates have more than 65536 characters together: shorten them, or share them out among several bindings"))]
#[x_kube(validation = Rule::new("!has(self.labels) || !(('owner' in self.labels && self.labels['owner'] == 'helm') || 'tfstate' in self.labels)").message("the labels owner: helm and tfstate make Helm or Terraform take the Secret for its own state and act on what stands in it: remove them"))]
pub struct Target {
    /// The name of the Secret. The default is the name of the binding. Names by which a tool finds its own state, as
    /// Helm and Terraform do, are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    #[x_kube(validation = Rule::new("!self.startsWith('sh.helm.release.') && !self.startsWith('tfstate-')").message("Helm or Terraform takes a Secret of this name for its own state and acts on what stands in it: choose another name"))]
    pub name: Option<String>,

    /// The type of the Secret, which Kubernetes does not let anybody change later. The default is `Opaque`.
    /// Types that hand out credentials of the cluster itself are refused.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!(self in ['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token']) && !self.startsWith('helm.sh/release')").message("Secrets of this type are credentials or state of the cluster itself and cannot be published from AWS"))]
    pub type_: Option<String>,

    /// Labels to put on the Secret: `app.kubernetes.io/*` but for `instance` and `managed-by`, and what the operator's
    /// `--allow-target-metadata` or the SecretGrant's `spec.targetMetadata` allows. Those of Kubernetes and Bindery are
    /// never allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50), schema_with = "labels_schema")]
    pub labels: BTreeMap<String, String>,

    /// Annotations to put on the Secret, with the same rules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations_schema")]
    pub annotations: BTreeMap<String, String>,

    /// Keys made from the others: each value is a template in which the mapped keys are variables, as in
    /// `{{ DATABASE_URL }}?sslmode=require`. They are published beside the mapped keys and win over one of
    /// the same name. All of them have at most 64 KiB together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "templates_schema")]
    pub template: Option<BTreeMap<String, String>>,

    /// True publishes only the keys of `template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_only: Option<bool>,

    /// Keys that must be present and not empty; otherwise nothing is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_keys: Vec<String>,

    /// Keys that are meant to be published though they change how programs run that take them as environment variables,
    /// such as `PATH` or `LD_PRELOAD`. Without this, such a key that comes by a pattern is told as `RiskyKey`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow_keys: Vec<String>,

    /// True holds every value to text: one that has a NUL byte or is not UTF-8 is an error, which leaves the Secret as
    /// it was, since a container cannot take it as environment. The default publishes it, and `Rendered` names the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_only: Option<bool>,

    /// True takes over an existing Secret that carries the annotation `bindery.dev/adopt-by: <binding>`.
    /// Its other keys stay. Needs `deletionPolicy: Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<bool>,

    /// What becomes of the Secret when the binding is deleted. The default is `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

fn text_map(max_properties: u32, max_length: u32) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": max_properties,
        "additionalProperties": {"type": "string", "maxLength": max_length},
    })
}

fn labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    text_map(50, 63)
}

fn annotations_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    text_map(50, 8192)
}

fn templates_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    text_map(100, 16384)
}

/// What becomes of the Secret when its binding is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The binding owns the Secret: Kubernetes deletes it with the binding.
    #[default]
    Delete,
    /// The Secret stays.
    Retain,
}

/// What Bindery last saw and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretBindingStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The published Secret, as a Provisioned Service of servicebinding.io names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<TargetReference>,

    /// The published Secret as Bindery last wrote it: proof that nobody changed a value since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PublishedTarget>,

    /// The Secrets of earlier names that are still there, the latest last. One that falls out of the list is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub former_targets: Vec<FormerTarget>,

    /// The grant that the secrets are read through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,

    /// The number of keys published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<i32>,

    /// The published keys whose values have a NUL byte or are not UTF-8, so that no container can take them as
    /// environment. The first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub binary_keys: Vec<String>,

    /// The secrets and the versions of them that are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceStatus>,

    /// When the Secret was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_changed_time: Option<Time>,

    /// The last text of the annotation `bindery.dev/sync` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_sync: Option<String>,

    /// Where the rotation rules stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rotation: Vec<RotationStatus>,

    /// The worst state of the rotation rules, or the phase of an overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_state: Option<String>,

    /// When the next rotation rule is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,

    /// How far the workloads are that use what was published. Absent without `spec.restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// The last text of the annotation `bindery.dev/rotation` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotation: Option<String>,

    /// What holds and what does not. `Ready` is the summary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What a later release recorded, kept as it is.
    #[serde(flatten)]
    #[schemars(skip)]
    pub later: BTreeMap<String, Value>,
}

/// The name of a Secret in the binding's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct TargetReference {
    /// The name of the Secret.
    pub name: String,
}

/// One published version of one secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The secret as the binding names it, followed by `@` and the version stage or id where it is not `AWSCURRENT`.
    pub secret: String,
    /// The ARN that Secrets Manager answered.
    pub arn: String,
    /// The version that is published.
    pub version_id: String,
    /// When that version was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Time>,
}
