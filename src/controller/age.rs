//! The ages of keys in a pass: what a read shows of them, and the look at older versions after the publication.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::memory::Memory;
use super::pass::Pass;
use super::status::Progress;
use crate::binding::mapping::Rendered;
use crate::binding::reference::Source;
use crate::grant::Access;
use crate::kubernetes::read::read_secret;
use crate::rotation::age::{self, ReadVersion, Sight};

/// How long a look at older versions waits after one that failed.
const WALK_PAUSE: Duration = Duration::from_secs(30);

impl Pass<'_> {
    /// What a read shows of the ruled keys, and whether what was published could be compared where it is needed.
    pub(super) async fn sights(
        &self,
        selected: &Rendered,
        versions: &BTreeMap<Source, ReadVersion>,
    ) -> (BTreeMap<String, Sight>, bool) {
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
        (age::sights(rules, mapping, selected, versions, published.as_ref(), namespace, &context.key), compared)
    }

    /// Notes the ages of the ruled keys after a publication.
    pub(super) fn age(
        &self,
        (sights, compared): (BTreeMap<String, Sight>, bool),
        memory: &mut Memory,
        progress: &mut Progress,
    ) {
        let aged = age::update(&age::records(self.before), &memory.unaged, sights, compared, &self.context.key);
        if aged.unaged != memory.unaged {
            (memory.unaged, memory.walk_again) = (aged.unaged, None);
        }
        (progress.rotation.ages, progress.rotation.changed) = (Some(aged.records), aged.changed);
    }

    /// Finds out since when keys have their values that have no age yet. What fails is tried again later; it is no
    /// failure of the binding.
    pub(super) async fn find_ages(&self, access: &Arc<Access>, memory: &mut Memory, progress: &mut Progress) {
        let now = Instant::now();
        let ruled = age::ruled(&self.binding.rotation);
        memory.unaged.retain(|key, _| ruled.contains(key.as_str()));
        if memory.unaged.is_empty() || memory.walk_again.is_some_and(|again| again > now) {
            return;
        }
        let found = self.context.find_ages(&self.binding, self.name, access, &memory.unaged).await;
        memory.unaged.retain(|key, _| !found.contains_key(key));
        memory.walk_again = (!memory.unaged.is_empty()).then(|| Instant::now() + WALK_PAUSE);
        let mut ages = age::records(self.before);
        ages.extend(found);
        progress.rotation.ages = Some(ages);
    }
}
