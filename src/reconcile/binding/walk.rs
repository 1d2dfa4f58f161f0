//! The look at the older versions of a secret, to find out since when keys have their values: after the publication and
//! beside the passes, at most once for each key, once for all bindings that ask at about the same time. Each value that is read goes through
//! the [`Reader`](crate::aws::reader::Reader), with the grant judged for each binding and with a record.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::api::KeyAge;
use crate::aws::audit::ReadReason;
use crate::aws::read_request::{ReadRequest, Selection};
use crate::aws::versions::snapshot::SnapshotRequest;
use crate::domain::binding::Binding;
use crate::domain::grant::Access;
use crate::domain::name::BindingName;
use crate::domain::rotation::age::{End, ReadVersion, Unaged, Walk, end_of, older};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source, VersionSelector};
use crate::domain::secret::version::ListedVersion;
use crate::reconcile::context::Context;

/// Those who ask gather until nobody came for this long, so that one walk serves many.
const LINGER: Duration = Duration::from_millis(250);
/// They gather for at most this long.
const LONGEST_LINGER: Duration = Duration::from_secs(3);
/// A walk that takes longer is given up for now.
const WALK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process that ends waits for reads under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One secret as one identity sees it, from one version back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Path {
    identity: Identity,
    secret: SecretId,
    version_id: String,
}

/// A binding that wants to know since when its keys have their values.
struct Request {
    binding: Arc<Binding>,
    name: BindingName,
    access: Arc<Access>,
    unaged: BTreeMap<String, Unaged>,
    answer: oneshot::Sender<Option<BTreeMap<String, KeyAge>>>,
}

/// The walks under way: those who wait for one, by what is walked, and what was found, until a pass takes it.
pub struct Walks {
    waiting: Mutex<HashMap<Path, Vec<Request>>>,
    found: Mutex<HashMap<BindingName, BTreeMap<String, KeyAge>>>,
    /// How many bindings wait.
    running: watch::Sender<usize>,
    stopping: AtomicBool,
}

impl Default for Walks {
    fn default() -> Self {
        let (running, _) = watch::channel(0);
        Self { waiting: Mutex::default(), found: Mutex::default(), running, stopping: AtomicBool::new(false) }
    }
}

impl Walks {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Path, Vec<Request>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<BindingName, BTreeMap<String, KeyAge>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was found for a binding; `None` while nothing has come.
    pub(crate) fn take(&self, binding: &BindingName) -> Option<BTreeMap<String, KeyAge>> {
        self.found().remove(binding)
    }

    /// Forgets a deleted binding.
    pub(crate) fn forget(&self, binding: &BindingName) {
        self.found().remove(binding);
    }

    /// Breaks the walks off and waits until the reads under way are on record.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut running = self.running.subscribe();
        // The sender is right here.
        let _ = timeout(STOP_TIMEOUT, running.wait_for(|running| *running == 0)).await;
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// Puts what was found where a pass takes it, and lets one come, also where the walk panics.
struct Finding {
    context: Arc<Context>,
    name: BindingName,
    ages: BTreeMap<String, KeyAge>,
}

impl Finding {
    fn end(mut self, ages: BTreeMap<String, KeyAge>) {
        self.ages = ages;
    }
}

impl Drop for Finding {
    fn drop(&mut self) {
        let walks = &self.context.walks;
        walks.found().insert(self.name.clone(), std::mem::take(&mut self.ages));
        walks.running.send_modify(|running| *running -= 1);
        self.context.trigger(&self.name);
    }
}

/// Lets those who come later begin anew, where the walk that they would wait for panics.
struct Serving {
    context: Arc<Context>,
    path: Path,
    /// Whether nobody waits any more.
    ended: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.ended {
            self.context.walks.waiting().remove(&self.path);
        }
    }
}

