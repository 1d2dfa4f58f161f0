//! What a pass looks at: grants, the target's metadata, the versions of the sources.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::api::SecretBindingStatus;
use crate::aws::versions::snapshot::{Discovery, SnapshotRequest};
use crate::domain::binding::{Binding, Refresh};
use crate::domain::grant::{Access, Asker, GrantError, Home, Wants, decide, wants};
use crate::domain::rotation::due::AwsRotation;
use crate::domain::secret::description::Description;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source, VersionSelector};
use crate::domain::secret::version::Known;
use crate::domain::target::orphan::refers_to;
use crate::domain::target::{Sighting, TargetState, judge};
use crate::kubernetes::read::{PublishedSecret, read_secret};
use crate::kubernetes::write::WriteError;
use crate::reconcile::binding::plan;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;

const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How fresh an observation must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As fresh as the watch: enough to find that there is nothing to do.
    Cached,
    /// From the API server: what a write rests on.
    Live,
}

impl Context {
    /// The refresh interval of a binding; `None` where the clock asks for nothing.
    #[must_use]
    pub fn interval(&self, refresh: Refresh) -> Option<Duration> {
        match refresh {
            Refresh::Default => Some(self.settings.refresh_interval).filter(|interval| !interval.is_zero()),
            Refresh::Every(interval) => Some(interval),
            Refresh::Never => None,
        }
    }

    /// The grant that serves a binding.
    ///
    /// # Errors
    /// Where none does, or where an ARN needs the operator's account to be known and AWS does not tell it.
    pub async fn access(&self, binding: &Binding) -> Result<Access, Error> {
        let wants = wants(&binding.mapping);
        if wants.keys().any(|secret| matches!(secret, SecretId::Arn(_))) {
            // An ARN names an account, and a grant without one means the operator's own.
            let region = self.settings.region.clone().or_else(|| {
                self.grants.state().iter().find_map(|grant| grant.spec.aws.as_ref().and_then(|aws| aws.region.clone()))
            });
            let identity = Identity { region, ..Identity::default() };
            self.account.get_or_try_init(|| self.reader.account(&identity)).await?;
        }
        Ok(self.decide(binding, &wants)?)
    }

    pub(crate) fn decide(&self, binding: &Binding, wants: &BTreeMap<SecretId, Wants>) -> Result<Access, GrantError> {
        let home = Home { region: self.settings.region.clone(), account: self.account.get().cloned() };
        let namespace = self.namespaces.get(&ObjectRef::new(&binding.namespace));
        let asker = Asker {
            namespace: &binding.namespace,
            labels: namespace.as_ref().map(|namespace| namespace.labels()),
            grant: binding.grant.as_deref(),
        };
        let grants = self.grants.state();
        decide(grants.iter().map(AsRef::as_ref), asker, wants, &home, Timestamp::now())
    }

    /// Judges again, after a read, what was judged before it: the grants as they are now, and the name that AWS
    /// answered.
    #[must_use]
    pub fn still_permits(&self, binding: &Binding, access: &Access, secret: &SecretId, arn: &str, name: &str) -> bool {
        let wants = wants(&binding.mapping);
        self.decide(binding, &wants).is_ok_and(|now| {
            now.grant == access.grant
                && now.generation == access.generation
                && now.identity == access.identity
                && now.permits(arn, name)
                && wants.get(secret).is_some_and(|wants| now.permits_wants(name, wants))
        })
    }

    /// The target as it is.
    ///
    /// # Errors
    /// Where the API server does not tell.
    pub async fn target(
        &self,
        binding: &Binding,
        status: &SecretBindingStatus,
        look: Look,
    ) -> Result<TargetState, Error> {
        let name = &binding.target.name;
        let published = status.binding.as_ref().is_some_and(|published| published.name == *name);
        if look == Look::Cached {
            // A Secret that is absent from the cache may be there without Bindery's label.
            if let Some(sighting) = self.targets.get(&binding.namespace, name) {
                return Ok(judge(binding, Some(&sighting), published));
            }
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &binding.namespace);
        match timeout(READ_TIMEOUT, api.get_metadata_opt(name)).await {
            Ok(Ok(meta)) => {
                let sighting = meta.map(|meta| Sighting::new(&meta, &self.key));
                Ok(judge(binding, sighting.as_ref(), published))
            }
            Ok(Err(error)) => Err(unseen(name, &error).into()),
            Err(_) => Err(untold(name).into()),
        }
    }

    /// The target as it is, read from the API server with its values.
    ///
    /// # Errors
    /// Where the API server does not tell.
    pub async fn target_with_values(
        &self,
        binding: &Binding,
        status: &SecretBindingStatus,
    ) -> Result<(TargetState, Option<PublishedSecret>), Error> {
        let name = &binding.target.name;
        let published = status.binding.as_ref().is_some_and(|published| published.name == *name);
        match read_secret(&self.client, &binding.namespace, name).await {
            Ok(secret) => {
                let sighting = secret.as_ref().map(|secret| Sighting::new(&secret.meta, &self.key));
                Ok((judge(binding, sighting.as_ref(), published), secret))
            }
            Err(error) => Err(unseen(name, &error).into()),
        }
    }

