//! A manifest, parsed: a [`SecretBinding`] becomes a [`Binding`], or a [`SpecError`] that names the field. The CRD refuses
//! most faults at `kubectl apply`; this file finds those that an older CRD let in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::ResourceExt as _;

use crate::api::{
    ANNOTATION_ROTATION, ANNOTATION_SYNC, DataEntry, DataFromEntry, DeletionPolicy, EncodingSpec, KeyFormatSpec,
    KeyReference, OverlapStrategy, Reason, SecretBinding, Target as TargetManifest,
};
use crate::domain::duration::Span;
use crate::domain::render::encoding::Encoding;
use crate::domain::render::glob::Glob;
use crate::domain::render::key::{KeyFormat, TargetKey};
use crate::domain::render::mapping::{Extract, Mapping, MappingEntry};
use crate::domain::render::template::Template;
use crate::domain::rollout::policy::Restart;
use crate::domain::rotation::rule::Rule;
use crate::domain::secret::reference::{SecretId, Source, ValueFrom, VersionSelector};
use crate::domain::target::metadata::is_never;
use crate::domain::target::reserved::{tool_of_label, tool_of_name};

/// The shortest refresh interval.
const MIN_REFRESH: Duration = Duration::from_secs(10);

/// A well-formed binding.
pub struct Binding {
    /// The namespace of the binding and of its target.
    pub namespace: String,
    /// The name of the binding.
    pub name: String,
    /// The uid of the binding, for the owner reference.
    pub uid: String,
    /// The generation that was parsed.
    pub generation: i64,
    /// Whether it is suspended.
    pub suspend: bool,
    /// The grant that the binding names.
    pub grant: Option<String>,
    /// The refresh interval.
    pub refresh: Refresh,
    /// The sources of its keys.
    pub mapping: Mapping,
    /// The Secret to publish.
    pub target: BindingTarget,
    /// The rotation rules.
    pub rotation: Vec<Rule>,
    /// The workloads that it restarts.
    pub restart: Restart,
    /// The text of the annotation `bindery.dev/sync`.
    pub sync: Option<String>,
    /// The text of the annotation `bindery.dev/rotation`.
    pub command: Option<String>,
    /// The parts of the spec that decide the content of the target, as text to digest.
    pub fingerprint_input: String,
}

/// The interval between two checks of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The operator's `--refresh-interval`.
    Default,
    /// This interval.
    Every(Duration),
    /// Never by the clock.
    Never,
}

/// The Secret to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingTarget {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: String,
    /// Labels to put on it.
    pub labels: BTreeMap<String, String>,
    /// Annotations to put on it.
    pub annotations: BTreeMap<String, String>,
    /// Keys that are meant, though they change how programs run.
    pub allow_keys: BTreeSet<String>,
    /// Whether the binding may adopt an existing Secret that consents.
    pub adopt: bool,
    /// Its fate once the binding is deleted.
    pub deletion_policy: DeletionPolicy,
}

/// A fault of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// The path of the field.
    pub field: String,
    /// The fault and its cure.
    pub problem: String,
    /// `InvalidReference` for the name of a secret or version, else `InvalidSpec`.
    pub reason: Reason,
}

impl Binding {
    /// Whether the content of the target depends on its earlier content: restarts compare values, and overlaps publish two.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.restart.restarts_any() || self.rotation.iter().any(|rule| rule.overlap.is_some())
    }

    /// Parses a manifest.
    ///
    /// # Errors
    /// The first wrong field.
    pub fn parse(manifest: &SecretBinding) -> Result<Self, SpecError> {
        let spec = &manifest.spec;
        let target = spec.target.clone().unwrap_or_default();
        if spec.data.is_empty() && spec.data_from.is_empty() {
            return Err(invalid("spec", "nothing to publish: give at least one entry under dataFrom or data"));
        }
        let data_from =
            spec.data_from.iter().enumerate().map(|(index, entry)| extract(index, entry)).collect::<Result<_, _>>()?;
        let data: Vec<MappingEntry> = spec.data.iter().map(entry).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = data.iter().find(|entry| !seen.insert(&entry.key)) {
            return Err(invalid(format!("spec.data[{}]", twice.key), "the key stands there twice; remove one entry"));
        }
        let template = match &target.template {
            Some(texts) => Some(Template::parse(texts).map_err(|error| invalid("spec.target.template", error))?),
            None => None,
        };
        let template_only = target.template_only.unwrap_or_default();
        if template_only && template.is_none() {
            return Err(invalid("spec.target.templateOnly", "needs spec.target.template"));
        }
        let required_keys = target
            .required_keys
            .iter()
            .map(|key| TargetKey::try_from(key.as_str()).map_err(|error| invalid("spec.target.requiredKeys", error)))
            .collect::<Result<_, _>>()?;
        let rotation = rules(manifest, template_only)?;
        let restart = Restart::parse(spec.restart.as_ref())
            .map_err(|(field, problem)| invalid(format!("spec.restart.{field}"), problem))?;
        staged_restarts(&rotation, &restart)?;
        Ok(Self {
            namespace: manifest.namespace().unwrap_or_default(),
            name: manifest.name_any(),
            uid: manifest.uid().unwrap_or_default(),
            generation: manifest.metadata.generation.unwrap_or_default(),
            suspend: spec.suspend.unwrap_or_default(),
            grant: spec.grant.clone(),
            refresh: refresh(spec.refresh_interval.as_deref())?,
            mapping: Mapping {
                data_from,
                data,
                template,
                template_only,
                required_keys,
                text_only: target.text_only.unwrap_or_default(),
            },
            fingerprint_input: fingerprint_input(manifest),
            target: parse_target(manifest, target)?,
            rotation,
            restart,
            sync: manifest.annotations().get(ANNOTATION_SYNC).cloned(),
            command: manifest.annotations().get(ANNOTATION_ROTATION).cloned(),
        })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "errors and texts are given away here")]
