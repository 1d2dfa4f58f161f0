//! What a reconcile found out about rotation rules.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use crate::api::KeyAge;
use crate::domain::rotation::due::{Activity, AwsRotation};
use crate::domain::secret::reference::SecretId;

/// What a pass found out about rotation. What it did not come to is `None`, and stays as it was.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The ages of the keys.
    pub ages: Option<BTreeMap<String, KeyAge>>,
    /// The keys that were seen to have changed.
    pub changed: BTreeSet<String>,
    /// AWS's own rotation of the sources.
    pub aws: Option<BTreeMap<SecretId, AwsRotation>>,
    /// How far actions are, by rule; the rules without one are not in it.
    pub acted: Option<BTreeMap<String, Acted>>,
    /// What is under way, by rule.
    pub activities: Option<BTreeMap<String, Activity>>,
}

/// How far the action of a rule is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// The due time for which it is under way; `None` where it has ended.
    pub due: Option<Timestamp>,
    /// What is told of it.
    pub activity: Activity,
}
