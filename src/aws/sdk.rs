//! [`SecretsApi`] over the AWS SDK.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::IdentityCache;
use aws_sdk_secretsmanager::primitives::{Blob, DateTime};
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::request_id::RequestId;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::aws::api::{Batch, Page, SecretsApi, VersionPage};
use crate::aws::attempts::{LostAttempts, ThrottlingIsPaced};
use crate::aws::classify::{Write, from_sdk, of_item, of_write};
use crate::aws::credentials::{ServiceAccountCredentials, assume_role};
use crate::aws::events::consumer;
use crate::aws::events::consumer::EventConsumer;
use crate::aws::events::health::QueueHealth;
use crate::domain::payload::Payload;
use crate::domain::secret::description::{Description, RotationDates};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, VersionSelector};
use crate::domain::secret::version::{ListedVersion, SecretVersion};
use crate::domain::value::Value;
use crate::metrics::Metrics;

/// A connection may take this long to open; the SDK's own value.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);
/// One attempt may take this long. Secrets Manager answers in tens of milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// All attempts of one call together may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts of one call; further retries are the controller's, which knows how to wait.
const ATTEMPTS: u32 = 3;

/// The most entries that one page of ListSecrets or ListSecretVersionIds holds.
const LIST_LIMIT: i32 = 100;

/// A client that was not used for this long is dropped, with its credentials.
const IDLE: Duration = Duration::from_secs(3600);

/// Secrets Manager by the AWS SDK: one HTTP stack for all, one client for each identity.
pub struct SecretsManager {
    config: SdkConfig,
    clients: Mutex<HashMap<Identity, Kept>>,
    kubernetes: kube::Client,
    metrics: Arc<Metrics>,
}

/// A client with its credentials, which stays while it is used.
struct Kept {
    client: Arc<OnceCell<Client>>,
    used: Instant,
}

impl SecretsManager {
    /// Loads credentials, region and endpoints as the [SDK's own chain and variables][chain] give them.
    ///
    /// [chain]: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
    pub async fn from_environment(region: Option<String>, kubernetes: kube::Client, metrics: Arc<Metrics>) -> Self {
        let connector = SharedHttpConnector::new(
            Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .connector_settings(HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build())
                .sleep_impl(TokioSleep::new())
                // HTTPS_PROXY and NO_PROXY, which the SDK does not look at by itself.
                .proxy_config(ProxyConfig::from_env())
                .build(),
        );
        let http = http_client_fn(move |_, _| connector.clone());
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Ok(name) = AppName::new(concat!("bindery/", env!("CARGO_PKG_VERSION"))) {
            loader = loader.app_name(name);
        }
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        Self { config: loader.load().await, clients: Mutex::default(), kubernetes, metrics }
    }

    /// The region that identities without one of their own use.
    #[must_use]
    pub fn default_region(&self) -> Option<&str> {
        self.config.region().map(Region::as_ref)
    }

    /// An events queue, read with the operator's own identity.
    #[must_use]
    pub fn event_consumer(&self, url: &str, health: Arc<QueueHealth>) -> EventConsumer {
        EventConsumer::new(consumer::client(&self.config, url), url.to_owned(), self.metrics.clone(), health)
    }