fn invalid(field: impl Into<String>, problem: impl std::fmt::Display) -> SpecError {
    SpecError { field: field.into(), problem: problem.to_string(), reason: Reason::InvalidSpec }
}

fn bad_reference(field: impl Into<String>, problem: impl std::fmt::Display) -> SpecError {
    SpecError { reason: Reason::InvalidReference, ..invalid(field, problem) }
}

fn refresh(text: Option<&str>) -> Result<Refresh, SpecError> {
    let Some(text) = text else { return Ok(Refresh::Default) };
    let interval = Span::try_from(text).map_err(|error| invalid("spec.refreshInterval", error))?.get();
    if interval.is_zero() {
        Ok(Refresh::Never)
    } else if interval < MIN_REFRESH {
        Err(invalid("spec.refreshInterval", "must be 0s (never by the clock) or at least 10s"))
    } else {
        Ok(Refresh::Every(interval))
    }
}

fn selector(stage: Option<&str>, id: Option<&str>, field: &str) -> Result<VersionSelector, SpecError> {
    match (stage, id) {
        (Some(_), Some(_)) => Err(invalid(field, "give versionStage or versionId, not both")),
        (Some(stage), None) => {
            VersionSelector::stage(stage).map_err(|error| bad_reference(format!("{field}.versionStage"), error))
        }
        (None, Some(id)) => VersionSelector::id(id).map_err(|error| bad_reference(format!("{field}.versionId"), error)),
        (None, None) => Ok(VersionSelector::default()),
    }
}

fn secret_id(text: &str, field: &str) -> Result<SecretId, SpecError> {
    text.parse().map_err(|error| bad_reference(format!("{field}.secret"), error))
}

fn globs(texts: &[String], field: &str) -> Result<Vec<Glob>, SpecError> {
    texts.iter().map(|text| Glob::try_from(text.as_str()).map_err(|error| invalid(field, error))).collect()
}

fn extract(index: usize, manifest: &DataFromEntry) -> Result<Extract, SpecError> {
    let field = format!("spec.dataFrom[{index}]");
    Ok(Extract {
        source: Source {
            secret: secret_id(&manifest.secret, &field)?,
            version: selector(manifest.version_stage.as_deref(), manifest.version_id.as_deref(), &field)?,
        },
        include: globs(&manifest.include, &format!("{field}.include"))?,
        exclude: globs(&manifest.exclude, &format!("{field}.exclude"))?,
        prefix: manifest.prefix.clone().unwrap_or_default(),
        key_format: match manifest.key_format {
            None | Some(KeyFormatSpec::AsIs) => KeyFormat::AsIs,
            Some(KeyFormatSpec::EnvVar) => KeyFormat::EnvVar,
        },
    })
}

fn entry(manifest: &DataEntry) -> Result<MappingEntry, SpecError> {
    let field = format!("spec.data[{}]", manifest.key);
    let (source, json_key) = match (&manifest.value_from, &manifest.from) {
        (Some(text), None) => {
            let parsed: ValueFrom = text.parse().map_err(|error| bad_reference(format!("{field}.valueFrom"), error))?;
            (parsed.source, parsed.json_key)
        }
        (None, Some(KeyReference { secret, key, version_stage, version_id })) => {
            let field = format!("{field}.from");
            let version = selector(version_stage.as_deref(), version_id.as_deref(), &field)?;
            (Source { secret: secret_id(secret, &field)?, version }, key.clone())
        }
        _ => return Err(invalid(field, "give exactly one of valueFrom and from")),
    };
    Ok(MappingEntry {
        key: TargetKey::try_from(manifest.key.as_str()).map_err(|error| invalid(&field, error))?,
        source,
        json_key,
        encoding: match manifest.encoding {
            None | Some(EncodingSpec::None) => Encoding::None,
            Some(EncodingSpec::Base64) => Encoding::Base64,
        },
        optional: manifest.optional.unwrap_or_default(),
    })
}

