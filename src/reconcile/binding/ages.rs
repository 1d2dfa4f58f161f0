//! The ages of the keys that rules name: what a read shows of them, and what a backfill found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{KeyAge, SecretBindingStatus};
use crate::domain::binding::Binding;
use crate::domain::render::mapping::Rendered;
use crate::domain::rotation::age::{self, AgeUpdate, ObservedKey};
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::read::read_secret;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::age_backfill::begin_backfill;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;
use crate::state::history::AgeHistory;

/// How long the next backfill waits after one that failed.
const BACKFILL_PAUSE: Duration = Duration::from_secs(30);

/// What a read shows of the keys that rules name.
#[derive(Default)]
pub struct ObservedKeys {
    keys: BTreeMap<String, ObservedKey>,
    /// Whether what was published could be compared, where that is needed.
    compared: bool,
}

/// What a read shows of the keys that rules name. What was published is read where an age rests on it alone.
pub async fn observe_keys(
    cx: &Context,
    subject: &Subject<'_>,
    selected: &Rendered,
    versions: &BTreeMap<Source, VersionRef>,
    client: ReadClient<'_>,
) -> ObservedKeys {
    let Binding { namespace, mapping, rotation: rules, target, .. } = &*subject.binding;
    if rules.is_empty() {
        return ObservedKeys { keys: BTreeMap::new(), compared: true };
    }
    let published = if age::needs_published(rules, subject.before, &cx.key) {
        read_secret(client, namespace, &target.name).await
    } else {
        Ok(None)
    };
    let compared = published.is_ok();
    let published = published.ok().flatten().map(|secret| secret.data);
    let read = age::ReadValues { selected, versions, published: published.as_ref() };
    let keys = age::observed_keys(rules, mapping, read, namespace, &cx.key);
    ObservedKeys { keys, compared }
}

/// The ages after a publication.
#[must_use]
pub fn update_ages(cx: &Context, before: &SecretBindingStatus, ages: &AgeHistory, observed: ObservedKeys) -> AgeUpdate {
    age::update(&age::records(before), &ages.unknown, observed.keys, observed.compared, &cx.key)
}

/// The ages of a binding.
#[derive(Debug)]
pub struct KnownAges {
    /// The ages for the status; `None` where they are as before.
    pub ages: Option<BTreeMap<String, KeyAge>>,
    /// What is remembered of them.
    pub history: AgeHistory,
}

/// Takes what a backfill found, and begins the next one where keys have no age yet. The reconcile does not wait for it,
/// and what fails is tried again later: it is no failure of the binding.
#[must_use]
pub fn backfill(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    authorized: &AuthorizedBinding,
    known: KnownAges,
) -> KnownAges {
    let now = Instant::now();
    let KnownAges { mut ages, mut history } = known;
    let ruled = age::ruled(&subject.binding.rotation);
    history.unknown.retain(|key, _| ruled.contains(key.as_str()));
    if let Some(mut found) = cx.state.backfills.take(subject.name) {
        (history.running, history.retry_at) = (false, Some(now + BACKFILL_PAUSE));
        // The value may be another by now.
        found.retain(|key, age| history.unknown.get(key).is_some_and(|known| known.fingerprint == age.fingerprint));
        history.unknown.retain(|key, _| !found.contains_key(key));
        let mut known = ages.unwrap_or_else(|| age::records(subject.before));
        known.extend(found);
        ages = Some(known);
    }
    let waits = history.retry_at.is_some_and(|at| at > now);
    if !history.unknown.is_empty() && !history.running && !waits {
        history.running = true;
        begin_backfill(cx, authorized, history.unknown.clone());
    }
    KnownAges { ages, history }
}
