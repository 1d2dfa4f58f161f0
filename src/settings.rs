//! The settings of the operator, as all layers read them.

use std::time::Duration;

/// Settings that reconciles need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often sources are checked where a binding does not say; zero = never by the clock.
    pub refresh_interval: Duration,
    /// How many requests to the API server are under way at once.
    pub concurrency: usize,
    /// How many workloads are restarted at a time.
    pub max_rollouts: usize,
    /// The namespaces that are watched; none = all.
    pub watch_namespaces: Vec<String>,
    /// The region of the operator's own configuration.
    pub region: Option<String>,
    /// The labels and annotations that bindings may set besides the default: keys, or prefixes that end in `*`.
    pub allowed_metadata: Vec<String>,
    /// What this installation may do besides publishing.
    pub features: Features,
    /// Whether admission policies are to stand around the operator's ServiceAccount.
    pub fence: bool,
    /// The name of this process among its replicas.
    pub identity: String,
}

impl Settings {
    /// The interval by which `Stale` is judged where a binding is never checked by the clock.
    #[must_use]
    pub fn stale_interval(&self) -> Duration {
        if self.refresh_interval.is_zero() { Duration::from_secs(300) } else { self.refresh_interval }
    }
}

/// What needs rights in Kubernetes that not every cluster wants to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Jobs from the templates of CronJobs.
    Jobs,
    /// Tokens of the ServiceAccounts that grants name.
    ServiceAccountTokens,
    /// Restarts of workloads.
    Restarts,
}

impl Feature {
    /// The flag that turns it on.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Jobs => "--enable-jobs",
            Self::ServiceAccountTokens => "--enable-service-account-tokens",
            Self::Restarts => "--enable-restarts",
        }
    }

    /// The value of the chart that turns it on.
    #[must_use]
    pub const fn chart_value(self) -> &'static str {
        match self {
            Self::Jobs => "rbac.jobs",
            Self::ServiceAccountTokens => "rbac.serviceAccountTokens",
            Self::Restarts => "rbac.restarts",
        }
    }

    /// The component below `deploy/components` that turns it on.
    #[must_use]
    pub const fn component(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::ServiceAccountTokens => "service-account-tokens",
            Self::Restarts => "restarts",
        }
    }

    const fn off(self) -> &'static str {
        match self {
            Self::Jobs => "Bindery runs no Jobs in this cluster",
            Self::ServiceAccountTokens => "Bindery takes no tokens of ServiceAccounts in this cluster",
            Self::Restarts => "Bindery restarts no workloads in this cluster",
        }
    }
}

/// The features that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Jobs.
    pub jobs: bool,
    /// Tokens of ServiceAccounts.
    pub service_account_tokens: bool,
    /// Restarts.
    pub restarts: bool,
}

impl Features {
    /// Whether a feature is on.
    ///
    /// # Errors
    /// Where it is off.
    pub const fn require(self, feature: Feature) -> Result<(), FeatureOff> {
        let on = match feature {
            Feature::Jobs => self.jobs,
            Feature::ServiceAccountTokens => self.service_account_tokens,
            Feature::Restarts => self.restarts,
        };
        if on { Ok(()) } else { Err(FeatureOff(feature)) }
    }
}

/// A feature is off, so nothing was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}; ask whoever manages Bindery to set the flag {} and give its ServiceAccount the rights: both come with the chart value {}=true or the kustomize component {}",
    .0.off(), .0.flag(), .0.chart_value(), .0.component()
)]
pub struct FeatureOff(pub Feature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_says_which_flag_and_which_value_turn_it_on() {
        let on = Features { jobs: true, ..Features::default() };
        assert_eq!(on.require(Feature::Jobs), Ok(()));
        let off = on.require(Feature::ServiceAccountTokens).unwrap_err().to_string();
        for part in
            ["--enable-service-account-tokens", "rbac.serviceAccountTokens=true", "component service-account-tokens"]
        {
            assert!(off.contains(part), "{off}");
        }
    }
}
