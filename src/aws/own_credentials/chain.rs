//! The links of the chain as the SDK has them.

use aws_config::SdkConfig;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::aws::own_credentials::link::Link;

/// The providers of the links, in their order.
pub type Providers = Vec<(Link, SharedCredentialsProvider)>;

/// Providers that have read nothing yet. Some of the SDK's read their file once and keep what was in it, or that it was
/// not there.
pub async fn providers(config: &SdkConfig) -> Providers {
    let mut conf = ProviderConfig::without_region()
        .with_behavior_version(Some(aws_config::BehaviorVersion::v2026_01_12()))
        .with_use_fips(config.use_fips())
        .with_use_dual_stack(config.use_dual_stack())
        .with_region(config.region().cloned());
    if let Some(client) = config.http_client() {
        conf = conf.with_http_client(client);
    }
    if let Some(sleep) = config.sleep_impl() {
        conf = conf.with_sleep_impl(sleep);
    }
    // Only a configuration that has read the profile knows the endpoints that stand in it.
    ProfileFileRegionProvider::builder().configure(&conf).build().region().await;
    vec![
        (Link::Variables, SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())),
        (
            Link::Profile,
            SharedCredentialsProvider::new(ProfileFileCredentialsProvider::builder().configure(&conf).build()),
        ),
        (
            Link::WebIdentity,
            SharedCredentialsProvider::new(WebIdentityTokenCredentialsProvider::builder().configure(&conf).build()),
        ),
        (Link::Container, SharedCredentialsProvider::new(EcsCredentialsProvider::builder().configure(&conf).build())),
        (Link::Instance, SharedCredentialsProvider::new(ImdsCredentialsProvider::builder().configure(&conf).build())),
    ]
}
