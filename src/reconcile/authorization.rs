//! Who may read what: the only maker of read requests and of the checks of their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::timeout;

use crate::api::SecretGrant;
use crate::aws::audit::ReadReason;
use crate::aws::own_account::OwnAccount;
use crate::aws::read_request::{AnswerCheck, ReadRequest, Selection};
use crate::aws::reader::Reader;
use crate::domain::binding::{Binding, BindingTarget};
use crate::domain::grant::{
    Access, GrantCandidate, GrantError, Home, RequestedKeys, Requester, decide, explained, is_candidate, needs_account,
    requested_keys,
};
use crate::domain::name::BindingName;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;
use crate::domain::secret::version::SecretVersion;
use crate::domain::target::metadata::{MetadataPattern, MetadataRefusal, judge_metadata};
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::namespace_object::NamespaceObject;
use crate::settings::{Feature, Settings};
use crate::state::grant_rules::GrantRules;

/// How long the labels of namespaces are waited for.
const NAMESPACES_TIMEOUT: Duration = Duration::from_secs(10);

/// The grants of the cluster, and what they depend on.
pub struct Authorization {
    grants: Store<GrantObject>,
    /// The labels of the namespaces, for grants by selector.
    namespaces: Store<NamespaceObject>,
    settings: Arc<Settings>,
    /// The labels and annotations that the flag allows.
    metadata: Vec<MetadataPattern>,
    /// The account of the operator's own identity.
    account: OwnAccount,
    rules: GrantRules,
    reader: Reader,
}

/// A binding with what its grant allows.
#[derive(Clone)]
pub struct AuthorizedBinding {
    /// The binding.
    pub binding: Arc<Binding>,
    /// Its name.
    pub name: BindingName,
    /// What its grant allows.
    pub access: Arc<Access>,
}

