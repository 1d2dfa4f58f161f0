//! The clients of the AWS SDK: one HTTP stack for all identities, one client for each.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::IdentityCache;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::{OnceCell, watch};

use crate::aws::attempts::ThrottlingIsPaced;
use crate::aws::classify::from_sdk;
use crate::aws::credentials::{RoleCredentials, ServiceAccountCredentials, link_of_account, link_of_role};
use crate::aws::own_credentials::OwnCredentials;
use crate::aws::own_credentials::fault::{CredentialsFault, FailedLink};
use crate::aws::sdk::route::Route;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::metrics::Metrics;

/// A connection may take this long to open; the SDK's own value.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);
/// One attempt may take this long. Secrets Manager answers in tens of milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Credentials may take this long: less than an attempt, which would end unnamed.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_millis(4500);
/// All attempts of one call together may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The attempts of one call. The controller makes further retries, with longer pauses.
const ATTEMPTS: u32 = 3;

/// A client that is unused for this long is dropped, with its credentials.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The clients of all identities.
pub(super) struct SdkClients {
    config: SdkConfig,
    own: OwnCredentials,
    route: Route,
    clients: Mutex<HashMap<Identity, CachedClient>>,
    kubernetes: kube::Client,
    metrics: Arc<Metrics>,
    /// Whether the operator's own identity was used.
    own_used: watch::Sender<bool>,
}

/// The client of one identity, with its credentials.
struct CachedClient {
    client: Arc<OnceCell<Client>>,
    last_use: Instant,
}

/// One call of the SDK, from its start to its end.
pub(super) struct SdkCall<'a> {
    clients: &'a SdkClients,
    identity: &'a Identity,
    operation: &'static str,
    started: Instant,
    /// The client of the identity.
    pub(super) client: Client,
}

