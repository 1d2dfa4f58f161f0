//! Observes the target Secret.

use crate::api::SecretBindingStatus;
use crate::domain::binding::Binding;
use crate::domain::target::record::{data_digest, is_forged, recorded_digest};
use crate::domain::target::{ObservedSecret, ObservedTarget, TargetError, TargetState, is_intact, judge, owned_keys};
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::list::list_secret_names;
use crate::kubernetes::read::{PublishedSecret, read_secret, read_secret_metadata};
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::subject::Subject;

/// One list of names is worth more than this many single reads.
const WORTH: usize = 20;

/// The target with the digest of its data, as fresh as the watch: enough to find that there is nothing to do.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn observe_target(cx: &Context, subject: &Subject<'_>) -> Result<TargetState, Error> {
    let target = match cached(cx, subject) {
        Some(target) => target,
        None => Box::pin(observe_uncached(cx, subject)).await?,
    };
    observe_data(cx, subject, target).await
}

async fn observe_uncached(cx: &Context, subject: &Subject<'_>) -> Result<TargetState, Error> {
    let binding = &subject.binding;
    // A Secret that is absent from the cache may be there without Bindery's label.
    if is_free(cx, &binding.namespace, &binding.target.name).await {
        return Ok(TargetState::Absent);
    }
    observe_live(cx, subject, cx.clients.kubernetes.reads(&binding.namespace)).await
}

/// The target as the cache has it; `None` where it has none.
#[must_use]
pub fn cached(cx: &Context, subject: &Subject<'_>) -> Option<TargetState> {
    let binding = &subject.binding;
    let secret = cx.state.targets.get(&binding.namespace, &binding.target.name)?;
    Some(judged(subject, Some(&secret)))
}

/// The target as the API server has it: what a write rests on.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn observe_live(cx: &Context, subject: &Subject<'_>, client: ReadClient<'_>) -> Result<TargetState, Error> {
    let binding = &subject.binding;
    let name = &binding.target.name;
    let meta = read_secret_metadata(client, &binding.namespace, name).await.map_err(|error| unread(name, &error))?;
    let secret = meta.map(|meta| ObservedSecret::new(&meta, &cx.key));
    Ok(judged(subject, secret.as_ref()))
}

/// The same with its values.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn observe_with_values(
    cx: &Context,
    subject: &Subject<'_>,
    client: ReadClient<'_>,
) -> Result<(TargetState, Option<PublishedSecret>), Error> {
    let binding = &subject.binding;
    let name = &binding.target.name;
    let read = read_secret(client, &binding.namespace, name).await.map_err(|error| unread(name, &error))?;
    let secret = read.as_ref().map(|read| ObservedSecret::new(&read.meta, &cx.key));
    let mut target = judged(subject, secret.as_ref());
    if let (TargetState::Owned(observed), Some(read)) = (&mut target, &read) {
        let own = owned_keys(&read.meta);
        let data = read.data.iter().filter(|(key, _)| own.contains(*key)).map(|(key, value)| (key.as_str(), value));
        observed.digest = Some(data_digest((&binding.namespace, name), data, &cx.key).into());
    }
    Ok((target, read))
}

/// The same target with the digest of its data. A Secret at another resource version than the one on record is read
/// once: metadata show who wrote a field, and not what.
async fn observe_data(cx: &Context, subject: &Subject<'_>, target: TargetState) -> Result<TargetState, Error> {
    match &target {
        TargetState::Owned(observed) if observed.digest.is_none() && is_intact(observed) => {
            Ok(observe_with_values(cx, subject, cx.clients.kubernetes.reads(&subject.binding.namespace)).await?.0)
        }
        _ => Ok(target),
    }
}

/// The target, where it is as Bindery published it: it owns each field, and nobody changed a value.
#[must_use]
pub fn intact(cx: &Context, subject: &Subject<'_>, target: &TargetState) -> Option<Box<ObservedTarget>> {
    match target {
        TargetState::Owned(observed)
            if is_intact(observed) && !is_forged(subject.before, &subject.binding.target.name, observed, &cx.key) =>
        {
            Some(Box::new(observed.clone()))
        }
        _ => None,
    }
}

/// Judges the Secret under the target's name, with what is on record of it.
fn judged(subject: &Subject<'_>, secret: Option<&ObservedSecret>) -> TargetState {
    let binding = &subject.binding;
    let mut target = judge(binding, secret, is_published(binding, subject.before));
    if let TargetState::Owned(observed) = &mut target {
        observed.digest = recorded_digest(subject.before, &binding.target.name, observed);
    }
    target
}

/// A target that is not the binding's, as an error.
///
/// # Errors
/// Where it belongs to somebody else.
pub fn refuse_foreign(binding: &Binding, target: &TargetState) -> Result<(), Error> {
    match target {
        TargetState::Foreign(why) => {
            Err(TargetError::Foreign { name: binding.target.name.clone(), why: why.clone() }.into())
        }
        TargetState::Absent | TargetState::Owned(_) | TargetState::Adoptable(_) => Ok(()),
    }
}

/// Whether it is known, without a request for this binding alone, that there is no Secret of this name.
async fn is_free(cx: &Context, namespace: &str, name: &str) -> bool {
    let waiting = || cx.state.warmup.targets.left_in(namespace);
    let Some(names) = cx.state.secret_names.of(namespace, || waiting() > WORTH) else { return false };
    let most = waiting() / WORTH;
    // A namespace that cannot be listed is read name by name, which tells why.
    let list = async || list_secret_names(cx.clients.kubernetes.reads(namespace), namespace, most).await.ok().flatten();
    names.get_or_init(list).await.as_ref().is_some_and(|names| !names.contains(name))
}

fn is_published(binding: &Binding, status: &SecretBindingStatus) -> bool {
    status.binding.as_ref().is_some_and(|published| published.name == binding.target.name)
}

fn unread(name: &str, error: &kube::Error) -> WriteError {
    match error {
        kube::Error::Api(status) if status.code == 403 => WriteError::Forbidden { name: name.to_owned(), user: None },
        _ => {
            let what = "the API server does not tell whether it exists".to_owned();
            WriteError::Failed { name: name.to_owned(), what }
        }
    }
}