impl Context {
    /// Begins to find out since when keys have their values. [`Walks::take`] then answers what is known; what could not
    /// be told for a passing cause is left out.
    pub(crate) fn begin_walk(
        self: &Arc<Self>,
        binding: Arc<Binding>,
        name: BindingName,
        access: Arc<Access>,
        unaged: BTreeMap<String, Unaged>,
    ) {
        self.walks.running.send_modify(|running| *running += 1);
        let finding = Finding { context: self.clone(), name, ages: BTreeMap::new() };
        tokio::spawn(async move {
            let ages = finding.context.find_ages(&binding, &finding.name, &access, &unaged).await;
            finding.end(ages);
        });
    }

    async fn find_ages(
        self: &Arc<Self>,
        binding: &Arc<Binding>,
        name: &BindingName,
        access: &Arc<Access>,
        unaged: &BTreeMap<String, Unaged>,
    ) -> BTreeMap<String, KeyAge> {
        let mut paths: HashMap<Path, BTreeMap<String, Unaged>> = HashMap::new();
        for (key, one) in unaged {
            let secret = one.trace.entry.source.secret.clone();
            let version_id = one.trace.version.version_id.clone();
            let path = Path { identity: access.identity.clone(), secret, version_id };
            paths.entry(path).or_default().insert(key.clone(), one.clone());
        }
        let walks = paths.into_iter().map(|(path, unaged)| {
            let (answer, answered) = oneshot::channel();
            let (binding, access) = (binding.clone(), access.clone());
            let request = Request { binding, name: name.clone(), access, unaged, answer };
            let first = {
                let mut waiting = self.walks.waiting();
                let first = !waiting.contains_key(&path);
                waiting.entry(path.clone()).or_default().push(request);
                first
            };
            if first {
                tokio::spawn(serve(Serving { context: self.clone(), path, ended: false }));
            }
            // Without an answer the walk has panicked, and a later pass asks again.
            async { answered.await.ok().flatten() }
        });
        futures::future::join_all(walks).await.into_iter().flatten().flatten().collect()
    }
}

/// Walks for those who have gathered, until nobody waits.
async fn serve(mut serving: Serving) {
    let (context, path) = (serving.context.clone(), serving.path.clone());
    loop {
        gather(&context, &path).await;
        let requests = {
            let mut waiting = context.walks.waiting();
            match waiting.get_mut(&path) {
                Some(requests) if !requests.is_empty() => std::mem::take(requests),
                _ => {
                    waiting.remove(&path);
                    serving.ended = true;
                    return;
                }
            }
        };
        let mut walks: Vec<Walk> = requests.iter().map(|request| Walk::new(&request.unaged)).collect();
        let end = timeout(WALK_TIMEOUT, walk(&context, &path, &requests, &mut walks)).await;
        let end = match end {
            Ok(Ok(end)) => Some(end),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the older versions of a secret could not be looked through and are later");
                None
            }
            Err(_) => None,
        };
        for (request, walk) in requests.into_iter().zip(walks) {
            let ages = end.map(|end| walk.end(end));
            let _ = request.answer.send(ages);
        }
    }
}

async fn gather(context: &Context, path: &Path) {
    let (started, mut seen) = (Instant::now(), 0);
    while started.elapsed() < LONGEST_LINGER {
        sleep(LINGER).await;
        let now = context.walks.waiting().get(path).map_or(0, Vec::len);
        if now == seen || now == 0 || context.walks.is_stopping() {
            return;
        }
        seen = now;
    }
}

/// Whether a failure tells that older versions cannot be seen, rather than that they cannot be seen now.
fn is_final(error: &SourceError) -> bool {
    matches!(
        error.kind,
        SourceErrorKind::AccessDenied
            | SourceErrorKind::DecryptionFailed
            | SourceErrorKind::VersionNotFound
            | SourceErrorKind::SecretNotFound
            | SourceErrorKind::SecretPendingDeletion
            | SourceErrorKind::InvalidReference
            | SourceErrorKind::WrongSecret
    )
}

