//! The way to AWS: region, endpoint and proxy. What is wrong with them is told before the wrong thing is blamed.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use aws_config::SdkConfig;

use crate::aws::own_credentials::link::Variables;
use crate::aws::own_credentials::signs::{region_fault, url_fault};
use crate::domain::secret::identity::Identity;

/// The variables by which the endpoint of Secrets Manager is replaced, the stronger first.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"];
const STS_ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];

/// The way to AWS of all identities.
pub(super) struct Route {
    region: Option<String>,
    variables: Variables,
    /// The regions that have answered since the operator started.
    reached: Mutex<BTreeSet<String>>,
}

impl Route {
    pub(super) fn new(config: &SdkConfig) -> Self {
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        Self { region, variables: Variables::new(|name| std::env::var(name).ok()), reached: Mutex::default() }
    }

    fn region<'a>(&'a self, identity: &'a Identity) -> Option<&'a str> {
        identity.region.as_deref().filter(|region| !region.is_empty()).or(self.region.as_deref())
    }

    /// What is so wrong that no call of the identity can succeed.
    pub(super) fn fault(&self, identity: &Identity) -> Option<String> {
        let Some(region) = self.region(identity) else {
            return Some("there is no region; set --aws-region, the variable AWS_REGION (and restart the operator), or region in the SecretGrant".to_owned());
        };
        if let Some(what) = region_fault(region) {
            return Some(format!(
                "the region of --aws-region, the variable AWS_REGION or the profile {what}; correct it and restart the operator, or set region in the SecretGrant"
            ));
        }
        ENDPOINTS.into_iter().chain([STS_ENDPOINT]).find_map(|name| {
            let what = url_fault(&self.variables.get(name)?)?;
            Some(format!("the variable {name} {what}; correct it and restart the operator"))
        })
    }

    /// Notes that AWS answered.
    pub(super) fn reached(&self, identity: &Identity) {
        let region = self.region(identity).unwrap_or_default();
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if !reached.contains(region) {
            reached.insert(region.to_owned());
        }
    }

    /// What to check where AWS has never answered in this region: that may never pass.
    pub(super) fn unreached(&self, identity: &Identity) -> Option<String> {
        let region = self.region(identity).unwrap_or_default();
        if self.reached.lock().unwrap_or_else(PoisonError::into_inner).contains(region) {
            return None;
        }
        let endpoint = ENDPOINTS
            .into_iter()
            .find_map(|name| Some(format!("{} (the variable {name})", self.variables.get(name)?)))
            .unwrap_or_else(|| "Secrets Manager".to_owned());
        let proxy = PROXIES.into_iter().find(|name| self.variables.get(name).is_some());
        let proxy = proxy.map(|name| format!(", the proxy of the variable {name}")).unwrap_or_default();
        Some(format!(
            "{endpoint} has not answered in the region {region} since the operator started; check the region, DNS, the network policy{proxy} and the VPC endpoint, and restart the operator where a variable was wrong"
        ))
    }
}