/// Why no grant serves a binding.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AccessError {
    /// No grant allows it.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// AWS does not tell the account of the operator, which an ARN needs.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Authorization {
    /// Decides by these grants and by the labels of these namespaces.
    #[must_use]
    pub fn new(
        grants: Store<GrantObject>,
        namespaces: Store<NamespaceObject>,
        settings: Arc<Settings>,
        reader: Reader,
    ) -> Self {
        let allowed = settings.allowed_metadata.iter();
        let metadata = allowed.filter_map(|text| MetadataPattern::try_from(text.as_str()).ok()).collect();
        let (account, rules) = (OwnAccount::default(), GrantRules::default());
        Self { grants, namespaces, settings, metadata, account, rules, reader }
    }

    /// Waits until the grants are known. False where they never will be.
    pub async fn wait_until_ready(&self) -> bool {
        // Without the right to watch namespaces, grants by name still work.
        if timeout(NAMESPACES_TIMEOUT, self.namespaces.wait_until_ready()).await.is_err() {
            tracing::warn!("the labels of namespaces cannot be watched, so grants by selector allow nothing");
        }
        self.grants.wait_until_ready().await.is_ok()
    }

    /// The grants of the cluster.
    #[must_use]
    pub fn grants(&self) -> Vec<Arc<GrantObject>> {
        self.grants.state()
    }

    /// The grants that can be read.
    fn readable_grants(&self) -> Vec<Arc<SecretGrant>> {
        self.grants.state().iter().filter_map(|grant| grant.0.as_ref().ok().cloned()).collect()
    }

    /// What the grant of a binding allows.
    ///
    /// # Errors
    /// Where no grant serves it, or where an ARN needs the account of the operator and AWS does not tell it.
    pub async fn access(&self, binding: &Binding) -> Result<Access, AccessError> {
        let wants = requested_keys(&binding.mapping);
        let decided = self.decide(binding, &wants);
        // No account gives back a grant that ended.
        if matches!(decided, Err(GrantError::Expired { .. })) || !self.needs_account(binding, &wants) {
            return Ok(decided?);
        }
        match self.ask_account().await {
            Ok(_) => Ok(self.decide(binding, &wants)?),
            // Another grant may name the account itself.
            Err(error) => decided.map_err(|_| error.into()),
        }
    }

    /// Whether the account of the operator's own identity decides over a binding and is not known yet.
    #[must_use]
    pub fn needs_account(&self, binding: &Binding, wants: &BTreeMap<SecretId, RequestedKeys>) -> bool {
        if self.account.known().is_some() || !wants.keys().any(|secret| matches!(secret, SecretId::Arn(_))) {
            return false;
        }
        let namespace = self.namespaces.get(&ObjectRef::new(&binding.namespace));
        let requester = requester(binding, namespace.as_deref());
        let grants = self.readable_grants();
        needs_account(self.candidates(&grants, requester), requester, wants, self.settings.region.as_deref())
    }

    async fn ask_account(&self) -> Result<String, SourceError> {
        let region = self.settings.region.clone().or_else(|| {
            self.readable_grants().iter().find_map(|grant| grant.spec.aws.as_ref().and_then(|aws| aws.region.clone()))
        });
        let (reader, identity) = (self.reader.clone(), Identity { region, ..Identity::default() });
        self.account.get(|| async move { reader.account(&identity).await }).await
    }

    /// The grants with their rules, where they may serve the requester.
    fn candidates<'a>(
        &self,
        grants: &'a [Arc<SecretGrant>],
        requester: Requester<'_>,
    ) -> impl Iterator<Item = GrantCandidate<'a>> {
        grants.iter().map(move |grant| {
            let rules = is_candidate(grant, requester).then(|| self.rules.of(grant, requester.namespace));
            GrantCandidate { grant, rules }
        })
    }

    /// What the grant of a binding allows, by what is known at present.
    ///
    /// # Errors
    /// Where no grant serves it.
    pub fn decide(&self, binding: &Binding, wants: &BTreeMap<SecretId, RequestedKeys>) -> Result<Access, GrantError> {
        let home = Home { region: self.settings.region.clone(), account: self.account.known() };
        let namespace = self.namespaces.get(&ObjectRef::new(&binding.namespace));
        let requester = requester(binding, namespace.as_deref());
        let grants = self.readable_grants();
        self.rules.keep(&grants);
        let now = Timestamp::now();
        let decided = decide(self.candidates(&grants, requester), requester, wants, &home, now);
        let access = decided.map_err(|error| match error {
            GrantError::NotFound(name) if self.grants.get(&ObjectRef::new(&name)).is_some() => {
                GrantError::Unreadable(name)
            }
            error => explained(error, grants.iter().map(AsRef::as_ref), requester, wants, now),
        })?;
        if let Some(account) = &access.identity.service_account
            && let Err(off) = self.settings.features.require(Feature::ServiceAccountTokens)
        {
            return Err(GrantError::Off { grant: access.grant.clone(), account: account.name.clone(), off });
        }
        self.check_metadata(&binding.target, &access)?;
        Ok(access)
    }

    /// Whether the operator's flag or the grant allows the labels and annotations of a target.
    fn check_metadata(&self, target: &BindingTarget, access: &Access) -> Result<(), GrantError> {
        let labels = target.labels.keys().map(|key| ("spec.target.labels", key));
        let annotations = target.annotations.keys().map(|key| ("spec.target.annotations", key));
        let judged = labels.chain(annotations).filter_map(|(field, key)| {
            judge_metadata(key, &self.metadata, &access.metadata).err().map(|refusal| (field, key, refusal))
        });
        let mut refused: Vec<_> = judged.collect();
        // What only the flag allows is said first, since another sentence stands for it.
        refused.sort_by_key(|(.., refusal)| *refusal != MetadataRefusal::NeedsFlag);
        let Some(((field, key, refusal), others)) = refused.split_first() else { return Ok(()) };
        let needs_flag = *refusal == MetadataRefusal::NeedsFlag;
        let others = others.iter().filter(|(.., other)| other == refusal).take(10);
        Err(GrantError::Metadata {
            grant: access.grant.clone(),
            field,
            key: (*key).clone(),
            needs_flag,
            others: others.map(|(field, key, _)| format!("{field}: {key:?}")).collect(),
        })
    }

    /// Whether a namespace consents to Jobs of Bindery.
    #[must_use]
    pub fn permits_jobs(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(namespace)).is_some_and(|namespace| namespace.permits_jobs())
    }

    /// Whether the grant still allows a secret that AWS answered for: by the grants as they are now, and by the ARN and
    /// the name in the answer.
    #[must_use]
    pub fn still_permits(&self, binding: &AuthorizedBinding, secret: &SecretId, answered: &SecretVersion) -> bool {
        let AuthorizedBinding { binding, access, .. } = binding;
        let (arn, name) = (&answered.arn, &answered.name);
        let wants = requested_keys(&binding.mapping);
        self.decide(binding, &wants).is_ok_and(|now| {
            now.grant == access.grant
                && now.generation == access.generation
                && now.identity == access.identity
                && now.permits(arn, name)
                && wants.get(secret).is_some_and(|wants| now.permits_request(name, wants))
        })
    }

    /// A check of an answer of AWS, made after the read: the grants may have changed since the request, and only the
    /// answer tells the ARN and the name. `select` names the JSON keys that the binding takes of it.
    #[must_use]
    pub fn check(
        self: &Arc<Self>,
        binding: &AuthorizedBinding,
        secret: &SecretId,
        select: impl Fn(&SecretVersion) -> Selection + Send + Sync + 'static,
    ) -> AnswerCheck {
        let (authorization, binding, secret) = (self.clone(), binding.clone(), secret.clone());
        Arc::new(move |version| {
            if authorization.still_permits(&binding, &secret, version) {
                Ok(select(version))
            } else {
                Err(SourceErrorKind::NotGranted)
            }
        })
    }
}

fn requester<'a>(binding: &'a Binding, namespace: Option<&'a NamespaceObject>) -> Requester<'a> {
    Requester {
        namespace: &binding.namespace,
        labels: namespace.map(ResourceExt::labels),
        grant: binding.grant.as_deref(),
    }
}

impl AuthorizedBinding {
    /// A request for a value, for this binding. `version_id` is the version, where it is known.
    #[must_use]
    pub fn asks(&self, reason: ReadReason, version_id: Option<String>, check: AnswerCheck) -> ReadRequest {
        ReadRequest { binding: self.name.clone(), grant: self.access.grant.clone(), reason, version_id, check }
    }
}