fn rules(manifest: &SecretBinding, template_only: bool) -> Result<Vec<Rule>, SpecError> {
    let (mut names, mut overlap_keys) = (BTreeSet::new(), BTreeSet::new());
    let mut rules = Vec::new();
    for rule in &manifest.spec.rotation {
        let at = format!("spec.rotation[{}]", rule.name);
        if !names.insert(&rule.name) {
            return Err(invalid(at, "the name stands there twice; rename one rule"));
        }
        let rule = Rule::parse(rule).map_err(|(field, problem)| invalid(format!("{at}.{field}"), problem))?;
        if let Some(overlap) = &rule.overlap {
            if template_only {
                return Err(invalid(
                    format!("{at}.overlap"),
                    "publishes keys of its own, which spec.target.templateOnly does not allow",
                ));
            }
            for key in [&overlap.key, &overlap.next_key, &overlap.previous_key] {
                if !overlap_keys.insert(key.clone()) {
                    return Err(invalid(
                        format!("{at}.overlap"),
                        format!("the key {key} belongs to another overlap; a key can have one"),
                    ));
                }
            }
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// Refuses an overlap that waits for pods which nothing restarts.
fn staged_restarts(rotation: &[Rule], restart: &Restart) -> Result<(), SpecError> {
    let staged =
        |rule: &&Rule| rule.overlap.as_ref().is_some_and(|overlap| overlap.strategy == OverlapStrategy::Staged);
    match rotation.iter().find(staged) {
        Some(rule) if !restart.restarts_any() => {
            let field = format!("spec.rotation[{}].overlap.strategy", rule.name);
            Err(invalid(field, "Staged needs pods that are restarted: set spec.restart.policy to Consumers or Listed"))
        }
        _ => Ok(()),
    }
}

fn parse_target(manifest: &SecretBinding, target: TargetManifest) -> Result<BindingTarget, SpecError> {
    let type_ = target.type_.unwrap_or_else(|| "Opaque".to_owned());
    if matches!(type_.as_str(), "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token")
        || type_.starts_with("helm.sh/release")
    {
        return Err(invalid(
            "spec.target.type",
            "Secrets of this type are credentials or state of the cluster itself and cannot be published from AWS",
        ));
    }
    let name = target.name.unwrap_or_else(|| manifest.name_any());
    if let Some(tool) = tool_of_name(&name) {
        return Err(invalid("spec.target.name", format!("{name:?} is reserved: {tool}; choose another name")));
    }
    for (label, value) in &target.labels {
        if let Some(tool) = tool_of_label(label, value) {
            return Err(invalid("spec.target.labels", format!("\"{label}: {value}\" is reserved: {tool}; remove it")));
        }
    }
    // Which other keys may be set, the grant and the operator's flag decide.
    for (field, keys) in
        [("spec.target.labels", target.labels.keys()), ("spec.target.annotations", target.annotations.keys())]
    {
        if let Some(key) = keys.into_iter().find(|key| is_never(key)) {
            return Err(invalid(
                field,
                format!("{key:?} belongs to Kubernetes or Bindery and is never set; remove it"),
            ));
        }
    }
    let deletion_policy = target.deletion_policy.unwrap_or_default();
    let adopt = target.adopt.unwrap_or_default();
    if adopt && deletion_policy != DeletionPolicy::Retain {
        return Err(invalid("spec.target.adopt", "needs deletionPolicy: Retain"));
    }
    Ok(BindingTarget {
        name,
        type_,
        labels: target.labels,
        annotations: target.annotations,
        allow_keys: target.allow_keys.into_iter().collect(),
        adopt,
        deletion_policy,
    })
}

/// The parts of the spec that decide the content of the target, without those that decide the time and the grant of a read.
fn fingerprint_input(manifest: &SecretBinding) -> String {
    let mut spec = manifest.spec.clone();
    spec.suspend = None;
    spec.refresh_interval = None;
    spec.grant = None;
    // The records of overlaps decide what overlaps publish.
    (spec.rotation, spec.restart) = (Vec::new(), None);
    // An empty target, `null` and none at all are the same.
    spec.target = Some(TargetManifest { allow_keys: Vec::new(), ..spec.target.unwrap_or_default() });
    let spec = serde_json::to_string(&spec).unwrap_or_default();
    format!("{}\n{spec}", manifest.uid().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretBindingSpec;
    use serde_json::json;

    fn parse(spec: serde_json::Value) -> Result<Binding, SpecError> {
        let spec: SecretBindingSpec = serde_json::from_value(spec).unwrap();
        Binding::parse(&SecretBinding::new("worker", spec))
    }

    fn error(spec: serde_json::Value) -> String {
        parse(spec).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn defaults_live_in_the_program() {
        let binding = parse(json!({"dataFrom": [{"secret": "a/b"}]})).ok().unwrap();
        assert_eq!(binding.target.name, "worker");
        assert_eq!(binding.target.type_, "Opaque");
        assert_eq!(binding.target.deletion_policy, DeletionPolicy::Delete);
        assert_eq!(binding.refresh, Refresh::Default);
    }

    #[test]
    fn what_an_older_crd_let_in_is_named_by_its_field() {
        for (spec, start) in [
            (json!({}), "spec: nothing to publish"),
            (json!({"dataFrom": [{"secret": "a b"}]}), "spec.dataFrom[0].secret: "),
            (json!({"dataFrom": [{"secret": "a", "include": [""]}]}), "spec.dataFrom[0].include: "),
            (json!({"data": [{"key": "A"}]}), "spec.data[A]: give exactly one"),
            (json!({"data": [{"key": "A", "valueFrom": "a:b:c:d:e"}]}), "spec.data[A].valueFrom: "),
            (
                json!({"data": [{"key": "A", "valueFrom": "a"}, {"key": "A", "valueFrom": "b"}]}),
                "spec.data[A]: the key stands",
            ),
            (json!({"dataFrom": [{"secret": "a"}], "refreshInterval": "9s"}), "spec.refreshInterval: must be"),
            (json!({"dataFrom": [{"secret": "a"}], "refreshInterval": "soon"}), "spec.refreshInterval: "),
            (json!({"dataFrom": [{"secret": "a"}], "target": {"adopt": true}}), "spec.target.adopt: needs"),
            (json!({"dataFrom": [{"secret": "a"}], "target": {"type": "helm.sh/release.v1"}}), "spec.target.type: "),
            (json!({"dataFrom": [{"secret": "a"}], "target": {"template": {"A": "{{"}}}), "spec.target.template: "),
            (
                json!({"dataFrom": [{"secret": "a"}], "target": {"name": "sh.helm.release.v1.web.v1"}}),
                "spec.target.name: \"sh.helm.release.v1.web.v1\" is reserved: Helm takes it for a release",
            ),
            (json!({"dataFrom": [{"secret": "a"}], "target": {"name": "tfstate-default-x"}}), "spec.target.name: "),
            (
                json!({"dataFrom": [{"secret": "a"}], "target": {"labels": {"owner": "helm"}}}),
                "spec.target.labels: \"owner: helm\" is reserved: Helm",
            ),
            (json!({"dataFrom": [{"secret": "a"}], "target": {"labels": {"tfstate": "true"}}}), "spec.target.labels: "),
        ] {
            let error = error(spec.clone());
            assert!(error.starts_with(start), "{spec}: {error}");
        }
    }

    #[test]
    fn labels_and_annotations_of_kubernetes_and_bindery_are_refused_and_others_are_the_grants_to_judge() {
        for (key, allowed) in [("team", true), ("bindery.dev/managed", false), ("x.k8s.io/y", false)] {
            for field in ["labels", "annotations"] {
                let spec = json!({"dataFrom": [{"secret": "a"}], "target": {field: {key: "x"}}});
                let error = error(spec);
                assert!(
                    if allowed { error.is_empty() } else { error.contains("never set; remove it") },
                    "{key}: {error}"
                );
            }
        }
    }

    #[test]
    fn the_fingerprint_input_ignores_what_does_not_decide_the_content() {
        let base = parse(json!({"dataFrom": [{"secret": "a"}]})).ok().unwrap().fingerprint_input;
        let later = parse(json!({"dataFrom": [{"secret": "a"}], "refreshInterval": "1h", "suspend": false}));
        assert_eq!(later.ok().unwrap().fingerprint_input, base);
        let empty = parse(json!({"dataFrom": [{"secret": "a"}], "target": {}}));
        assert_eq!(empty.ok().unwrap().fingerprint_input, base);
        let meant = parse(json!({"dataFrom": [{"secret": "a"}], "target": {"allowKeys": ["PATH"]}}));
        assert_eq!(meant.ok().unwrap().fingerprint_input, base);
        let other = parse(json!({"dataFrom": [{"secret": "a", "prefix": "X_"}]}));
        assert_ne!(other.ok().unwrap().fingerprint_input, base);
    }
}
