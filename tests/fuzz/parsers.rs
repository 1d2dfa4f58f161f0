//! The parsers that read what others wrote, each as a function of bytes that must come to an end without a panic. The
//! fuzzer searches for bytes that break that; `tests/fuzz_corpus.rs` tries again what it found.

use std::collections::BTreeMap;

use bindery::api::{SecretBinding, SecretBindingStatus, SecretGrant};
use bindery::aws::events::message;
use bindery::domain::binding::Binding;
use bindery::domain::duration::Span;
use bindery::domain::fingerprint::FingerprintKey;
use bindery::domain::grant::{self, Home, RequestedKeys, Requester, decide, explained, requested_keys};
use bindery::domain::payload::Payload;
use bindery::domain::render::encoding::Encoding;
use bindery::domain::render::glob::Glob;
use bindery::domain::render::key::{KeyFormat, TargetKey};
use bindery::domain::render::mapping::{Extract, Mapping, MappingEntry};
use bindery::domain::render::template::Template;
use bindery::domain::rollout::changed::Changes;
use bindery::domain::rollout::manifest::WorkloadManifest;
use bindery::domain::rollout::pod::PodManifest;
use bindery::domain::rotation::command::RotationCommand;
use bindery::domain::rotation::record::Records;
use bindery::domain::schedule::Schedule;
use bindery::domain::secret::reference::{SecretId, Source, ValueFrom, VersionSelector};
use bindery::domain::target::referrer::{SoughtSecret, referrer};
use bindery::domain::target::{ObservedSecret, SecretMeta, judge};
use bindery::domain::value::Value;
use bindery::kubernetes::binding_object::BindingObject;
use bindery::kubernetes::grant_object::GrantObject;
use bindery::kubernetes::namespace_object::NamespaceObject;
use bindery::reconcile::binding::attempt::Attempt;
use bindery::reconcile::binding::status::{Findings, status, suspended};
use bindery::reconcile::error::Error;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize as _;
use zeroize::Zeroizing;

/// Reads some bytes with one parser, or with several of one kind.
pub type Parser = fn(&[u8]);

/// The parsers, by name.
pub const PARSERS: [(&str, Parser); 5] =
    [("payload", payload), ("reference", reference), ("template", template), ("event", event), ("object", object)];

/// The longest message of an error. A condition has room for 2 KiB.
const LONGEST_MESSAGE: usize = 2048;

fn said(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.len() <= LONGEST_MESSAGE, "a message of {} bytes: {text}", text.len());
    assert!(!text.contains('\n'), "a message of several lines: {text}");
}

fn app() -> Source {
    Source { secret: SecretId::Name("app".to_owned()), version: VersionSelector::default() }
}

/// Bytes up to the first 0xFF, which no UTF-8 text has, and those behind it.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == 0xFF);
    at.map_or((data, &[]), |at| (&data[..at], &data[at + 1..]))
}

/// A payload, and behind 0xFF a JSON key to look up in it.
fn payload(data: &[u8]) {
    let (bytes, key) = halves(data);
    let key = String::from_utf8_lossy(key).into_owned();
    let is_json = std::str::from_utf8(bytes).is_ok_and(|text| {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    });
    let payload = Payload::binary(bytes.to_vec());
    match payload.object() {
        Ok(object) => {
            assert!(is_json, "another reader refuses it");
            assert!(object.iter().all(|field| object.root(field.key()) == Some(field.key())));
            if let Err(absence) = object.find(&key) {
                said(&absence);
            }
            assert!(object.find(&key).is_err() || object.root(&key).is_some(), "a value outside of every member");
        }
        Err(error) => said(&error),
    }
    let entry = |target: &str, json_key: Option<String>, encoding| MappingEntry {
        key: TargetKey::try_from(target).unwrap(),
        source: app(),
        json_key,
        encoding,
        optional: bytes.len() % 2 == 0,
    };
    for key_format in [KeyFormat::AsIs, KeyFormat::EnvVar] {
        let all = Extract { source: app(), include: vec![], exclude: vec![], prefix: String::new(), key_format };
        let mapping = Mapping {
            data_from: vec![all],
            data: vec![entry("one", Some(key.clone()), Encoding::None), entry("raw", None, Encoding::Base64)],
            text_only: true,
            ..Mapping::default()
        };
        if let Err(error) = mapping.render(&BTreeMap::from([(app(), Payload::binary(bytes.to_vec()))])) {
            said(&error);
        }
    }
    if let Ok(text) = String::from_utf8(bytes.to_vec()) {
        let payload = Payload::text(text);
        let new = BTreeMap::from([(key.as_str(), Value::from("new \"value\""))]);
        match payload.splice(&new) {
            // What was put in is what is read, and the rest is still JSON.
            Ok(spliced) => {
                let spliced = Payload::binary(spliced.expose().to_vec());
                let read = spliced.object().unwrap().find(&key);
                assert_eq!(read.unwrap().expose(), b"new \"value\"");
            }
            Err(error) => said(&error),
        }
    }
}

