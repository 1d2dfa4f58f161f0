//! Secrets Manager in memory, with its documented effects, for the tests of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::aws::api::{Batch, NewVersion, SecretPage, SecretsApi, StageMove, VersionPage};
use crate::domain::payload::Payload;
use crate::domain::secret::description::{Description, RotationDates};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{AWSCURRENT, SecretId, VersionSelector};
use crate::domain::secret::version::{ListedVersion, SecretVersion};

/// The random suffix of all ARNs.
const SUFFIX: &str = "-AbCdEf";
/// The time that a description or a list takes.
const LATENCY: Duration = Duration::from_millis(10);

/// Secrets Manager in memory. Clones share the secrets.
#[derive(Clone, Default)]
pub(crate) struct FakeSecretsManager {
    state: Arc<Mutex<FakeState>>,
    stopped: Arc<Notify>,
}

/// The secrets, the requests so far, and the faults to come.
#[derive(Default)]
pub(crate) struct FakeState {
    /// The secrets by name.
    pub(crate) secrets: BTreeMap<String, FakeSecret>,
    /// The answer of `ListSecrets`, which may lag behind the secrets.
    pub(crate) listed: BTreeMap<String, Description>,
    /// The pages of `ListSecretVersionIds`, for any secret.
    pub(crate) history: Vec<Vec<ListedVersion>>,
    /// The requests, such as `describe app`.
    pub(crate) requests: Vec<String>,
    /// The errors of `DescribeSecret`, by the name of the secret.
    pub(crate) describe_errors: BTreeMap<String, SourceErrorKind>,
    pub(crate) list_error: Option<SourceErrorKind>,
    pub(crate) put_error: Option<SourceErrorKind>,
    pub(crate) stop: Option<StopPoint>,
    edits: Vec<(usize, Edit)>,
}

/// A change by another client.
type Edit = Box<dyn FnOnce(&mut FakeState) + Send>;

/// The request at which the operator stops.
#[derive(Clone, Copy)]
pub(crate) struct StopPoint {
    /// The number of the request, from 0.
    pub(crate) request: usize,
    /// Whether AWS applies the request, so that only its answer is lost.
    pub(crate) applied: bool,
}

/// One secret.
#[derive(Clone, Default)]
pub(crate) struct FakeSecret {
    pub(crate) arn: String,
    /// The texts by version id.
    pub(crate) versions: BTreeMap<String, String>,
    /// The version ids by version stage.
    pub(crate) stages: BTreeMap<String, String>,
    /// How often a request moved AWSCURRENT.
    pub(crate) promotions: u32,
}

impl FakeSecretsManager {
    pub(crate) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets the version stages of a secret, for descriptions and lists.
    pub(crate) fn set_stages(&self, name: &str, stages: &[(&str, &str)]) {
        self.set_described(name, stages);
        self.state().listed.insert(name.to_owned(), description(name, stages));
    }

    /// Sets the version stages of a secret for descriptions alone, as pairs of version and stage.
    pub(crate) fn set_described(&self, name: &str, stages: &[(&str, &str)]) {
        let mut secret = FakeSecret { arn: arn(name), ..FakeSecret::default() };
        secret.stages = stages.iter().map(|(version, stage)| ((*stage).to_owned(), (*version).to_owned())).collect();
        self.state().secrets.insert(name.to_owned(), secret);
    }

    /// Adds a secret with one version, `v0`, at AWSCURRENT.
    pub(crate) fn add_text(&self, name: &str, text: &str) {
        self.set_stages(name, &[("v0", AWSCURRENT)]);
        self.state().secrets.get_mut(name).unwrap().versions.insert("v0".to_owned(), text.to_owned());
    }

    /// Applies `edit` right before the request with this number.
    pub(crate) fn edit_before(&self, request: usize, edit: impl FnOnce(&mut FakeState) + Send + 'static) {
        self.state().edits.push((request, Box::new(edit)));
    }

    /// Removes and returns the requests so far.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// Waits until a request reached the [`StopPoint`].
    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Handles a request: applies the edits that are due, stops where a stop is due, and answers.
    async fn handle<T>(
        &self,
        request: String,
        answer: impl FnOnce(&mut FakeState) -> Result<T, SourceError> + Send,
    ) -> Result<T, SourceError> {
        let stop = {
            let mut state = self.state();
            let number = state.requests.len();
            state.requests.push(request);
            let (due, later) = std::mem::take(&mut state.edits).into_iter().partition(|(at, _)| *at == number);
            state.edits = later;
            let due: Vec<(usize, Edit)> = due;
            for (_, edit) in due {
                edit(&mut state);
            }
            state.stop.filter(|stop| stop.request == number)
        };
        if stop.is_some_and(|stop| !stop.applied) {
            self.stop().await;
        }
        let result = answer(&mut self.state());
        if stop.is_some() {
            self.stop().await;
        }
        result
    }

    /// Never returns: the answer is lost.
    async fn stop(&self) {
        self.stopped.notify_one();
        std::future::pending::<()>().await;
    }
}

impl FakeState {
    /// The requests that write.
    pub(crate) fn writes(&self) -> Vec<String> {
        let is_write = |request: &&String| request.starts_with("put ") || request.starts_with("move ");
        self.requests.iter().filter(is_write).cloned().collect()
    }
}

impl FakeSecret {
    /// The text at AWSCURRENT.
    pub(crate) fn current(&self) -> &str {
        &self.versions[&self.stages[AWSCURRENT]]
    }

    /// Writes a new version at AWSCURRENT, as another client does.
    pub(crate) fn edit(&mut self, from: &str, to: &str) {
        let id = format!("edit-{}", self.versions.len());
        let text = self.current().replace(from, to);
        self.versions.insert(id.clone(), text);
        self.move_current(&id);
    }

