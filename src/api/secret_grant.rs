//! `SecretGrant`: secrets, the namespaces that may read them, and the identity that reads them.
#![allow(clippy::duplicated_attributes, reason = "each printer column has a type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a grant allows.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "bindery.dev",
    version = "v1alpha1",
    kind = "SecretGrant",
    plural = "secretgrants",
    shortname = "sg",
    category = "bindery",
    status = "SecretGrantStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A SecretGrant allows namespaces to read secrets of AWS Secrets Manager through SecretBindings. Without a grant a namespace reads nothing.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(
        name = "Bindings",
        type_ = "integer",
        json_path = ".status.bindings",
        description = "How many bindings read through this grant"
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces.names", priority = 1),
    printcolumn(name = "Secrets", type_ = "string", json_path = ".spec.secrets[*].name", priority = 1),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.aws.roleArn", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.expiresAt) || has(self.reason)").message("a grant that expires says why it is given: add spec.reason"))]
#[x_kube(validation = Rule::new("!has(self.onExpiry) || has(self.expiresAt)").message("onExpiry needs expiresAt"))]
pub struct SecretGrantSpec {
    /// The namespaces whose bindings may read through this grant.
    pub namespaces: GrantedNamespaces,

    /// The secrets that they may read.
    #[schemars(length(min = 1, max = 100))]
    pub secrets: Vec<GrantedSecret>,

    /// Where, and as whom, the secrets are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsAccess>,

    /// What the bindings may have done to the secrets when a key is due for rotation. The default is nothing: a grant
    /// to read is none to write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub rotation: Vec<GrantedRotation>,

    /// Labels and annotations that bindings through this grant may put on their Secrets, besides `app.kubernetes.io/*` and
    /// those that the operator's `--allow-target-metadata` allows: whole keys, or prefixes that end in `*`. Tools give
    /// Secrets a power by them, or copy them elsewhere, so allow what you know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 50),
        inner(length(min = 1, max = 317), regex(pattern = r"^([a-z0-9.-]+/)?[A-Za-z0-9._-]*\*?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(key, !key.matches('^([^/]*[.])?bindery[.]dev/') && (!key.matches('^[^/]*(kubernetes|k8s)[.]io/') || key.startsWith('app.kubernetes.io/')))").message("labels and annotations of Kubernetes and Bindery cannot be allowed"))]
    pub target_metadata: Vec<String>,

    /// When the grant ends by itself, such as `2026-12-01T18:00:00Z`. A grant with an end serves only bindings that
    /// name it in `spec.grant`. Needs `reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"))]
    #[x_kube(validation = Rule::new("self < timestamp('9000-01-01T00:00:00Z')").message("a time after the year 9000 cannot be kept"))]
    pub expires_at: Option<Time>,

    /// Why the grant is given, such as the number of an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,

    /// What becomes, at the end, of the Secrets that were published through this grant. The default is `Keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_expiry: Option<OnExpiry>,
}

/// An action that may be taken on secrets when keys of them are due for rotation.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.action != 'Generate' || self.keys.all(key, !key.contains('*') && !key.contains('?'))").message("Generate writes to keys: name each of them, without wildcards"))]
#[x_kube(validation = Rule::new("self.action != 'RotateSecret' || (self.keys.size() == 1 && self.keys[0] == '*')").message("RotateSecret replaces the whole secret: give keys: [\"*\"]"))]
pub struct GrantedRotation {
    /// The action.
    pub action: RotationAction,

    /// Globs over the names of the secrets, as in `spec.secrets`; the grant must allow them to be read as well.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 512)))]
    pub secrets: Vec<String>,

    /// The JSON keys that it may change.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 512)))]
    pub keys: Vec<String>,
}

/// What is done when a key is due for rotation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationAction {
    /// A Job that writes the secret is run.
    RunJob,
    /// Secrets Manager is asked to rotate the secret.
    RotateSecret,
    /// A new random value is written.
    Generate,
}

/// What becomes of published Secrets when their grant expires.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExpiry {
    /// They stay, and are not refreshed any more.
    #[default]
    Keep,
    /// They are deleted.
    Delete,
}

