//! `SecretGrant`: who may read what, as whom.
#![allow(clippy::duplicated_attributes, reason = "each printer column has a type")]

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
    derive = "PartialEq",
    derive = "Default",
    doc = "A SecretGrant allows namespaces to read secrets of AWS Secrets Manager through SecretBindings. Without a grant a namespace reads nothing.",
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces.names"),
    printcolumn(name = "Secrets", type_ = "string", json_path = ".spec.secrets[*].name"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.aws.region"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SecretGrantSpec {
    /// The namespaces whose bindings may read through this grant.
    pub namespaces: GrantedNamespaces,

    /// The secrets that they may read.
    #[schemars(length(min = 1, max = 100))]
    pub secrets: Vec<GrantedSecret>,

    /// Where, and as whom, the secrets are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsAccess>,
}

/// The namespaces that a grant is for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GrantedNamespaces {
    /// Names of namespaces.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
}

/// Secrets that may be read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GrantedSecret {
    /// A glob over the names of secrets, as in an IAM policy: it matches the whole name, `*` stands for any
    /// characters, `/` among them, and `?` for one.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9/_+=.@*?-]+$')").message("not a glob over names of secrets: letters, digits, /_+=.@- and the wildcards * and ?"))]
    #[x_kube(validation = Rule::new("!self.endsWith('-??????')").message("a glob is matched against the name of the secret, which has no random suffix: leave out the trailing -??????"))]
    pub name: String,
}

/// Where the secrets of a grant are read.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AwsAccess {
    /// The AWS region. The default is the operator's own region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z]{2}[a-z-]*-[0-9]+$"))]
    pub region: Option<String>,

    /// The AWS account that the secrets are in. Needed for ARNs of another account than the operator's; what AWS
    /// answers must match it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 12, max = 12), regex(pattern = r"^[0-9]{12}$"))]
    pub account_id: Option<String>,
}
