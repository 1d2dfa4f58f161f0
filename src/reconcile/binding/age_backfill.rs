//! Reads the older versions of a secret, to find out when keys got their values: after the publication and beside the
//! reconciles, at most once for each key, once for all bindings that ask at about the same time. Each value that is
//! read goes through the [`Reader`](crate::aws::reader::Reader), with the grant checked for each binding and with a
//! record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::api::KeyAge;
use crate::aws::audit::ReadReason;
use crate::aws::read_request::{ReadRequest, Selection};
use crate::aws::versions::snapshot::SnapshotRequest;
use crate::domain::name::BindingName;
use crate::domain::rotation::age::UnknownAge;
use crate::domain::rotation::backfill::{Backfill, BackfillEnd, backfill_end, older_versions};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::{Source, VersionSelector};
use crate::domain::secret::version::ListedVersion;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::context::Context;
use crate::state::age_backfill::{BackfillPath, BackfillRequest};

/// Requests gather until none came for this long, so that one backfill serves many.
const LINGER: Duration = Duration::from_millis(250);
/// Requests gather for at most this long.
const LONGEST_LINGER: Duration = Duration::from_secs(3);
/// A backfill that takes longer is given up for now.
const BACKFILL_TIMEOUT: Duration = Duration::from_secs(60);

/// Puts what was found where a reconcile takes it, and triggers one, also where the backfill panics.
struct Finding {
    cx: Arc<Context>,
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
        self.cx.state.backfills.end(&self.name, std::mem::take(&mut self.ages));
        self.cx.state.requeue.trigger(&self.name);
    }
}

/// Lets later requests begin anew, where the backfill that they would wait for panics.
struct Serving {
    cx: Arc<Context>,
    path: BackfillPath,
    /// Whether no request waits any more.
    ended: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.ended {
            self.cx.state.backfills.abandon(&self.path);
        }
    }
}

/// Starts the age backfill of keys whose age is unknown. The state then holds the ages. A key whose versions could not
/// be read for a passing cause is left out.
pub fn begin_backfill(cx: &Arc<Context>, authorized: &AuthorizedBinding, unknown: BTreeMap<String, UnknownAge>) {
    cx.state.backfills.begin();
    let finding = Finding { cx: cx.clone(), name: authorized.name.clone(), ages: BTreeMap::new() };
    let authorized = authorized.clone();
    tokio::spawn(async move {
        let ages = find_ages(&finding.cx, &authorized, &unknown).await;
        finding.end(ages);
    });
}

async fn find_ages(
    cx: &Arc<Context>,
    authorized: &AuthorizedBinding,
    unknown: &BTreeMap<String, UnknownAge>,
) -> BTreeMap<String, KeyAge> {
    let AuthorizedBinding { binding, name, access } = authorized;
    let mut paths: HashMap<BackfillPath, BTreeMap<String, UnknownAge>> = HashMap::new();
    for (key, one) in unknown {
        let secret = one.trace.entry.source.secret.clone();
        let version_id = one.trace.version.version_id.clone();
        let path = BackfillPath { identity: access.identity.clone(), secret, version_id };
        paths.entry(path).or_default().insert(key.clone(), one.clone());
    }
    let backfills = paths.into_iter().map(|(path, unknown)| {
        let (answer, answered) = oneshot::channel();
        let (binding, access) = (binding.clone(), access.clone());
        let request = BackfillRequest { binding, name: name.clone(), access, unknown, answer };
        if cx.state.backfills.enqueue(&path, request) {
            tokio::spawn(serve(Serving { cx: cx.clone(), path, ended: false }));
        }
        // Without an answer the backfill has panicked, and a later reconcile asks again.
        async { answered.await.ok().flatten() }
    });
    futures::future::join_all(backfills).await.into_iter().flatten().flatten().collect()
}

/// Serves the requests that have gathered, until none waits.
async fn serve(mut serving: Serving) {
    let (cx, path) = (serving.cx.clone(), serving.path.clone());
    loop {
        gather(&cx, &path).await;
        let Some(requests) = cx.state.backfills.next(&path) else {
            serving.ended = true;
            return;
        };
        let mut backfills: Vec<Backfill> = requests.iter().map(|request| Backfill::new(&request.unknown)).collect();
        let end = match timeout(BACKFILL_TIMEOUT, backfill(&cx, &path, &requests, &mut backfills)).await {
            Ok(Ok(end)) => Some(end),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the older versions of a secret could not be read; they are read later");
                None
            }
            Err(_) => None,
        };
        for (request, backfill) in requests.into_iter().zip(backfills) {
            let ages = end.map(|end| backfill.end(end));
            let _ = request.answer.send(ages);
        }
    }
}