    /// The client of an identity. Credentials are cached within it, so that one identity neither waits for nor evicts
    /// another.
    async fn client(&self, identity: &Identity) -> Client {
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            clients.retain(|_, kept| now.duration_since(kept.used) < IDLE);
            let kept = clients.entry(identity.clone()).or_insert_with(|| Kept { client: Arc::default(), used: now });
            kept.used = now;
            kept.client.clone()
        };
        cell.get_or_init(|| self.connect(identity)).await.clone()
    }

    /// Drops a client whose credentials AWS does not take, so that the next call gets new ones.
    fn drop_client(&self, identity: &Identity, error: &SourceError) {
        if error.kind == SourceErrorKind::CredentialsFailed {
            self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(identity);
        }
    }

    async fn connect(&self, identity: &Identity) -> Client {
        let config = self.configuration(identity);
        let mut builder = aws_sdk_secretsmanager::config::Builder::from(&config).retry_classifier(ThrottlingIsPaced);
        if identity.role.is_some() || identity.service_account.is_some() {
            let provider = match (&identity.role, &identity.service_account) {
                (Some(role), _) => assume_role(&config, role).await,
                (None, Some(account)) => SharedCredentialsProvider::new(ServiceAccountCredentials::new(
                    self.kubernetes.clone(),
                    &config,
                    account.clone(),
                )),
                (None, None) => return Client::from_conf(builder.build()),
            };
            // The configuration's own caches are shared by all that is made from it; these are this identity's.
            builder = builder
                .credentials_provider(provider)
                .identity_cache(IdentityCache::lazy().load_timeout(CALL_TIMEOUT).build())
                .retry_partition(
                    RetryPartition::custom(format!("bindery {}", identity.describe()))
                        .token_bucket(TokenBucket::default())
                        .build(),
                );
        }
        Client::from_conf(builder.build())
    }

    fn configuration(&self, identity: &Identity) -> SdkConfig {
        match &identity.region {
            Some(region) => self.config.to_builder().region(Region::new(region.clone())).build(),
            None => self.config.clone(),
        }
    }

    fn written<T, E>(
        &self,
        identity: &Identity,
        id: &str,
        write: Write,
        result: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<Option<String>, SourceError>
    where
        T: RequestId,
        E: ProvideErrorMetadata + StdError + 'static,
    {
        result
            .map(|output| output.request_id().map(str::to_owned))
            .map_err(|error| of_write(from_sdk(id, &error), write))
            .inspect_err(|error| self.drop_client(identity, error))
    }

    fn count<T, E: ProvideErrorMetadata>(
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
}

impl SecretsApi for SecretsManager {
    fn describe<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
    ) -> BoxFuture<'a, Result<Description, SourceError>> {
        async move {
            let id = secret.to_string();
            let started = Instant::now();
            let result = self.client(identity).await.describe_secret().secret_id(&id).send().await;
            self.count("DescribeSecret", started, &result);
            let output =
                result.map_err(|error| from_sdk(&id, &error)).inspect_err(|error| self.drop_client(identity, error))?;
            Ok(Description {
                arn: output.arn.ok_or_else(|| incomplete(&id))?,
                name: output.name.ok_or_else(|| incomplete(&id))?,
                versions: labelled(output.version_ids_to_stages),
                pending_deletion: output.deleted_date.is_some(),
                created: output.created_date.and_then(|date| second(&date)),
                rotation: RotationDates {
                    enabled: output.rotation_enabled.unwrap_or_default(),
                    next: output.next_rotation_date.and_then(|date| second(&date)),
                    last: output.last_rotated_date.and_then(|date| second(&date)),
                },
            })
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        version: &'a VersionSelector,
    ) -> BoxFuture<'a, Result<SecretVersion, SourceError>> {
        async move {
            let id = secret.to_string();
            let started = Instant::now();
            let request = self.client(identity).await.get_secret_value().secret_id(&id);
            let request = match version {
                VersionSelector::Stage(stage) => request.version_stage(stage),
                VersionSelector::Id(version) => request.version_id(version),
            };
            let attempts = LostAttempts::default();
            let result = request.customize().interceptor(attempts.clone()).send().await;
            self.count("GetSecretValue", started, &result);
            let lost_attempts = attempts.count();
            let mut output = result
                .map_err(|error| SourceError { lost_attempts, ..from_sdk(&id, &error) })
                .inspect_err(|error| self.drop_client(identity, error))?;
            let answer = Answer {
                arn: output.arn.take(),
                name: output.name.take(),
                version_id: output.version_id.take(),
                created: output.created_date.take(),
                text: output.secret_string.take(),
                binary: output.secret_binary.take(),
                request_id: output.request_id().map(str::to_owned),
            };
            answer.version(&id, lost_attempts)
        }
        .boxed()
    }

    fn read_batch<'a>(
        &'a self,
        identity: &'a Identity,
        secrets: &'a [SecretId],
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            let ids: Vec<String> = secrets.iter().map(ToString::to_string).collect();
            let named = ids.first().cloned().unwrap_or_default();
            let started = Instant::now();
            let request = self.client(identity).await.batch_get_secret_value().set_secret_id_list(Some(ids));
            let attempts = LostAttempts::default();
            let result = request.customize().interceptor(attempts.clone()).send().await;
            self.count("BatchGetSecretValue", started, &result);
            let lost_attempts = attempts.count();
            let output = result
                .map_err(|error| SourceError { lost_attempts, ..from_sdk(&named, &error) })
                .inspect_err(|error| self.drop_client(identity, error))?;
            let request_id = output.request_id().map(str::to_owned);
            let mut batch = Batch { lost_attempts, ..Batch::default() };
            for error in output.errors.unwrap_or_default() {
                let id = error.secret_id.unwrap_or_default();
                let failure = of_item(&id, error.error_code.as_deref(), error.message.as_deref(), request_id.clone());
                batch.failures.push((id, failure));
            }
            for entry in output.secret_values.unwrap_or_default() {
                let answer = Answer {
                    arn: entry.arn,
                    name: entry.name,
                    version_id: entry.version_id,
                    created: entry.created_date,
                    text: entry.secret_string,
                    binary: entry.secret_binary,
                    request_id: request_id.clone(),
                };
                let id = answer.name.clone().unwrap_or_default();
                match answer.version(&id, 0) {
                    Ok(version) => batch.versions.push(version),
                    Err(error) => batch.failures.push((id, error)),
                }
            }
            Ok(batch)
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        identity: &'a Identity,
        prefixes: &'a [String],
        page: Option<String>,
    ) -> BoxFuture<'a, Result<Page, SourceError>> {
        async move {
            let started = Instant::now();
            let by_name = (!prefixes.is_empty())
                .then(|| Filter::builder().key(FilterNameStringType::Name).set_values(Some(prefixes.to_vec())).build());
            let request = self.client(identity).await.list_secrets().max_results(LIST_LIMIT);
            let request = request.set_filters(by_name.map(|filter| vec![filter])).set_next_token(page);
            let result = request.send().await;
            self.count("ListSecrets", started, &result);
            let output = result
                .map_err(|error| from_sdk("(all secrets)", &error))
                .inspect_err(|error| self.drop_client(identity, error))?;
            let secrets = output.secret_list.unwrap_or_default().into_iter().filter_map(|entry| {
                Some(Description {
                    arn: entry.arn?,
                    name: entry.name?,
                    versions: labelled(entry.secret_versions_to_stages),
                    pending_deletion: entry.deleted_date.is_some(),
                    created: entry.created_date.and_then(|date| second(&date)),
                    rotation: RotationDates {
                        enabled: entry.rotation_enabled.unwrap_or_default(),
                        next: entry.next_rotation_date.and_then(|date| second(&date)),
                        last: entry.last_rotated_date.and_then(|date| second(&date)),
                    },
                })
            });
            Ok(Page { secrets: secrets.collect(), next: output.next_token })
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
        text: &'a Value,
        stages: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        async move {
            let id = secret.to_string();
            let value = std::str::from_utf8(text.expose())
                .map_err(|_| SourceError::new(SourceErrorKind::InvalidReference, id.as_str()))?;
            let started = Instant::now();
            let request = self.client(identity).await.put_secret_value().secret_id(&id).client_request_token(token);
            let stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
            let result = request.secret_string(value).set_version_stages(Some(stages)).send().await;
            self.count(Write::Put.operation(), started, &result);
            self.written(identity, &id, Write::Put, result)
        }
        .boxed()
    }

    fn label<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        stage: &'a str,
        from: Option<&'a str>,
        to: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        async move {
            let id = secret.to_string();
            let started = Instant::now();
            let request = self.client(identity).await.update_secret_version_stage().secret_id(&id).version_stage(stage);
            let request = request.set_remove_from_version_id(from.map(str::to_owned));
            let result = request.set_move_to_version_id(to.map(str::to_owned)).send().await;
            self.count(Write::Label.operation(), started, &result);
            self.written(identity, &id, Write::Label, result)
        }
        .boxed()
    }

    fn rotate<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        async move {
            let id = secret.to_string();
            let started = Instant::now();
            let request = self.client(identity).await.rotate_secret().secret_id(&id).client_request_token(token);
            let result = request.send().await;
            self.count(Write::Rotate.operation(), started, &result);
            self.written(identity, &id, Write::Rotate, result)
        }
        .boxed()
    }

    fn list_versions<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<VersionPage, SourceError>> {
        async move {
            let id = secret.to_string();
            let started = Instant::now();
            let request = self.client(identity).await.list_secret_version_ids().secret_id(&id);
            let request = request.include_deprecated(true).max_results(LIST_LIMIT).set_next_token(page);
            let result = request.send().await;
            self.count("ListSecretVersionIds", started, &result);
            let output =
                result.map_err(|error| from_sdk(&id, &error)).inspect_err(|error| self.drop_client(identity, error))?;
            let versions = output.versions.unwrap_or_default().into_iter().filter_map(|entry| {
                Some(ListedVersion {
                    id: entry.version_id?,
                    stages: entry.version_stages.unwrap_or_default().into_iter().collect(),
                    created: entry.created_date.and_then(|date| second(&date)),
                })
            });
            Ok(VersionPage { versions: versions.collect(), next: output.next_token })
        }
        .boxed()
    }

    fn account<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>> {
        async move {
            let started = Instant::now();
            let result = aws_sdk_sts::Client::new(&self.configuration(identity)).get_caller_identity().send().await;
            self.count("GetCallerIdentity", started, &result);
            let output = result.map_err(|error| SourceError {
                kind: SourceErrorKind::CredentialsFailed,
                ..from_sdk("(the operator's identity)", &error)
            })?;
            output
                .account
                .ok_or_else(|| SourceError::new(SourceErrorKind::CredentialsFailed, "(the operator's identity)"))
        }
        .boxed()
    }
}