/// References, names, globs, durations, schedules, and the texts of annotations.
fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ValueFrom::try_from(text) {
        Ok(parsed) => assert!(text.starts_with(&parsed.source.secret.to_string())),
        Err(error) => said(&error),
    }
    match SecretId::try_from(text) {
        Ok(id) => assert_eq!(id.to_string(), text),
        Err(error) => said(&error),
    }
    [VersionSelector::stage(text).err(), VersionSelector::id(text).err()].iter().flatten().for_each(said);
    match Glob::try_from(text) {
        Ok(glob) => assert!(!glob.is_literal() || glob.matches(text)),
        Err(error) => said(&error),
    }
    if let Err(error) = TargetKey::try_from(text) {
        said(&error);
    }
    if let Err(error) = Span::try_from(text) {
        said(&error);
    }
    let (expression, zone) = text.split_once('@').map_or((text, None), |(expression, zone)| (expression, Some(zone)));
    match Schedule::parse(expression, zone) {
        Ok(schedule) => {
            let after = schedule.after(Timestamp::UNIX_EPOCH);
            assert!(after.is_none_or(|after| after > Timestamp::UNIX_EPOCH));
        }
        Err(error) => said(&error),
    }
    let _ = RotationCommand::parse(text);
    if let Some(records) = Records::parse(text) {
        let written = records.text().unwrap_or_default();
        assert_eq!(Records::parse(&written).and_then(|again| again.text()).unwrap_or_default(), written);
    }
    if let Some(changes) = Changes::parse(text) {
        let _ = changes.resolved(None).latest(&bindery::domain::rollout::consumers::Uses::Whole);
    }
}

/// A template over keys with texts, bytes and nothing in them.
fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let keys = [("A", &b"text, of \"two\"\nlines"[..]), ("B", b"aGVsbG8="), ("tls.crt", b"\xfe\xed"), ("E", b"")];
    let keys = keys.map(|(key, value)| (TargetKey::try_from(key).unwrap(), Value::from(value)));
    match Template::parse(&BTreeMap::from([("OUT".to_owned(), text.to_owned())])) {
        Ok(template) => {
            if let Err(error) = template.render(&BTreeMap::from(keys)) {
                said(&error);
            }
        }
        Err(error) => said(&error),
    }
}

/// A message of the events queue.
fn event(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(event) = message::parse(text) {
        let _ = event.concerns("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf", "app");
    }
}

/// Objects as the API server stores them, whoever wrote them.
fn object(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let key = FingerprintKey::new(Zeroizing::new([1; 32]));
    let now = Timestamp::UNIX_EPOCH;
    if let Ok(BindingObject(Ok(manifest))) = BindingObject::deserialize(&value) {
        binding(&manifest, &value, &key);
    }
    if let Ok(GrantObject(Ok(grant))) = GrantObject::deserialize(&value) {
        let _ = grant::fault(&grant);
        asked(&grant, now);
    }
    let _ = NamespaceObject::deserialize(&value);
    let _ = WorkloadManifest::deserialize(&value);
    if let Ok(pod) = PodManifest::deserialize(&value) {
        let _ = (pod.name(), pod.created(), pod.has_ended(), pod.controller());
    }
    for kind in ["Pod", "Job", "Ingress", "ReplicaSet", "ReferenceGrant"] {
        let _ = referrer(kind, data, SoughtSecret { namespace: "shop", name: "worker" });
    }
    if let Ok(meta) = SecretMeta::deserialize(&value) {
        let _ = ObservedSecret::new(&meta, &key);
    }
    if let Ok(before) = SecretBindingStatus::deserialize(&value) {
        reported(&before, now);
    }
}

fn binding(manifest: &SecretBinding, value: &serde_json::Value, key: &FingerprintKey) {
    reported(&manifest.status.clone().unwrap_or_default(), Timestamp::UNIX_EPOCH);
    match Binding::parse(manifest) {
        Ok(binding) => {
            let _ = requested_keys(&binding.mapping);
            if let Ok(meta) = SecretMeta::deserialize(value) {
                let _ = judge(&binding, Some(&ObservedSecret::new(&meta, key)), true);
            }
            let payloads = binding.mapping.sources().into_iter().map(|source| {
                let text = r#"{"A": "a", "config": "{\"host\": \"db\"}"}"#.to_owned();
                (source, Payload::text(text))
            });
            if let Err(error) = binding.mapping.render(&payloads.collect()) {
                said(&error);
            }
        }
        Err(error) => assert!(!error.field.is_empty() && !error.problem.is_empty()),
    }
}

/// Asks a grant for two secrets.
fn asked(grant: &SecretGrant, now: Timestamp) {
    let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf";
    let wanted = ["app", arn].map(|secret| (secret.parse::<SecretId>().unwrap(), RequestedKeys::default())).into();
    let named = grant.metadata.name.clone().unwrap_or_default();
    for grant_name in [None, Some(named.as_str())] {
        let requester = Requester { namespace: "shop", labels: None, grant: grant_name };
        match decide([grant], requester, &wanted, &Home::default(), now) {
            Ok(access) => {
                let _ = (access.permits(arn, "app"), access.permits_key("app", "KEY"), access.keys_text("app"));
            }
            Err(error) => {
                let _ = explained(error, [grant], requester, &wanted, now).to_string();
            }
        }
    }
}

/// Reports a failure on top of a status, twice: the second time nothing changes.
fn reported(before: &SecretBindingStatus, now: Timestamp) {
    let attempt = Attempt::default();
    let error = Error::Deadline { seconds: 600, fetched: false };
    let findings = Findings {
        binding: None,
        generation: 1,
        attempt: &attempt,
        error: Some(&error),
        interval: std::time::Duration::from_secs(60),
        looks_again: true,
    };
    let first = status(before, findings, now).status;
    assert_eq!(status(&first, findings, now).status, first);
    let _ = suspended(before, 1, now);
}
