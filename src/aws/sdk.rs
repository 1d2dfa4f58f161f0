//! [`SecretsApi`] over the AWS SDK.

mod clients;
mod reads;
mod route;
mod writes;

use std::sync::Arc;

use aws_config::Region;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::aws::api::{Batch, NewVersion, SecretPage, SecretsApi, StageMove, VersionPage};
use crate::aws::events::consumer::{self, EventConsumer};
use crate::aws::events::health::QueueHealth;
use crate::aws::sdk::clients::SdkClients;
use crate::domain::secret::description::Description;
use crate::domain::secret::error::SourceError;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, VersionSelector};
use crate::domain::secret::version::SecretVersion;
use crate::metrics::Metrics;

/// Secrets Manager over the AWS SDK: one HTTP stack for all identities, one client for each.
pub struct SecretsManager {
    clients: SdkClients,
}

impl SecretsManager {
    /// Loads credentials, region and endpoints from the [SDK's own chain and variables][chain].
    ///
    /// [chain]: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
    pub async fn from_environment(region: Option<String>, kubernetes: kube::Client, metrics: Arc<Metrics>) -> Self {
        Self { clients: SdkClients::from_environment(region, kubernetes, metrics).await }
    }

    /// The region of identities that name none.
    #[must_use]
    pub fn default_region(&self) -> Option<&str> {
        self.clients.config().region().map(Region::as_ref)
    }

    /// The ARN by which AWS knows the operator's own identity. Waits until that identity asks for a secret, since without a
    /// grant nothing is asked of AWS, and grants with a role or a ServiceAccount may need no identity of its own.
    ///
    /// # Errors
    /// Where there are no credentials of its own, or AWS refuses them.
    pub async fn principal(&self) -> Result<String, SourceError> {
        self.clients.own_identity_is_used().await;
        Ok(reads::caller(&self.clients, &Identity::default()).await?.1)
    }

    /// The consumer of an events queue, with the operator's own identity.
    #[must_use]
    pub fn event_consumer(&self, url: &str, health: Arc<QueueHealth>) -> EventConsumer {
        let client = consumer::client(self.clients.config(), url);
        EventConsumer::new(client, url.to_owned(), self.clients.metrics(), health)
    }
}

impl SecretsApi for SecretsManager {
    fn describe<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
    ) -> BoxFuture<'a, Result<Description, SourceError>> {
        reads::describe(&self.clients, identity, secret).boxed()
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        version: &'a VersionSelector,
    ) -> BoxFuture<'a, Result<SecretVersion, SourceError>> {
        reads::read(&self.clients, identity, secret, version).boxed()
    }

    fn read_batch<'a>(
        &'a self,
        identity: &'a Identity,
        secrets: &'a [SecretId],
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        reads::read_batch(&self.clients, identity, secrets).boxed()
    }

    fn list<'a>(
        &'a self,
        identity: &'a Identity,
        prefixes: &'a [String],
        page: Option<String>,
    ) -> BoxFuture<'a, Result<SecretPage, SourceError>> {
        reads::list(&self.clients, identity, prefixes, page).boxed()
    }

    fn list_versions<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<VersionPage, SourceError>> {
        reads::list_versions(&self.clients, identity, secret, page).boxed()
    }

    fn put<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        version: NewVersion<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        writes::put(&self.clients, identity, secret, version).boxed()
    }

    fn move_stage<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        stage: StageMove<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        writes::move_stage(&self.clients, identity, secret, stage).boxed()
    }

    fn rotate<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        writes::rotate(&self.clients, identity, secret, token).boxed()
    }

    fn account<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>> {
        reads::account(&self.clients, identity).boxed()
    }
}
