//! The ages of keys in a pass: what a read shows of them, and the look at older versions after the publication.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::grant::Access;
use crate::domain::render::mapping::Rendered;
use crate::domain::rotation::age;
use crate::domain::rotation::age::ObservedKey;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::kubernetes::read::read_secret;
use crate::reconcile::binding::pass::Pass;
use crate::reconcile::binding::status::Progress;
use crate::state::history::Memory;

/// How long a look at older versions waits after one that failed.
const WALK_PAUSE: Duration = Duration::from_secs(30);

impl Pass<'_> {
    /// What a read shows of the ruled keys, and whether what was published could be compared where it is needed.
    pub(crate) async fn sights(
        &self,
        selected: &Rendered,
        versions: &BTreeMap<Source, VersionRef>,
    ) -> (BTreeMap<String, ObservedKey>, bool) {
        let Self { binding, context, before, .. } = self;
        let rules = &binding.rotation;
        if rules.is_empty() {
            return (BTreeMap::new(), true);
        }
        let published = if age::needs_published(rules, before, &context.key) {
            read_secret(&context.client, &binding.namespace, &binding.target.name).await
        } else {
            Ok(None)
        };
        let compared = published.is_ok();
        let published = published.ok().flatten().map(|secret| secret.data);
        let (mapping, namespace) = (&binding.mapping, &binding.namespace);
        let read = age::ReadValues { selected, versions, published: published.as_ref() };
        (age::observed_keys(rules, mapping, read, namespace, &context.key), compared)
    }

    /// Notes the ages of the ruled keys after a publication.
    pub(crate) fn age(
        &self,
        (sights, compared): (BTreeMap<String, ObservedKey>, bool),
        memory: &mut Memory,
        progress: &mut Progress,
    ) {
        let aged = age::update(&age::records(self.before), &memory.unaged, sights, compared, &self.context.key);
        if aged.unknown != memory.unaged {
            (memory.unaged, memory.walk_again) = (aged.unknown, None);
        }
        (progress.rotation.ages, progress.rotation.changed) = (Some(aged.records), aged.changed);
    }

    /// Lets it be found out since when keys have their values that have no age yet, and takes what was found. The pass
    /// does not wait for it, and what fails is tried again later: it is no failure of the binding.
    pub(crate) fn find_ages(&self, access: &Arc<Access>, memory: &mut Memory, progress: &mut Progress) {
        let now = Instant::now();
        let ruled = age::ruled(&self.binding.rotation);
        memory.unaged.retain(|key, _| ruled.contains(key.as_str()));
        if let Some(mut found) = self.context.walks.take(self.name) {
            (memory.walking, memory.walk_again) = (false, Some(now + WALK_PAUSE));
            // The value may be another by now.
            found.retain(|key, age| memory.unaged.get(key).is_some_and(|unaged| unaged.fingerprint == age.fingerprint));
            memory.unaged.retain(|key, _| !found.contains_key(key));
            let ages = progress.rotation.ages.take();
            let mut ages = ages.unwrap_or_else(|| age::records(self.before));
            ages.extend(found);
            progress.rotation.ages = Some(ages);
        }
        if memory.unaged.is_empty() || memory.walking || memory.walk_again.is_some_and(|again| again > now) {
            return;
        }
        memory.walking = true;
        self.context.begin_walk(self.binding.clone(), self.name.clone(), access.clone(), memory.unaged.clone());
    }
}