    /// Whether a pod that has not ended, or a template that makes pods, reads the Secret `name`.
    ///
    /// # Errors
    /// Where the API server does not tell.
    pub async fn is_in_use(&self, namespace: &str, name: &str) -> Result<bool, kube::Error> {
        let uses = |pod: Option<&PodSpec>| pod.is_some_and(|pod| refers_to(pod, name));
        let template = |template: &PodTemplateSpec| uses(template.spec.as_ref());
        Ok(self
            .any::<Pod>(namespace, |pod| {
                let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                !matches!(ended, Some("Succeeded" | "Failed")) && uses(pod.spec.as_ref())
            })
            .await?
            || self.any::<Deployment>(namespace, |d| d.spec.as_ref().is_some_and(|d| template(&d.template))).await?
            || self.any::<StatefulSet>(namespace, |s| s.spec.as_ref().is_some_and(|s| template(&s.template))).await?
            || self.any::<DaemonSet>(namespace, |d| d.spec.as_ref().is_some_and(|d| template(&d.template))).await?
            || self
                .any::<CronJob>(namespace, |job| {
                    let job = job.spec.as_ref().and_then(|cron| cron.job_template.spec.as_ref());
                    job.is_some_and(|job| template(&job.template))
                })
                .await?
            || self
                .any::<Job>(namespace, |job| {
                    let ended = job.status.as_ref().is_some_and(|status| status.completion_time.is_some());
                    !ended && job.spec.as_ref().is_some_and(|job| template(&job.template))
                })
                .await?)
    }

    /// Whether any object of a kind in a namespace is as `test` says, page by page.
    async fn any<K>(&self, namespace: &str, test: impl Fn(&K) -> bool) -> Result<bool, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let mut params = ListParams::default().limit(200);
        loop {
            let page = timeout(READ_TIMEOUT, api.list(&params))
                .await
                .map_err(|_| kube::Error::Service(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))??;
            if page.items.iter().any(&test) {
                return Ok(true);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(false),
            }
        }
    }

    /// The versions that the sources have at present, as far as `freshness` asks. `None` where IAM does not allow to
    /// ask without reading.
    ///
    /// # Errors
    /// What AWS refuses, and names that the grant does not allow.
    pub async fn sight(
        &self,
        binding: &Binding,
        access: &Access,
        freshness: Freshness,
    ) -> Result<Option<Sight>, SourceError> {
        let sources = binding.mapping.sources();
        let mut seen = BTreeMap::new();
        for (secret, wants) in wants(&binding.mapping) {
            let versions: Vec<&VersionSelector> =
                sources.iter().filter(|source| source.secret == secret).map(|source| &source.version).collect();
            let unconfirmed = access.unconfirmed.contains(&secret);
            let want = SnapshotRequest {
                max_age: freshness.fresh,
                max_failure_age: freshness.failed,
                confirmed: freshness.confirmed || unconfirmed,
                versions: &versions,
            };
            let Some(found) = self.reader.versions().snapshot(&access.identity, &secret, &want).await? else {
                if unconfirmed {
                    return Err(SourceError::new(SourceErrorKind::AccessDenied, secret.to_string()));
                }
                return Ok(None);
            };
            let (arn, name) = (&found.description.arn, &found.description.name);
            if !access.permits(arn, name) || !access.permits_wants(name, &wants) {
                return Err(SourceError::new(SourceErrorKind::NotGranted, secret.to_string()));
            }
            seen.insert(secret, found);
        }
        let rotations = seen.iter().map(|(secret, found)| {
            let Description { name, rotation, .. } = &*found.description;
            let pending = found.description.has_pending();
            let of = AwsRotation { name: name.clone(), rotation: rotation.clone(), pending };
            found.has_rotation_dates().then(|| (secret.clone(), of))
        });
        let rotations = rotations.collect();
        let mut versions = BTreeMap::new();
        for source in sources {
            let Some(found) = seen.get(&source.secret) else { continue };
            let description = &found.description;
            // A version without a label is not listed, yet it can be read by its id while AWS keeps it.
            let version_id = match &source.version {
                VersionSelector::Id(id) => id.clone(),
                VersionSelector::Stage(_) => description
                    .version_id(&source.version)
                    .ok_or_else(|| SourceError::new(SourceErrorKind::VersionNotFound, plan::source_text(&source)))?
                    .to_owned(),
            };
            let known = Known { arn: description.arn.clone(), name: description.name.clone(), version_id };
            versions.insert(source, known);
        }
        Ok(Some(Sight {
            versions,
            at: seen.values().map(|found| found.at).min().unwrap_or_else(Instant::now),
            confirmed: seen.values().all(|found| found.confirmed),
            rotations,
            by_event: seen.values().any(|found| found.discovery == Discovery::Event),
        }))
    }
}

fn unseen(name: &str, error: &kube::Error) -> WriteError {
    match error {
        kube::Error::Api(status) if status.code == 403 => WriteError::Forbidden(name.to_owned()),
        _ => untold(name),
    }
}

fn untold(name: &str) -> WriteError {
    let what = "the API server does not tell whether it exists".to_owned();
    WriteError::Failed { name: name.to_owned(), what }
}

/// How fresh a look at AWS must be.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// How old what is known may be.
    pub fresh: Duration,
    /// How old a failure may be to be taken for the answer.
    pub failed: Duration,
    /// Whether what a list tells is not enough.
    pub confirmed: bool,
}

/// The versions of all sources, as seen without a value.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The versions.
    pub versions: BTreeMap<Source, Known>,
    /// When the one that was seen longest ago was seen.
    pub at: Instant,
    /// Whether all of it rests on more than a list.
    pub confirmed: bool,
    /// AWS's own rotation of each secret, where it is known of all.
    pub rotations: Option<BTreeMap<SecretId, AwsRotation>>,
    /// Whether an event led to it.
    pub by_event: bool,
}