/// The namespaces that a grant is for: by name or by label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) != has(self.selector)").message("give exactly one of names and selector"))]
pub struct GrantedNamespaces {
    /// Names of namespaces, in full. Wildcards are refused; a selector is for many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))").message("not names of namespaces (a-z, 0-9, -): write each in full, or choose namespaces by their labels with selector"))]
    pub names: Option<Vec<String>>,

    /// Labels of namespaces. An empty selector, which would mean every namespace, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub selector: Option<LabelSelector>,
}

/// The schema of a label selector with bounds, and without the empty one.
fn selector_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that a namespace must have, with their values.",
                "type": "object",
                "maxProperties": 20,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "description": "Conditions on labels, all of which must hold.",
                "type": "array",
                "maxItems": 20,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "The label.", "type": "string", "maxLength": 317},
                        "operator": {
                            "description": "How the label is judged.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values for In and NotIn.",
                            "type": "array",
                            "maxItems": 100,
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                },
            },
        },
        "x-kubernetes-validations": [{
            "rule": "(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "message": "an empty selector would mean every namespace: name the labels",
        }],
    })
}

/// Secrets that may be read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GrantedSecret {
    /// A glob over the names of secrets, as in an IAM policy: it matches the whole name, `*` stands for any
    /// characters, `/` among them, and `?` for one. `{namespace}` stands for the namespace of the binding.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9/_+=.@!*?-]|\\\\{namespace\\\\})+$')").message("not a glob over names of secrets: letters, digits, /_+=.@!-, the wildcards * and ?, and {namespace}"))]
    #[x_kube(validation = Rule::new("!self.matches('\\\\{namespace\\\\}[^/]')").message("{namespace} must be followed by / or stand at the end, or team-a could read what is team-ab's"))]
    #[x_kube(validation = Rule::new("!self.endsWith('-??????')").message("a glob is matched against the name of the secret, which has no random suffix: leave out the trailing -??????"))]
    pub name: String,

    /// Globs over the JSON keys that may be read. The default is all of them. With others than `*`, a whole payload
    /// cannot be published, only keys of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), inner(length(min = 1, max = 512)))]
    pub keys: Option<Vec<String>>,
}

/// Where, and as whom, the secrets of a grant are read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.serviceAccountName) || has(self.accountId)").message("serviceAccountName needs accountId: what AWS answers must be of the account that is meant"))]
#[x_kube(validation = Rule::new("!has(self.externalId) || (has(self.roleArn) && !has(self.serviceAccountName))").message("externalId needs roleArn, and cannot be used with serviceAccountName: AssumeRoleWithWebIdentity takes none"))]
#[x_kube(validation = Rule::new("!has(self.sessionTags) || !self.sessionTags || (has(self.roleArn) && !has(self.serviceAccountName))").message("sessionTags need roleArn, and cannot be used with serviceAccountName: AssumeRoleWithWebIdentity takes none"))]
pub struct AwsAccess {
    /// The AWS region. The default is the operator's own region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z]{2}[a-z-]*-[0-9]+$"))]
    pub region: Option<String>,

    /// The AWS account that the secrets are in. What AWS answers must match it. Needed with `serviceAccountName`, and
    /// for ARNs of another account than the role's or the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 12, max = 12), regex(pattern = r"^[0-9]{12}$"))]
    pub account_id: Option<String>,

    /// A role to assume. The default is to read as the operator itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 2048),
        regex(pattern = r"^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$")
    )]
    pub role_arn: Option<String>,

    /// The external id that the trust policy of the role asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9+=,.@:/_-]+$"))]
    pub external_id: Option<String>,

    /// A ServiceAccount in the namespace of the binding: the operator asks Kubernetes for a short-lived token of it and
    /// AWS for the role in its annotation `eks.amazonaws.com/role-arn`, or for `roleArn`. So AWS decides by the identity
    /// of the namespace, not by that of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,

    /// True puts the session tags `bindery-namespace` and `bindery-grant` on the assumed role, for conditions in IAM and
    /// for CloudTrail. The role's trust policy must allow `sts:TagSession`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tags: Option<bool>,
}

/// What Bindery knows of a grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretGrantStatus {
    /// How many bindings read through this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<i32>,

    /// `Ready` tells whether the grant can serve bindings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
