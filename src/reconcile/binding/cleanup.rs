//! Deletes what an earlier name of the target left behind.

use crate::api::{DeletionPolicy, FormerTarget};
use crate::domain::target::ObservedSecret;
use crate::domain::target::orphan::{orphan, unproven};
use crate::domain::target::record::former_targets;
use crate::domain::target::referrer::SoughtSecret;
use crate::kubernetes::api_server::{Permit, ReadClient};
use crate::kubernetes::read::read_secret_metadata;
use crate::kubernetes::referrers::{MOST, find_referrers};
use crate::kubernetes::write::delete_secret;
use crate::reconcile::cause::cause;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// What became of the Secrets of earlier names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Those that stay for now.
    pub remaining: Vec<RemainingSecret>,
    /// The names of those that were deleted.
    pub deleted: Vec<String>,
    /// The names of Secrets that carry the owner reference of the binding, but that nothing proves to be its own.
    pub unproven: Vec<String>,
}

/// A Secret of an earlier name that stays for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemainingSecret {
    /// Its name.
    pub name: String,
    /// What it stays for.
    pub why: String,
}

/// Deletes the Secrets of earlier names that nothing refers to. A failure here is no failure of the binding: the Secret
/// under the new name is published. `tidy` is the generation for which none was left. With `Retain` nothing is deleted,
/// since a Secret that outlives its binding outlives a rename as well.
pub async fn cleanup(cx: &Context, at: &Subject<'_>, tidy: Option<i64>, permit: &Permit<'_>) -> Cleaned {
    let binding = &at.binding;
    let mut cleaned = Cleaned::default();
    if tidy == Some(binding.generation) || binding.target.deletion_policy == DeletionPolicy::Retain {
        return cleaned;
    }
    for former in former_targets(at.before, &binding.target.name) {
        match Box::pin(delete(cx, at, &former, permit)).await {
            Fate::Absent => {}
            Fate::Deleted => cleaned.deleted.push(former.name),
            Fate::Stays(why) => cleaned.remaining.push(RemainingSecret { name: former.name, why }),
        }
    }
    let remaining = cleaned.remaining.iter().map(|remaining| &remaining.name);
    let kept: Vec<&String> = cleaned.deleted.iter().chain(remaining).collect();
    let known = |name: &str| kept.iter().any(|known| *known == name);
    let unproven = cx.state.targets.of(&binding.namespace, |targets| {
        unproven(binding, targets.iter().map(|(name, secret)| (name.as_str(), &**secret)), known)
    });
    Cleaned { unproven, ..cleaned }
}

/// What became of a Secret of an earlier name.
enum Fate {
    /// There is none that is proven to be the binding's.
    Absent,
    /// It was deleted.
    Deleted,
    /// It stays for now; the text says what for.
    Stays(String),
}

/// Deletes a Secret that is on record, if it is still what Bindery published and nothing refers to it.
async fn delete(cx: &Context, at: &Subject<'_>, former: &FormerTarget, permit: &Permit<'_>) -> Fate {
    let (namespace, name) = (&at.binding.namespace, &former.name);
    let found = match read_secret_metadata(permit.reads().await, namespace, name).await {
        Ok(found) => found.map(|meta| ObservedSecret::new(&meta, &cx.key)),
        Err(error) => {
            tracing::warn!(%namespace, secret = %name, %error, "a Secret of an earlier name cannot be read, so it stays");
            return Fate::Stays(format!("until it can be read ({})", cause(&error)));
        }
    };
    let Some(orphan) = orphan(&at.binding, former, found.as_ref()) else { return Fate::Absent };
    if let Some(why) = Box::pin(use_of(permit.reads().await, SoughtSecret { namespace, name })).await {
        return Fate::Stays(why);
    }
    match delete_secret(permit.writes().await, namespace, &orphan).await {
        Ok(true) => Fate::Deleted,
        Ok(false) => Fate::Stays("until its present state was looked at".to_owned()),
        Err(error) => {
            tracing::warn!(%namespace, secret = %name, %error, "a Secret of an earlier name could not be deleted");
            Fate::Stays(format!("until it can be deleted: {error}"))
        }
    }
}

/// What a Secret of an earlier name stays for; `None` if nothing refers to it.
///
/// The kinds are listed one after the other. A user that moves meanwhile, from a kind that is yet to be listed to one that
/// was listed before, is in neither list; the second search finds it.
async fn use_of(client: ReadClient<'_>, sought: SoughtSecret<'_>) -> Option<String> {
    let found = match find_referrers(client, sought).await {
        Ok(found) if found.is_empty() => find_referrers(client, sought).await,
        found => found,
    };
    match found {
        Ok(found) if found.is_empty() => None,
        Ok(found) => {
            let others = if found.len() < MOST { "" } else { ", and perhaps others" };
            Some(format!("as long as something refers to it: {}{others}", found.join(", ")))
        }
        Err(error) => {
            let SoughtSecret { namespace, name } = sought;
            tracing::warn!(%namespace, secret = %name, %error, "whether a Secret is in use cannot be told, so it stays");
            let (plural, cause) = (error.plural, cause(&error.source));
            Some(format!("until Bindery can tell whether any of the {plural} refers to it: {cause}"))
        }
    }
}
