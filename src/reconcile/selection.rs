//! What a mapping takes of a payload, for the audit record.

use crate::aws::read_request::Selection;
use crate::domain::grant::Access;
use crate::domain::render::mapping::Mapping;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::SecretVersion;

/// What a mapping takes of a payload, as far as the grant allows it, for the audit record.
#[must_use]
pub fn selection(mapping: &Mapping, access: &Access, source: &Source, version: &SecretVersion) -> Selection {
    let of_source = Mapping {
        data_from: mapping.data_from.iter().filter(|extract| extract.source == *source).cloned().collect(),
        data: mapping.data.iter().filter(|entry| entry.source == *source).cloned().collect(),
        ..Mapping::default()
    };
    match of_source.select(|_| Some(&version.payload), &|_, key| access.permits_key(&version.name, key)) {
        Ok(selected) => {
            let used = selected.used_keys().get(source).cloned().unwrap_or_default();
            Selection { keys: used.keys.into_iter().collect(), whole_payload: used.whole }
        }
        // The payload does not give what is asked of it; the record names what is asked.
        Err(_) => Selection {
            keys: of_source.data.iter().filter_map(|entry| entry.json_key.clone()).collect(),
            whole_payload: of_source.data.iter().any(|entry| entry.json_key.is_none()),
        },
    }
}
