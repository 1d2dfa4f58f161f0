//! The findings of a reconcile about rotation rules.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use crate::api::KeyAge;
use crate::domain::rotation::due::{Activity, AwsRotation};
use crate::domain::secret::reference::SecretId;

/// The findings of a reconcile about rotation rules. `None` leaves the status as it is.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The ages of the keys.
    pub ages: Option<BTreeMap<String, KeyAge>>,
    /// The keys whose values have changed.
    pub changed: BTreeSet<String>,
    /// AWS's own rotation of the sources.
    pub aws: Option<BTreeMap<SecretId, AwsRotation>>,
    /// The actions under way, by rule.
    pub acted: Option<BTreeMap<String, Acted>>,
    /// The activities under way, by rule.
    pub activities: Option<BTreeMap<String, Activity>>,
}

impl Found {
    /// Whether the reconcile came to all that changes what is said of a rule.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.aws.is_some() && self.activities.is_some() && self.acted.is_some()
    }
}

/// The state of a rule's action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// The due time for which it is under way; `None` once it has ended.
    pub due: Option<Timestamp>,
    /// Its part of the rule's state.
    pub activity: Activity,
}