async fn gather(cx: &Context, path: &BackfillPath) {
    let (started, mut seen) = (Instant::now(), 0);
    while started.elapsed() < LONGEST_LINGER {
        sleep(LINGER).await;
        let now = cx.state.backfills.count(path);
        if now == seen || now == 0 || cx.state.backfills.is_stopping() {
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
async fn backfill(
    cx: &Arc<Context>,
    path: &BackfillPath,
    requests: &[BackfillRequest],
    backfills: &mut [Backfill],
) -> Result<BackfillEnd, SourceError> {
    abandon_unwanted(cx, requests, backfills);
    if backfills.iter().all(Backfill::is_done) {
        return Ok(BackfillEnd::Beyond);
    }
    let Some(read) = requests.iter().flat_map(|request| request.unknown.values()).map(|one| &one.trace.version).next()
    else {
        return Ok(BackfillEnd::Beyond);
    };
    let payers = requests.iter().map(|request| &*request.binding.namespace).collect();
    let history = match cx.clients.reader.versions().history(&path.identity, &path.secret, &payers).await {
        Ok(history) if history.iter().any(|version| version.id == read.version_id) => history,
        Ok(_) => return Ok(BackfillEnd::Beyond),
        Err(error) if is_final(&error) => return Ok(BackfillEnd::Beyond),
        Err(error) => return Err(error),
    };
    let back = older_versions(&history, read);
    for version in &back {
        abandon_unwanted(cx, requests, backfills);
        if backfills.iter().all(Backfill::is_done) {
            return Ok(BackfillEnd::Beyond);
        }
        if cx.state.backfills.is_stopping() {
            return Err(SourceError::new(SourceErrorKind::Unavailable, path.secret.to_string()));
        }
        look_into(cx, path, version, requests, backfills).await?;
    }
    abandon_unwanted(cx, requests, backfills);
    if backfills.iter().all(Backfill::is_done) {
        return Ok(BackfillEnd::Beyond);
    }
    let created = secret_created(cx, path, &payers).await?;
    Ok(backfill_end(&history, &back, read, created))
}

/// Ends the backfills of bindings that were deleted or suspended meanwhile: those cost no call.
fn abandon_unwanted(cx: &Context, requests: &[BackfillRequest], backfills: &mut [Backfill]) {
    for (request, backfill) in requests.iter().zip(backfills) {
        if !cx.state.bindings.is_active(&request.name, &request.binding.uid) {
            backfill.abandon();
        }
    }
}

/// Reads one version for all whose backfill goes on.
async fn look_into(
    cx: &Arc<Context>,
    path: &BackfillPath,
    version: &ListedVersion,
    requests: &[BackfillRequest],
    backfills: &mut [Backfill],
) -> Result<(), SourceError> {
    let Ok(id) = VersionSelector::id(&version.id) else {
        backfills.iter_mut().for_each(Backfill::add_gap);
        return Ok(());
    };
    let source = Source { secret: path.secret.clone(), version: id };
    let open = requests.iter().zip(backfills).filter(|(_, backfill)| !backfill.is_done());
    let reads = open.map(|(request, backfill)| {
        let source = &source;
        async move {
            let read = request_of(cx, request, version);
            (request, backfill, cx.clients.reader.read(&path.identity, source, read).await)
        }
    });
    for (request, backfill, answer) in futures::future::join_all(reads).await {
        match answer {
            Ok(read) => {
                let allowed = |member: &str| request.access.permits_key(&read.name, member);
                backfill.add_version(version.created, |key| {
                    let trace = &request.unknown.get(key)?.trace;
                    trace.fingerprint_in(&read.payload, &request.binding.namespace, &allowed, &cx.key)
                });
            }
            Err(error) if is_final(&error) => backfill.add_gap(),
            // The grant or the budget of this binding is in the way, not that of the others.
            Err(error) if matches!(error.kind, SourceErrorKind::NotGranted | SourceErrorKind::TenantLimit) => {
                backfill.abandon();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn request_of(cx: &Arc<Context>, request: &BackfillRequest, version: &ListedVersion) -> ReadRequest {
    let BackfillRequest { binding, name, access, .. } = request;
    let authorized = AuthorizedBinding { binding: binding.clone(), name: name.clone(), access: access.clone() };
    let entries = || request.unknown.values().map(|one| &one.trace.entry);
    let selection = Selection {
        keys: entries().filter_map(|entry| entry.json_key.clone()).collect(),
        whole_payload: entries().any(|entry| entry.json_key.is_none()),
    };
    let judge = match entries().next() {
        Some(entry) => cx.authorization.check(&authorized, &entry.source.secret, move |_| selection.clone()),
        None => Arc::new(|_: &_| Err(SourceErrorKind::NotGranted)),
    };
    authorized.asks(ReadReason::Age, Some(version.id.clone()), judge)
}

/// When the secret was created. `None` where IAM does not allow to ask. The first of the namespaces that has a call left
/// pays for it.
async fn secret_created(
    cx: &Arc<Context>,
    path: &BackfillPath,
    payers: &BTreeSet<&str>,
) -> Result<Option<Timestamp>, SourceError> {
    let (max_age, max_failure_age) = (Duration::ZERO, Duration::ZERO);
    let mut refused = SourceError::new(SourceErrorKind::TenantLimit, path.secret.to_string());
    for namespace in payers {
        let want = SnapshotRequest { namespace, max_age, max_failure_age, confirmed: true, versions: &[] };
        match cx.clients.reader.versions().snapshot(&path.identity, &path.secret, &want).await {
            Ok(seen) => return Ok(seen.and_then(|seen| seen.description.created)),
            Err(error) if is_final(&error) => return Ok(None),
            Err(error) if error.kind == SourceErrorKind::TenantLimit => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}
