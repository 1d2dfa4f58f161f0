//! Rotation as users write it, and as the status shows it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When keys are due for rotation, what is done then, and whom to ask.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.every) && has(self.schedule))").message("give every or schedule, not both"))]
#[x_kube(validation = Rule::new("!has(self.timeZone) || has(self.schedule) ").message("timeZone belongs to schedule"))]
#[x_kube(validation = Rule::new("!has(self.action) || self.action == 'Notify' || has(self.every) || has(self.schedule)").message("an action needs a clock: give every or schedule"))]
#[x_kube(validation = Rule::new("(has(self.action) && self.action == 'RunJob') == has(self.runJob)").message("action: RunJob and runJob belong together"))]
#[x_kube(validation = Rule::new("!has(self.generate) || (has(self.action) && self.action == 'Generate')").message("generate belongs to action: Generate"))]
#[x_kube(validation = Rule::new("!has(self.overlap) || self.keys.size() == 1").message("overlap is for one key: give the rule exactly one"))]
pub struct RotationRule {
    /// The name of the rule, by which annotations and messages speak of it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The keys of the target Secret that the rule is for. The age of the rule is that of the key that was changed
    /// longest ago; changes of other keys leave it alone.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub keys: Vec<String>,

    /// The rule is due this long after its keys were changed, such as `7d` or `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    pub every: Option<String>,

    /// The rule is due at the first of these times after its keys were changed, as a cron expression of five fields:
    /// `0 9 * * MON` is every Monday at nine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,

    /// The time zone of `schedule`, such as `Europe/Berlin`. The default is `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,

    /// How long before it is due the rule is `DueSoon`. The default is that it never is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    pub warn_before: Option<String>,

    /// When the keys expire at their provider. The rule is due then, however young the keys are; set it anew with
    /// each rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"))]
    #[x_kube(validation = Rule::new("self < timestamp('9000-01-01T00:00:00Z')").message("a time after the year 9000 cannot be kept"))]
    pub not_after: Option<Time>,

    /// Whom to ask. Named in the Events and in the status, so that they are at hand in an emergency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,

    /// What is done when the rule is due. The default is `Notify`. All others need the grant's `rotation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<RuleAction>,

    /// The Job of `action: RunJob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_job: Option<CronJobReference>,

    /// The value that `action: Generate` makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSpec>,

    /// Publishes the old and the new value of the key side by side for a while (double-write), however the key was
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapSpec>,
}

/// What is done when a rule is due.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleAction {
    /// The condition `RotationCurrent`, an Event that names the contact, and metrics tell of it.
    #[default]
    Notify,
    /// A Job is run that writes the secret.
    RunJob,
    /// Secrets Manager is asked to rotate the secret as it is set up to.
    RotateSecret,
    /// A new random value is written to the secret.
    Generate,
}

/// Whom to ask about keys.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Their name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Their address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 253))]
    pub email: Option<String>,
    /// A page that says what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub url: Option<String>,
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for further in [&self.email, &self.url].into_iter().flatten() {
            write!(f, ", {further}")?;
        }
        Ok(())
    }
}

/// A CronJob of the binding's namespace, from whose template Jobs are made. It must carry the annotation
/// `bindery.dev/run: allowed`; it may be suspended.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CronJobReference {
    /// The name of the CronJob.
    #[schemars(
        length(min = 1, max = 52),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub cron_job: String,
}

/// A random value.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateSpec {
    /// How many random bytes; with `Alphanumeric`, how many characters. The default is 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 1024))]
    pub bytes: Option<i32>,
    /// How they are written. The default is `Base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<GenerateEncoding>,
}

/// How random bytes are written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenerateEncoding {
    /// Base64 with padding (RFC 4648).
    #[default]
    Base64,
    /// Lower-case hexadecimal digits.
    Hex,
    /// Letters and digits.
    Alphanumeric,
}

/// How the old and the new value of a key are published side by side.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.strategy == 'Staged' || !(has(self.group) || has(self.reencrypt) || has(self.nextKey))").message("group, nextKey and reencrypt belong to strategy: Staged"))]
pub struct OverlapSpec {
    /// How.
    pub strategy: OverlapStrategy,

    /// The bindings of the namespace that name the same group advance together: the key stays the old one until all
    /// their sources carry the same new one, and each phase waits for the pods of all. The default is the rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub group: Option<String>,

    /// The key under which the new value is published before it is used. The default is the key with `_NEXT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub next_key: Option<String>,

    /// The key under which the old value is published as long as it may be needed. The default is the key with
    /// `_PREVIOUS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub previous_key: Option<String>,

    /// How long the old value stays once nothing should need it any more.
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    pub hold: String,

    /// The CronJob that re-encrypts what was encrypted with the old value. Without one, the old value stays until the
    /// annotation `bindery.dev/rotation: retire-<rule>` on the binding says that this was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reencrypt: Option<CronJobReference>,
}

/// How the old and the new value of a key are published side by side.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlapStrategy {
    /// The new value at once under the key, the old one beside it. For a key that only one program uses, or that is
    /// only checked.
    #[default]
    Immediate,
    /// The new value first beside the old one, then in its place, each step after all pods know both. For a key that
    /// several programs encrypt with.
    Staged,
}

/// Where a rule stands.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The name of the rule.
    pub name: String,
    /// Whether it is due. Absent for a rule without a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RotationState>,
    /// Its keys, and when each was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyAge>,
    /// When the key that was changed longest ago was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotated_time: Option<Time>,
    /// When the rule is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// The phase of an overlap: `Introducing`, `Promoted` or `Reencrypting`; absent where none is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The record of the overlap as it stands on the target, in case the target is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// The due time for which an action is under way. Absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_for: Option<Time>,
    /// What failed, where the action did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the annotation `bindery.dev/rotation: emergency-<rule>` was seen, until all keys were changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_since: Option<Time>,
    /// The keys that were not changed since then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emergency_keys: Vec<String>,
    /// Whom to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
}

/// When a key was last changed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyAge {
    /// The key of the target.
    pub key: String,
    /// A digest of its value under the installation's own key, by which a change is known. Empty where the key was
    /// not there to be published.
    pub fingerprint: String,
    /// When the version was created that brought the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotated_time: Option<Time>,
    /// True where the value may be older, since the versions before could not be seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
}

/// Whether a rule is due.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RotationState {
    /// It is not.
    Current,
    /// It will be, within `warnBefore`.
    DueSoon,
    /// A rotation is under way.
    Rotating,
    /// It is, and nobody has rotated.
    Overdue,
}

impl RotationState {
    /// The state as the status shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::DueSoon => "DueSoon",
            Self::Rotating => "Rotating",
            Self::Overdue => "Overdue",
        }
    }
}
