//! Runs the examples of `docs/mapping.md`.
//!
//! A fenced block's first word is its language, the second what it is: `secret NAME [STAGE]`, `binding`, `published`,
//! `published-base64`, `error`, or `chart` for what Helm reads. Secrets apply until the next heading; a binding is followed by what comes of it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::payload::Payload;
use crate::domain::render::encoding::{Encoding, decode_base64, encode_base64};
use crate::domain::render::glob::Glob;
use crate::domain::render::key::{KeyFormat, TargetKey};
use crate::domain::render::mapping::error::RenderError;
use crate::domain::render::mapping::{Extract, Mapping, MappingEntry, Rendered};
use crate::domain::render::rejection::render_reason;
use crate::domain::render::template::Template;
use crate::domain::secret::reference::{SecretId, Source, ValueFrom, VersionSelector};

const PAGE: &str = include_str!("../../../../docs/mapping.md");

/// The fields of `spec` that the page shows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    data_from: Vec<DataFrom>,
    #[serde(default)]
    data: Vec<Data>,
    #[serde(default)]
    target: Target,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataFrom {
    secret: String,
    version_stage: Option<String>,
    version_id: Option<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    key_format: Option<crate::api::KeyFormatSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Data {
    key: String,
    value_from: Option<String>,
    from: Option<From>,
    encoding: Option<String>,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct From {
    secret: String,
    key: Option<String>,
    version_stage: Option<String>,
    version_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    #[serde(rename = "type")]
    _type: Option<String>,
    #[serde(default)]
    template: BTreeMap<String, String>,
    #[serde(default)]
    template_only: bool,
    #[serde(default)]
    required_keys: Vec<String>,
    #[serde(default)]
    text_only: bool,
}

fn source(secret: &str, stage: Option<&str>, id: Option<&str>) -> Source {
    let version = VersionSelector::from_parts(secret, stage, id).unwrap();
    Source { secret: SecretId::try_from(secret).unwrap(), version }
}

/// The mapping of a `spec`, or the message of the template that is wrong.
fn mapping(yaml: &str) -> Result<Mapping, String> {
    let spec: Spec = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}\n{error}"));
    let globs = |patterns: Vec<String>| patterns.iter().map(|p| Glob::try_from(p.as_str()).unwrap()).collect();
    let extract = |from: DataFrom| Extract {
        source: source(&from.secret, from.version_stage.as_deref(), from.version_id.as_deref()),
        include: globs(from.include),
        exclude: globs(from.exclude),
        prefix: from.prefix,
        key_format: match from.key_format {
            None | Some(crate::api::KeyFormatSpec::AsIs) => KeyFormat::AsIs,
            Some(crate::api::KeyFormatSpec::EnvVar) => KeyFormat::EnvVar,
        },
    };
    let entry = |data: Data| {
        let (source, json_key) = match (data.value_from, data.from) {
            (Some(text), None) => {
                let ValueFrom { source, json_key } = ValueFrom::try_from(text.as_str()).unwrap();
                (source, json_key)
            }
            (None, Some(from)) => {
                (source(&from.secret, from.version_stage.as_deref(), from.version_id.as_deref()), from.key)
            }
            _ => panic!("{yaml}\nneeds one of valueFrom and from"),
        };
        let encoding = match data.encoding.as_deref() {
            None | Some("None") => Encoding::None,
            Some("Base64") => Encoding::Base64,
            Some(other) => panic!("unknown encoding {other}"),
        };
        let key = TargetKey::try_from(data.key.as_str()).unwrap();
        MappingEntry { key, source, json_key, encoding, optional: data.optional }
    };
    let template = match &spec.target.template {
        none if none.is_empty() => None,
        sources => Some(Template::parse(sources).map_err(|error| error.to_string())?),
    };
    Ok(Mapping {
        data_from: spec.data_from.into_iter().map(extract).collect(),
        data: spec.data.into_iter().map(entry).collect(),
        template,
        template_only: spec.target.template_only,
        text_only: spec.target.text_only,
        required_keys: spec.target.required_keys.iter().map(|key| TargetKey::try_from(key.as_str()).unwrap()).collect(),
    })
}

fn outcome(yaml: &str, payloads: &BTreeMap<Source, Payload>) -> Result<Rendered, String> {
    let mapping = mapping(yaml).map_err(|error| format!("InvalidSpec: spec.target.template: {error}"))?;
    mapping.render(payloads).map_err(|error: RenderError| format!("{}: {error}", render_reason(&error)))
}

/// The fenced blocks and headings of the page: line, info string (empty for a heading), content.
fn blocks() -> Vec<(usize, &'static str, String)> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.starts_with('#') {
            blocks.push((number + 1, "", line.to_owned()));
        } else if let Some(info) = line.strip_prefix("```") {
            let content: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push((number + 1, info, content.join("\n")));
        }
    }
    blocks
}

#[test]
fn every_example_of_the_page_holds() {
    let mut payloads = BTreeMap::new();
    let mut last = None;
    let (mut results, mut errors) = (0, 0);
    for (line, info, content) in blocks() {
        match info.split(' ').collect::<Vec<_>>().as_slice() {
            [""] => payloads.clear(),
            ["json" | "text", "secret", name, stage @ ..] => {
                payloads.insert(source(name, stage.first().copied(), None), Payload::text(content));
            }
            ["base64", "secret", name] => {
                let bytes = decode_base64(content.as_bytes()).unwrap().expose().to_vec();
                payloads.insert(source(name, None, None), Payload::binary(bytes));
            }
            ["yaml", "binding"] => {
                assert!(last.is_none(), "line {line}: the binding before this one has no result");
                last = Some(outcome(&content, &payloads));
            }
            ["yaml", form @ ("published" | "published-base64")] => {
                let expected: BTreeMap<String, String> = serde_saphyr::from_str(&content).unwrap();
                let rendered = last.take().unwrap().unwrap_or_else(|error| panic!("line {line}: {error}"));
                let text = |value: &crate::domain::render::mapping::Value| {
                    let value = if *form == "published" { value.clone() } else { encode_base64(value.expose()) };
                    String::from_utf8(value.expose().to_vec()).unwrap()
                };
                let found: BTreeMap<String, String> =
                    rendered.data.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
                assert_eq!(found, expected, "line {line}");
                results += 1;
            }
            ["text", "error"] => {
                let error = last.take().unwrap().expect_err(&format!("line {line}"));
                assert_eq!(unwrapped(&error), unwrapped(&content), "line {line}");
                errors += 1;
            }
            // Helm's to read, not Bindery's.
            ["yaml", "chart"] => {}
            _ => panic!("line {line}: an unknown block {info:?}"),
        }
    }
    assert!(last.is_none(), "the last binding has no result");
    assert!(results >= 25 && errors >= 10, "only {results} results and {errors} errors: are the blocks still found?");
}

/// A message that the page breaks into lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every filter and test that templates may use is on the page.
#[test]
fn the_page_names_every_filter() {
    let error = Template::parse(&BTreeMap::from([("A".to_owned(), "{{ A | nope }}{{ A is nope }}".to_owned())]));
    let text = error.unwrap_err().to_string();
    let (_, names) = text.split_once("there are ").unwrap();
    for name in names.split(", ") {
        assert!(PAGE.contains(&format!("`{name}`")), "{name}");
    }
}