/// What `GetSecretValue` and `BatchGetSecretValue` answer of one version.
struct Answer {
    arn: Option<String>,
    name: Option<String>,
    version_id: Option<String>,
    created: Option<DateTime>,
    text: Option<String>,
    binary: Option<Blob>,
    request_id: Option<String>,
}

impl Answer {
    fn version(self, id: &str, lost_attempts: u32) -> Result<SecretVersion, SourceError> {
        let request_id = self.request_id;
        let (Some(arn), Some(name), Some(version_id)) = (self.arn, self.name, self.version_id) else {
            // A value may have come, and cannot be used: one more attempt whose answer is lost.
            return Err(SourceError { lost_attempts: lost_attempts + 1, request_id, ..incomplete(id) });
        };
        let payload = match (self.text, self.binary) {
            (Some(text), _) => Payload::text(text),
            (None, Some(blob)) => Payload::binary(blob.into_inner()),
            // A version without a value exists after a failed rotation; it is no version to publish.
            (None, None) => {
                let kind = SourceErrorKind::VersionNotFound;
                return Err(SourceError { request_id, lost_attempts, ..SourceError::new(kind, id) });
            }
        };
        Ok(SecretVersion {
            arn,
            name,
            version_id,
            created: self.created.and_then(|date| second(&date)),
            payload,
            request_id,
            lost_attempts,
        })
    }
}

/// AWS's dates have whole seconds.
fn second(date: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(date.secs()).ok()
}

fn labelled(versions: Option<HashMap<String, Vec<String>>>) -> BTreeMap<String, BTreeSet<String>> {
    versions.unwrap_or_default().into_iter().map(|(id, stages)| (id, stages.into_iter().collect())).collect()
}

fn incomplete(secret: &str) -> SourceError {
    SourceError { code: Some("IncompleteAnswer".to_owned()), ..SourceError::new(SourceErrorKind::Unavailable, secret) }
}