impl SdkClients {
    pub(super) async fn from_environment(
        region: Option<String>,
        kubernetes: kube::Client,
        metrics: Arc<Metrics>,
    ) -> Self {
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Ok(name) = AppName::new(concat!("bindery/", env!("CARGO_PKG_VERSION"))) {
            loader = loader.app_name(name);
        }
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        // A variable that is set and empty names no region.
        let config = match config.region() {
            Some(region) if region.as_ref().trim().is_empty() => config.into_builder().region(None).build(),
            _ => config,
        };
        let (own, route) = (OwnCredentials::new(&config), Route::new(&config));
        let config = config
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(own.clone()))
            // They are kept where they can be forgotten once AWS refuses them.
            .identity_cache(IdentityCache::no_cache())
            .build();
        let own_used = watch::channel(false).0;
        Self { config, own, route, clients: Mutex::default(), kubernetes, metrics, own_used }
    }

    /// Waits until the operator's own identity asks for a secret.
    pub(super) async fn own_identity_is_used(&self) {
        // The sender is as old as this.
        let _ = self.own_used.subscribe().wait_for(|used| *used).await;
    }

    /// The operator's own configuration.
    pub(super) const fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The operator's own credentials, as a message names them.
    pub(super) fn own(&self) -> String {
        self.own.describe()
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// The operator's own configuration, in the region of the identity.
    pub(super) fn config_of(&self, identity: &Identity) -> SdkConfig {
        match &identity.region {
            Some(region) => self.config.to_builder().region(Region::new(region.clone())).build(),
            None => self.config.clone(),
        }
    }

    /// Begins a call with the client of the identity.
    pub(super) async fn begin<'a>(&'a self, identity: &'a Identity, operation: &'static str) -> SdkCall<'a> {
        let started = Instant::now();
        let client = self.client(identity).await;
        SdkCall { clients: self, identity, operation, started, client }
    }

    /// Counts a call in the metrics.
    pub(super) fn count<T, E: ProvideErrorMetadata>(
        &self,
        operation: &'static str,
        started: Instant,
        result: &Result<T, SdkError<E, HttpResponse>>,
    ) {
        let code = match result {
            Ok(_) => "ok",
            Err(error) => error.code().unwrap_or(match error {
                SdkError::TimeoutError(_) => "timeout",
                SdkError::DispatchFailure(_) => "dispatch",
                _ => "other",
            }),
        };
        self.metrics.aws_request(operation, code, started.elapsed());
    }

    /// The client of an identity. It caches its own credentials, so that identities neither delay nor evict each other.
    async fn client(&self, identity: &Identity) -> Client {
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            clients.retain(|_, cached| now.duration_since(cached.last_use) < IDLE_TIMEOUT);
            let cached = clients
                .entry(identity.clone())
                .or_insert_with(|| CachedClient { client: Arc::default(), last_use: now });
            cached.last_use = now;
            cached.client.clone()
        };
        cell.get_or_init(|| self.connect(identity)).await.clone()
    }

    /// The error of a call, with what is at fault: the way to AWS, or the identity, by its name.
    pub(super) fn explained<E>(
        &self,
        identity: &Identity,
        secret: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> SourceError
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let mut explained = from_sdk(secret, error);
        if let Some(fault) = self.route.fault(identity) {
            return SourceError { kind: SourceErrorKind::CredentialsFailed, fault: Some(fault), ..explained };
        }
        match explained.kind {
            SourceErrorKind::Unavailable => explained.fault = self.route.unreachable(identity, error),
            // A failure without an answer has named its link.
            SourceErrorKind::CredentialsFailed if error.raw_response().is_some() => {
                let refused = || self.refused(identity);
                // Where the clock is at fault, the credentials may be good.
                let clock = |clock| format!("{clock} (asked with {})", self.link(identity));
                explained.fault = Some(explained.fault.map_or_else(refused, clock));
            }
            _ => {}
        }
        explained
    }

    /// What to say of credentials that AWS refuses.
    fn refused(&self, identity: &Identity) -> String {
        if identity.role.is_none() && identity.service_account.is_none() {
            return self.own.refused();
        }
        format!("AWS refuses the session of {}; a new one is asked for", self.link(identity))
    }

    fn link(&self, identity: &Identity) -> String {
        match (&identity.role, &identity.service_account) {
            (Some(role), _) => link_of_role(role),
            (None, Some(account)) => link_of_account(account),
            (None, None) => self.own.describe(),
        }
    }

    /// Drops what AWS refuses, so that the next call gets new credentials.
    fn drop_refused(&self, identity: &Identity, error: &SourceError) {
        if error.kind != SourceErrorKind::CredentialsFailed {
            return;
        }
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(identity);
        // Whether a role or a ServiceAccount is given says nothing of the operator's own credentials.
        let of_another = identity.service_account.is_some() || error.code.as_deref() == Some("AccessDenied");
        if error.code.is_some() && !of_another {
            self.own.forget();
        }
    }

    async fn connect(&self, identity: &Identity) -> Client {
        let config = self.config_of(identity);
        let mut builder = aws_sdk_secretsmanager::config::Builder::from(&config).retry_classifier(ThrottlingIsPaced);
        let provider = match (&identity.role, &identity.service_account) {
            _ if self.route.fault(identity).is_some() => {
                let fault = self.route.fault(identity).unwrap_or_default();
                SharedCredentialsProvider::new(provide_credentials_fn(move || {
                    let failed = FailedLink::from(CredentialsFault::Setting(fault.clone()));
                    async move { Err(failed.into()) }
                }))
            }
            (Some(role), _) => {
                SharedCredentialsProvider::new(RoleCredentials::new(&config, self.own.clone(), role.clone()).await)
            }
            (None, Some(account)) => SharedCredentialsProvider::new(ServiceAccountCredentials::new(
                self.kubernetes.clone(),
                &config,
                account.clone(),
            )),
            (None, None) => {
                self.own_used.send_replace(true);
                return Client::from_conf(builder.build());
            }
        };
        // All clients of one configuration share its caches. This identity gets its own.
        let partition = RetryPartition::custom(format!("bindery {}", identity.describe()))
            .token_bucket(TokenBucket::default())
            .build();
        builder = builder
            .credentials_provider(provider)
            .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build())
            .retry_partition(partition);
        Client::from_conf(builder.build())
    }
}

impl SdkCall<'_> {
    /// Ends the call: counts it and classifies its error. `secret` names the secret in the error.
    pub(super) fn finish<T, E>(
        &self,
        secret: &str,
        result: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, SourceError>
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        self.clients.count(self.operation, self.started, &result);
        result
            .map_err(|error| self.clients.explained(self.identity, secret, &error))
            .inspect_err(|error| self.clients.drop_refused(self.identity, error))
    }
}

/// The HTTP stack of all clients.
fn http_client() -> SharedHttpClient {
    let connector = SharedHttpConnector::new(
        Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .connector_settings(HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .sleep_impl(TokioSleep::new())
            // The SDK does not read HTTPS_PROXY and NO_PROXY by itself.
            .proxy_config(ProxyConfig::from_env())
            .build(),
    );
    http_client_fn(move |_, _| connector.clone())
}
