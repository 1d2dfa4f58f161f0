//! The way to AWS: region, endpoint and proxy. What is wrong with them is told before the wrong thing is blamed.

use std::error::Error as StdError;

use aws_config::SdkConfig;
use hyper_util::client::legacy::Error as HttpError;

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
}

impl Route {
    pub(super) fn new(config: &SdkConfig) -> Self {
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        Self { region, variables: Variables::new(|name| std::env::var(name).ok()) }
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
            // The AWS SDK takes an empty one for an endpoint and panics at each call.
            let what = if self.variables.is_empty(name) {
                "is empty".to_owned()
            } else {
                url_fault(&self.variables.get(name)?)?
            };
            Some(format!("the variable {name} {what}; correct or unset it, and restart the operator"))
        })
    }

    /// What to check where no connection could be opened: that may be an outage, or may never pass.
    pub(super) fn unreachable(&self, identity: &Identity, error: &(dyn StdError + 'static)) -> Option<String> {
        if !never_opened(error) {
            return None;
        }
        let region = self.region(identity).unwrap_or_default();
        let endpoint = ENDPOINTS
            .into_iter()
            .find_map(|name| Some(format!("{} (the variable {name})", self.variables.get(name)?)))
            .unwrap_or_else(|| "Secrets Manager".to_owned());
        let proxy = PROXIES.into_iter().find(|name| self.variables.get(name).is_some());
        let proxy = proxy.map(|name| format!(", the proxy of the variable {name}")).unwrap_or_default();
        Some(format!(
            "{endpoint} cannot be reached in the region {region}; if that lasts, check the region, DNS, the network policy{proxy} and the VPC endpoint, and restart the operator where a variable was wrong"
        ))
    }
}

/// Whether no connection opened: for want of a name, a listener, a certificate, or in time.
fn never_opened(error: &(dyn StdError + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if error.downcast_ref::<HttpError>().is_some_and(HttpError::is_connect) {
            return true;
        }
        current = error.source();
    }
    false
}