    fn move_current(&mut self, to: &str) {
        let from = self.stages.insert(AWSCURRENT.to_owned(), to.to_owned());
        self.stages.extend(from.map(|from| ("AWSPREVIOUS".to_owned(), from)));
    }

    fn read(&self, name: &str, version: &VersionSelector) -> Result<SecretVersion, SourceError> {
        let id = match version {
            VersionSelector::Stage(stage) => self.stages.get(stage),
            VersionSelector::Id(id) => Some(id),
        };
        let Some((id, text)) = id.and_then(|id| Some((id, self.versions.get(id)?))) else {
            return Err(SourceError::new(SourceErrorKind::VersionNotFound, name));
        };
        Ok(version_of(name, id, text))
    }
}

/// The ARN of a secret.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}{SUFFIX}")
}

/// The description of a secret with these pairs of version and version stage.
pub(crate) fn description(name: &str, stages: &[(&str, &str)]) -> Description {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (version, stage) in stages {
        versions.entry((*version).to_owned()).or_default().insert((*stage).to_owned());
    }
    Description {
        arn: arn(name),
        name: name.to_owned(),
        versions,
        pending_deletion: false,
        created: None,
        rotation: RotationDates::default(),
    }
}

/// The answer of a read.
pub(crate) fn version_of(name: &str, id: &str, text: &str) -> SecretVersion {
    SecretVersion {
        arn: arn(name),
        name: name.to_owned(),
        version_id: id.to_owned(),
        created: None,
        payload: Payload::text(text.to_owned()),
        request_id: None,
        lost_attempts: 0,
    }
}

fn name_of(secret: &SecretId) -> String {
    match secret {
        SecretId::Name(name) => name.clone(),
        SecretId::Arn(arn) => arn.resource.trim_end_matches(SUFFIX).to_owned(),
    }
}

impl SecretsApi for FakeSecretsManager {
    fn describe<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
    ) -> BoxFuture<'a, Result<Description, SourceError>> {
        async move {
            tokio::time::sleep(LATENCY).await;
            let name = name_of(secret);
            self.handle(format!("describe {name}"), |state| {
                let not_found = (!state.secrets.contains_key(&name)).then_some(SourceErrorKind::SecretNotFound);
                if let Some(kind) = state.describe_errors.get(&name).copied().or(not_found) {
                    return Err(SourceError::new(kind, name));
                }
                let secret = &state.secrets[&name];
                let stages: Vec<(&str, &str)> = secret.stages.iter().map(|(s, v)| (v.as_str(), s.as_str())).collect();
                Ok(Description { arn: secret.arn.clone(), ..description(&name, &stages) })
            })
            .await
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
        version: &'a VersionSelector,
    ) -> BoxFuture<'a, Result<SecretVersion, SourceError>> {
        let name = name_of(secret);
        async move {
            tokio::time::sleep(LATENCY).await;
            self.handle(format!("read {name}"), move |state| state.secrets[&name].read(&name, version)).await
        }
        .boxed()
    }

    fn read_batch<'a>(&'a self, _: &'a Identity, _: &'a [SecretId]) -> BoxFuture<'a, Result<Batch, SourceError>> {
        unreachable!("no test reads several secrets at AWSCURRENT")
    }

    fn list<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a [String],
        _: Option<String>,
    ) -> BoxFuture<'a, Result<SecretPage, SourceError>> {
        async move {
            tokio::time::sleep(LATENCY).await;
            self.handle("list".to_owned(), |state| match state.list_error {
                Some(kind) => Err(SourceError::new(kind, "all")),
                None => Ok(SecretPage { secrets: state.listed.values().cloned().collect(), next: None }),
            })
            .await
        }
        .boxed()
    }

    fn list_versions<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<VersionPage, SourceError>> {
        let number = page.map_or(0, |page| page.parse().unwrap());
        self.handle(format!("versions {number}"), move |state| {
            let next = (number + 1 < state.history.len()).then(|| (number + 1).to_string());
            Ok(VersionPage { versions: state.history[number].clone(), next })
        })
        .boxed()
    }

    fn put<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
        version: NewVersion<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        let NewVersion { token, text, stages } = version;
        let name = name_of(secret);
        self.handle(format!("put {name} {stages:?}"), move |state| {
            if let Some(kind) = state.put_error {
                return Err(SourceError::new(kind, "s"));
            }
            let text = String::from_utf8(text.expose().to_vec()).unwrap();
            let secret = state.secrets.get_mut(&name).unwrap();
            if secret.versions.get(token).is_some_and(|known| *known != text) {
                return Err(SourceError::new(SourceErrorKind::TokenTaken, "s"));
            }
            secret.versions.insert(token.to_owned(), text);
            for stage in stages {
                secret.stages.insert((*stage).to_owned(), token.to_owned());
            }
            Ok(None)
        })
        .boxed()
    }

    fn move_stage<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
        stage: StageMove<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        let StageMove { stage, from, to } = stage;
        let name = name_of(secret);
        self.handle(format!("move {name} {stage}"), move |state| {
            let secret = state.secrets.get_mut(&name).unwrap();
            if secret.stages.get(stage).map(String::as_str) != from {
                return Err(SourceError::new(SourceErrorKind::StageMoved, "s"));
            }
            match to {
                Some(to) if stage == AWSCURRENT => {
                    secret.promotions += 1;
                    secret.move_current(to);
                }
                Some(to) => {
                    secret.stages.insert(stage.to_owned(), to.to_owned());
                }
                None => {
                    secret.stages.remove(stage);
                }
            }
            Ok(None)
        })
        .boxed()
    }

    fn rotate<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        unreachable!("no test starts a rotation")
    }

    fn account<'a>(&'a self, _: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>> {
        unreachable!("no test requests the account")
    }
}
