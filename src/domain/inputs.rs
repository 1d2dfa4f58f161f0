//! The digest of all that decides the content of a target.

use std::collections::BTreeMap;

use crate::domain::binding::Binding;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::grant::Access;
use crate::domain::render::mapping::RENDER_REVISION;
use crate::domain::secret::reference::{Source, VersionSelector};
use crate::domain::secret::version::VersionRef;

/// The digest of all that decides the content of the target; `records` are those of its overlaps.
#[must_use]
pub fn inputs(
    binding: &Binding,
    access: &Access,
    versions: &BTreeMap<Source, VersionRef>,
    records: Option<&str>,
    key: &FingerprintKey,
) -> String {
    let revision = RENDER_REVISION.to_string();
    let mut parts = vec![revision, binding.fingerprint_input.clone()];
    for (source, known) in versions {
        let keys = access.keys_text(&known.name);
        parts.extend([source_text(source), known.arn.clone(), known.version_id.clone(), keys]);
    }
    parts.extend(records.map(|records| format!("records\n{records}")));
    key.digest("inputs", parts.iter().map(String::as_str))
}

/// A source as the status shows it.
#[must_use]
pub fn source_text(source: &Source) -> String {
    match &source.version {
        VersionSelector::Stage(stage) if stage == "AWSCURRENT" => source.secret.to_string(),
        VersionSelector::Stage(version) | VersionSelector::Id(version) => format!("{}@{version}", source.secret),
    }
}
