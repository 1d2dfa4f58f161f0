//! The vocabulary of status: condition types and reasons. Both are part of the contract with users.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The type of a status condition.
///
/// `Ready`, `Reconciling` and `Stalled` follow [kstatus], which Flux and Argo CD read; the others say
/// which step of the way from AWS to the Secret holds.
///
/// [kstatus]: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The summary: the target holds what the binding asks for.
    Ready,
    /// A grant allows every source.
    Granted,
    /// Every source was read or verified unchanged.
    Fetched,
    /// Mapping and templates gave a complete result.
    Rendered,
    /// The target Secret holds that result.
    Applied,
    /// No rotation rule is overdue. Absent without rules; never touches `Ready`.
    RotationCurrent,
    /// Every restarted workload runs the current values. Absent without restarts; never touches `Ready`.
    RolledOut,
    /// Present while `spec.suspend` is true.
    Suspended,
    /// Present while a retry is scheduled.
    Reconciling,
    /// Present where nothing but an edit of the binding helps.
    Stalled,
}

impl ConditionType {
    /// The text in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Granted => "Granted",
            Self::Fetched => "Fetched",
            Self::Rendered => "Rendered",
            Self::Applied => "Applied",
            Self::RotationCurrent => "RotationCurrent",
            Self::RolledOut => "RolledOut",
            Self::Suspended => "Suspended",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why a condition has its status; also the reason of the Event on its transition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The text in `status.conditions[].reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// The step was done: a grant allows the sources.
    Allowed,
    /// The step was done: every source is known at its present version.
    Verified,
    /// The step was done: the mapping gave a complete result.
    Complete,
    /// The step was done: the target Secret holds the result.
    Published,
    /// An earlier step failed, so this one was not reached.
    NotEvaluated,
    /// The binding is suspended.
    Suspended,
    /// A retry is scheduled.
    Retrying,

    /// The binding itself is wrong in a way that only an edit cures.
    InvalidSpec,
    /// No grant lets this namespace read the secret.
    AccessDenied,
    /// Several grants match and `spec.grant` names none.
    AmbiguousGrant,
    /// `spec.grant` names a grant that does not exist.
    GrantNotFound,
    /// The grant has ended.
    GrantExpired,
    /// The installation has switched off what this needs.
    FeatureOff,

    /// Secrets Manager has no such secret.
    SecretNotFound,
    /// The secret is scheduled for deletion.
    SecretPendingDeletion,
    /// The secret has no such version or version stage.
    VersionNotFound,
    /// IAM refuses the call.
    AwsAccessDenied,
    /// KMS refuses to decrypt the value, or fails.
    DecryptionFailed,
    /// The operator could not obtain valid credentials.
    CredentialsFailed,
    /// AWS asks to call less often.
    Throttled,
    /// The namespace has used up its budget of AWS calls.
    TenantLimit,
    /// AWS did not answer, or answered with a fault of its own.
    AwsUnavailable,
    /// The reference is malformed, or AWS answered for another secret than the one that is meant.
    InvalidReference,
    /// The read could not be recorded in the audit log, so the value was dropped.
    AuditFailed,

    /// The payload is not what the binding needs it to be.
    InvalidPayload,
    /// The payload lacks a key.
    KeyNotFound,
    /// A key is not a valid key of a Kubernetes Secret.
    InvalidKey,
    /// A value is no text, where the binding wants text; or, as an Event, where a container may take it as environment.
    InvalidValue,
    /// A template failed.
    TemplateFailed,
    /// A required key is absent or empty.
    RequiredKeyMissing,
    /// The result exceeds what a Kubernetes Secret may hold.
    TooLarge,

    /// The target's name is taken by a Secret that is not this binding's.
    TargetConflict,
    /// Kubernetes does not allow the operator to write the target.
    TargetForbidden,
    /// The target cannot be changed: its type differs or it is marked immutable.
    TargetImmutable,
    /// Kubernetes refuses the target as invalid.
    TargetInvalid,
    /// A resource quota of the namespace is used up.
    QuotaExceeded,
    /// An admission policy or webhook refused the target.
    AdmissionDenied,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The write failed for another cause.
    ApplyFailed,
    /// A passing failure has lasted three refresh intervals.
    Stale,
    /// Bindery deleted a Secret that it had published. An Event only.
    SecretDeleted,
    /// Bindery took its own keys from a Secret that others use too. An Event only.
    SecretReleased,
    /// A published key changes how programs run, and the binding does not name it. An Event only.
    RiskyKey,
    /// A Secret was to be deleted, but nothing proves that Bindery published it. An Event only.
    SecretKept,

    /// No rotation rule is due.
    Current,
    /// A rotation rule will be due within its `warnBefore`.
    DueSoon,
    /// A rotation is under way.
    Rotating,
    /// A rotation rule is overdue.
    RotationOverdue,
    /// The action of a rotation rule failed.
    RotationFailed,
    /// The overlap of a key cannot go on.
    OverlapBlocked,
    /// The published Secret may become the only place that holds an old value.
    OnlyCopy,

    /// Every restarted workload runs the current values.
    RolledOut,
    /// Workloads do not run the current values yet.
    RolloutPending,
    /// The restart of a workload failed.
    RolloutFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The condition of this type.
#[must_use]
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Whether the condition of this type is present and true.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_found_by_its_type_and_is_true_only_with_that_status() {
        let of = |type_: ConditionType, status: &str| Condition {
            type_: type_.to_string(),
            status: status.to_owned(),
            ..serde_json::from_value(serde_json::json!({
                "type": "", "status": "", "reason": "", "message": "", "lastTransitionTime": "2027-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        let conditions = [of(ConditionType::Ready, "True"), of(ConditionType::Applied, "False")];
        assert_eq!(find(&conditions, ConditionType::Applied), Some(&conditions[1]));
        assert_eq!(find(&conditions, ConditionType::Fetched), None);
        assert!(is_true(&conditions, ConditionType::Ready));
        assert!(!is_true(&conditions, ConditionType::Applied) && !is_true(&conditions, ConditionType::Fetched));
    }
}