/// Reads one older version after the other for all who still want to know.
async fn walk(
    context: &Arc<Context>,
    path: &Path,
    requests: &[Request],
    walks: &mut [Walk],
) -> Result<End, SourceError> {
    let Some(read) = requests.iter().flat_map(|request| request.unaged.values()).map(|one| &one.trace.version).next()
    else {
        return Ok(End::Beyond);
    };
    let history = match context.reader.versions().history(&path.identity, &path.secret).await {
        Ok(history) if history.iter().any(|version| version.id == read.version_id) => history,
        Ok(_) => return Ok(End::Beyond),
        Err(error) if is_final(&error) => return Ok(End::Beyond),
        Err(error) => return Err(error),
    };
    let back = older(&history, read);
    for version in &back {
        if walks.iter().all(Walk::is_done) {
            return Ok(End::Beyond);
        }
        if context.walks.is_stopping() {
            return Err(SourceError::new(SourceErrorKind::Unavailable, path.secret.to_string()));
        }
        look_into(context, path, version, requests, walks).await?;
    }
    if walks.iter().all(Walk::is_done) {
        return Ok(End::Beyond);
    }
    let created = secret_created(context, path).await?;
    Ok(end_of(&history, &back, read, created))
}

/// Reads one version for all whose walk goes on.
async fn look_into(
    context: &Arc<Context>,
    path: &Path,
    version: &ListedVersion,
    requests: &[Request],
    walks: &mut [Walk],
) -> Result<(), SourceError> {
    let Ok(id) = VersionSelector::id(&version.id) else {
        walks.iter_mut().for_each(Walk::missed);
        return Ok(());
    };
    let source = Source { secret: path.secret.clone(), version: id };
    let open = requests.iter().zip(walks).filter(|(_, walk)| !walk.is_done());
    let reads = open.map(|(request, walk)| {
        let source = &source;
        async move {
            let asker = asker(context, request, version);
            (request, walk, context.reader.read(&path.identity, source, asker).await)
        }
    });
    for (request, walk, answer) in futures::future::join_all(reads).await {
        match answer {
            Ok(read) => {
                let allowed = |member: &str| request.access.permits_key(&read.name, member);
                walk.saw(version.created, |key| {
                    let trace = &request.unaged.get(key)?.trace;
                    trace.fingerprint_in(&read.payload, &request.binding.namespace, &allowed, &context.key)
                });
            }
            Err(error) if is_final(&error) => walk.missed(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn asker(context: &Arc<Context>, request: &Request, version: &ListedVersion) -> ReadRequest {
    let (context, binding, access) = (context.clone(), request.binding.clone(), request.access.clone());
    let entries = || request.unaged.values().map(|one| &one.trace.entry);
    let selection = Selection {
        keys: entries().filter_map(|entry| entry.json_key.clone()).collect(),
        whole_payload: entries().any(|entry| entry.json_key.is_none()),
    };
    let secret = entries().next().map(|entry| entry.source.secret.clone());
    ReadRequest {
        binding: request.name.clone(),
        grant: request.access.grant.clone(),
        reason: ReadReason::Age,
        version_id: Some(version.id.clone()),
        check: Arc::new(move |version| {
            let permits =
                |secret: &SecretId| context.still_permits(&binding, &access, secret, &version.arn, &version.name);
            if secret.as_ref().is_some_and(permits) { Ok(selection.clone()) } else { Err(SourceErrorKind::NotGranted) }
        }),
    }
}

/// When the secret was created. `None` where IAM does not allow to ask.
async fn secret_created(context: &Arc<Context>, path: &Path) -> Result<Option<Timestamp>, SourceError> {
    let want =
        SnapshotRequest { max_age: Duration::ZERO, max_failure_age: Duration::ZERO, confirmed: true, versions: &[] };
    match context.reader.versions().snapshot(&path.identity, &path.secret, &want).await {
        Ok(seen) => Ok(seen.and_then(|seen| seen.description.created)),
        Err(error) if is_final(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The version of each source that was read.
pub(crate) fn read_version(version: &crate::domain::secret::version::SecretVersion) -> ReadVersion {
    ReadVersion { arn: version.arn.clone(), version_id: version.version_id.clone(), created: version.created }
}
