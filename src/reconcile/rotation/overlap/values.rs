//! The values of an overlap: from what was just read, from what is published, or from an older version.

#![allow(clippy::too_many_arguments, reason = "the object SecretRotation replaces this file")]

use std::sync::Arc;

use crate::api::Reason;
use crate::aws::audit::ReadReason;
use crate::domain::grant::Access;
use crate::domain::note::Note;
use crate::domain::render::encoding::Encoding;
use crate::domain::render::key::TargetKey;
use crate::domain::render::mapping::error::RenderError;
use crate::domain::render::mapping::{Mapping, MappingEntry, Origin, Rendered};
use crate::domain::rotation::record::{Phase, Print, fingerprint};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::{Source, VersionSelector};
use crate::domain::value::Value;
use crate::kubernetes::read::PublishedSecret;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rotation::hold::Hold;
use crate::reconcile::rotation::overlap::observed::{ObservedOverlap, OverlapMaterial};
use crate::reconcile::selection::selection;
use crate::reconcile::subject::Subject;

/// Where the installation's key is another than the record's, what is published tells which values are meant.
pub(crate) fn renew(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    seen: &mut ObservedOverlap,
    old: Option<&PublishedSecret>,
) {
    let Some(record) = &mut seen.record else { return };
    if record.settled.fingerprint.starts_with(cx.key.id()) {
        return;
    }
    let published = |name: &str| old.and_then(|old| old.data.get(name)).map(|value| print(cx, subject, value));
    let under_key = published(seen.key.as_str());
    if let Some(flight) = &mut record.flight {
        let (old_name, new_name) = match flight.phase {
            Phase::Introducing => (seen.key.as_str(), flight.settings.next.as_str()),
            Phase::Promoted | Phase::Reencrypting => (flight.settings.previous.as_str(), seen.key.as_str()),
        };
        flight.old.fingerprint = published(old_name).unwrap_or_default();
        flight.new.fingerprint = published(new_name).unwrap_or_default();
        record.settled.fingerprint.clone_from(&flight.old.fingerprint);
    } else {
        record.settled.fingerprint = under_key.unwrap_or_default();
    }
    // Which value was ignored cannot be told any more.
    record.ignored = None;
}

pub(crate) fn print(cx: &Arc<Context>, subject: &Subject<'_>, value: &Value) -> String {
    fingerprint(&cx.key, &subject.binding.namespace, value)
}

pub(crate) fn hold<'a>(
    subject: &'a Subject<'_>,
    seen: &'a ObservedOverlap,
    material: &OverlapMaterial<'a>,
    selected: &'a Rendered,
) -> Option<Hold<'a>> {
    let origin = selected.origins.get(&seen.key)?;
    Some(Hold {
        binding: subject.name,
        uid: &subject.binding.uid,
        rule: seen.rule.as_ref().map_or(seen.key.as_str(), |(name, _)| name),
        access: material.access,
        key: &seen.key,
        json_key: origin.json_key.as_deref(),
        secret: material.versions.get(&origin.source)?,
    })
}

/// What the source holds under a key.
pub(crate) fn source_of(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    key: &TargetKey,
    material: &OverlapMaterial<'_>,
    selected: &Rendered,
) -> Result<Print, Error> {
    let found = selected.data.get(key).zip(selected.origins.get(key));
    let (value, origin) =
        found.ok_or_else(|| Error::Render(RenderError::OverlapKeyMissing { key: key.clone() }.into()))?;
    let version = material.versions.get(&origin.source).map(|known| known.version_id.clone());
    Ok(Print { fingerprint: print(cx, subject, value), version: version.unwrap_or_default() })
}

/// The value of a fingerprint: from what was just read, from what is published, or from an older version.
pub(crate) async fn value_of(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    print: &Print,
    key: &TargetKey,
    names: &(String, String),
    material: &OverlapMaterial<'_>,
    selected: &Rendered,
    old: Option<&PublishedSecret>,
) -> Result<Option<Value>, Error> {
    let is_meant = |value: &&Value| self::print(cx, subject, value) == print.fingerprint;
    if let Some(value) = selected.data.get(key).filter(is_meant) {
        return Ok(Some(value.clone()));
    }
    let published = [key.as_str(), names.0.as_str(), names.1.as_str()];
    let published = published.iter().filter_map(|name| old.and_then(|old| old.data.get(*name)));
    if let Some(value) = published.into_iter().find(is_meant) {
        return Ok(Some(value.clone()));
    }
    let Some(origin) = selected.origins.get(key) else { return Ok(None) };
    let pinned = (!print.version.is_empty()).then(|| VersionSelector::Id(print.version.clone()));
    let older = VersionSelector::Stage("AWSPREVIOUS".to_owned());
    for version in pinned.into_iter().chain([older]) {
        let value = older_value(cx, subject, key, origin, version, material.access).await?;
        if let Some(value) = value.filter(|value| is_meant(&value)) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The value of a key in another version of its source; `None` where it is not there or may not be read.
async fn older_value(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    key: &TargetKey,
    origin: &Origin,
    version: VersionSelector,
    access: &Arc<Access>,
) -> Result<Option<Value>, Error> {
    let source = Source { secret: origin.source.secret.clone(), version };
    let named = subject.binding.mapping.data.iter().find(|entry| entry.key == *key);
    let entry = MappingEntry {
        key: key.clone(),
        source: source.clone(),
        json_key: origin.json_key.clone(),
        encoding: named.map_or(Encoding::None, |entry| entry.encoding),
        optional: true,
    };
    let mapping = Arc::new(Mapping { data: vec![entry], ..Mapping::default() });
    let of = AuthorizedBinding { binding: subject.binding.clone(), name: subject.name.clone(), access: access.clone() };
    let (taken, by, from) = (mapping.clone(), access.clone(), source.clone());
    let judge = cx.authorization.check(&of, &source.secret, move |version| selection(&taken, &by, &from, version));
    let wanted = match &source.version {
        VersionSelector::Id(id) => Some(id.clone()),
        VersionSelector::Stage(_) => None,
    };
    let asker = of.asks(ReadReason::Overlap, wanted, judge);
    match cx.clients.reader.read(&access.identity, &source, asker).await {
        Ok(version) => {
            let allowed = |_: &Source, key: &str| access.permits_key(&version.name, key);
            let selected = mapping.select(|_| Some(&version.payload), &allowed);
            Ok(selected.ok().and_then(|mut selected| selected.data.remove(key)))
        }
        Err(SourceError {
            kind: SourceErrorKind::VersionNotFound | SourceErrorKind::SecretNotFound | SourceErrorKind::AccessDenied,
            ..
        }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The Event where the old version cannot be kept.
#[must_use]
pub fn only_copy(key: &TargetKey, target: &str) -> Note {
    Note {
        warning: true,
        reason: Reason::OnlyCopy,
        text: format!(
            "the old version of {key} cannot be kept in Secrets Manager (the grant's rotation or IAM does not allow it, or it \
             is gone), so the Secret {target:?} may become the only place that holds the old value: it stays without an \
             owner until the overlap ends"
        ),
    }
}
