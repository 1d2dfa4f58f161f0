use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::domain::payload::Payload;
use crate::domain::render::encoding::Encoding;
use crate::domain::render::glob::Glob;
use crate::domain::render::key::{KeyFormat, TargetKey};
use crate::domain::render::mapping::error::RenderError;
use crate::domain::render::mapping::{Extract, Mapping, MappingEntry, Origin, Rendered, UsedKeys};
use crate::domain::render::rejection::render_reason;
use crate::domain::render::template::Template;
use crate::domain::secret::reference::{Source, ValueFrom};

fn key(text: &str) -> TargetKey {
    TargetKey::try_from(text).unwrap()
}

fn source(text: &str) -> Source {
    ValueFrom::try_from(text).unwrap().source
}

fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns.iter().map(|&pattern| Glob::try_from(pattern).unwrap()).collect()
}

fn all_of(secret: &str) -> Extract {
    Extract {
        source: source(secret),
        include: vec![],
        exclude: vec![],
        prefix: String::new(),
        key_format: KeyFormat::AsIs,
    }
}

fn entry(target: &str, value_from: &str) -> MappingEntry {
    let ValueFrom { source, json_key } = ValueFrom::try_from(value_from).unwrap();
    MappingEntry { key: key(target), source, json_key, encoding: Encoding::None, optional: false }
}

fn template(sources: &[(&str, &str)]) -> Template {
    let sources = sources.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    Template::parse(&sources).unwrap()
}

fn payloads<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<Source, Payload> {
    texts.into_iter().map(|(secret, text)| (source(secret), Payload::text(text.to_owned()))).collect()
}

fn shown(rendered: &Rendered) -> BTreeMap<String, String> {
    let text = |value: &crate::domain::render::mapping::Value| String::from_utf8_lossy(value.expose()).into_owned();
    rendered.data.iter().map(|(key, value)| (key.to_string(), text(value))).collect()
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn later_wins_data_wins_and_templates_win() {
    let mapping = Mapping {
        data_from: vec![all_of("one"), all_of("two")],
        data: vec![entry("C", "one:other::"), entry("ALL", "two")],
        template: Some(template(&[("D", "{{ A }}{{ B }}{{ C }}")])),
        ..Mapping::default()
    };
    let payloads = payloads([
        ("one", r#"{"A":"a1","B":"b1","C":"c1","D":"d1","other":"o1"}"#),
        ("two", r#"{"B":"b2","other":null}"#),
    ]);
    let rendered = mapping.render(&payloads).unwrap();
    assert_eq!(
        shown(&rendered),
        map([
            ("A", "a1"),
            ("B", "b2"),
            ("C", "o1"),
            ("D", "a1b2o1"),
            ("other", "o1"),
            ("ALL", r#"{"B":"b2","other":null}"#),
        ])
    );
    let used = |whole, keys: &[&str]| UsedKeys { whole, keys: keys.iter().map(|&key| key.to_owned()).collect() };
    assert_eq!(
        rendered.used_keys(),
        &BTreeMap::from([
            (source("one"), used(false, &["A", "B", "C", "D", "other"])),
            (source("two"), used(true, &["B"])),
        ])
    );
    assert_eq!(rendered.origins[&key("C")], Origin { source: source("one"), json_key: Some("other".to_owned()) });
    assert_eq!(rendered.origins[&key("ALL")], Origin { source: source("two"), json_key: None });
    assert_eq!(format!("{rendered:?}"), r#"{"A", "ALL", "B", "C", "D", "other"}"#);
}

#[test]
fn each_version_of_a_secret_is_a_source_of_its_own() {
    let mapping = Mapping {
        data_from: vec![all_of("app")],
        data: vec![entry("OLD", "app:A:AWSPREVIOUS:"), entry("NOW", "app:A:AWSCURRENT:")],
        ..Mapping::default()
    };
    assert_eq!(mapping.sources(), BTreeSet::from([source("app"), source("app::AWSPREVIOUS:")]));
    let payloads = payloads([("app", r#"{"A":"new"}"#), ("app::AWSPREVIOUS:", r#"{"A":"old"}"#)]);
    let rendered = mapping.render(&payloads).unwrap();
    assert_eq!(shown(&rendered), map([("A", "new"), ("NOW", "new"), ("OLD", "old")]));
}

#[test]
fn an_optional_entry_that_is_absent_gives_nothing() {
    let optional = |value_from| MappingEntry { optional: true, ..entry("A", value_from) };
    for (text, data, expected) in [
        (r#"{"A":"from"}"#, optional("app:missing::"), "from"),
        (r#"{"A":"from","x":null}"#, optional("app:x::"), "from"),
        (r#"{"A":"from","x":""}"#, optional("app:x::"), ""),
    ] {
        let mapping = Mapping { data_from: vec![all_of("app")], data: vec![data], ..Mapping::default() };
        assert_eq!(shown(&mapping.render(&payloads([("app", text)])).unwrap())["A"], expected);
    }
    let mapping = Mapping { data: vec![optional("app:x::")], ..Mapping::default() };
    assert_eq!(mapping.render(&payloads([("app", "{}")])).unwrap_err(), RenderError::NothingToPublish);
    let error = mapping.render(&payloads([("app", "plain text")])).unwrap_err();
    assert_eq!(render_reason(&error).as_str(), "InvalidPayload");
}

#[test]
fn what_the_grant_does_not_allow_is_not_taken() {
    let payloads = payloads([("app", r#"{"A":"1","B":"2","/A/x":"literal","map":{"x":"3"}}"#)]);
    let lookup = |source: &Source| payloads.get(source);
    let extract = Mapping { data_from: vec![all_of("app")], ..Mapping::default() };
    let selected = extract.select(lookup, &|_, member| member == "A").unwrap();
    assert_eq!(shown(&extract.complete(selected).unwrap()), map([("A", "1")]));

    let single = |value_from: &str| Mapping { data: vec![entry("OUT", value_from)], ..Mapping::default() };
    assert!(single("app:A::").select(lookup, &|_, member| member == "A").is_ok());
    assert!(single("app:/map/x::").select(lookup, &|_, member| member == "map").is_ok());
    // A pointer whose first token is allowed must not reach a member that merely has its text as name.
    let error = single("app:/A/x::").select(lookup, &|_, member| member == "A").unwrap_err();
    assert_eq!(
        (render_reason(&error).as_str(), error.to_string().contains("`/A/x`")),
        ("AccessDenied", true),
        "{error}"
    );
}

#[test]
fn keys_may_be_added_between_selection_and_completion() {
    let mapping = Mapping {
        data_from: vec![all_of("app")],
        template: Some(template(&[("BOTH", "{{ KEY }}/{{ KEY_NEXT }}")])),
        ..Mapping::default()
    };
    let payloads = payloads([("app", r#"{"KEY":"now"}"#)]);
    let mut selected = mapping.select(|source| payloads.get(source), &|_, _| true).unwrap();
    selected.data.insert(key("KEY_NEXT"), "next".into());
    let rendered = mapping.complete(selected).unwrap();
    assert_eq!(rendered.data[&key("BOTH")].expose(), b"now/next");
}

/// One payload serves bindings that are rendered at the same time.
#[test]
fn payloads_and_mappings_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Payload>();
    shared::<Mapping>();
    shared::<Rendered>();
    shared::<RenderError>();
}

#[test]
fn required_keys() {
    let mapping = Mapping {
        data_from: vec![all_of("app")],
        template: Some(template(&[("T", "{{ A }}")])),
        required_keys: ["A", "B", "T"].into_iter().map(key).collect(),
        ..Mapping::default()
    };
    assert!(mapping.render(&payloads([("app", r#"{"A":"a","B":"b"}"#)])).is_ok());
    let error = mapping.render(&payloads([("app", r#"{"A":"","C":"c"}"#)])).unwrap_err();
    assert_eq!(
        error,
        RenderError::RequiredKeyMissing { absent: vec![key("B")], empty: vec![key("A"), key("T")], alike: None }
    );
    let template_only = Mapping { template_only: true, ..mapping };
    let error = template_only.render(&payloads([("app", r#"{"A":"a","B":"b"}"#)])).unwrap_err();
    assert_eq!(error, RenderError::RequiredKeyMissing { absent: vec![key("A"), key("B")], empty: vec![], alike: None });
}

#[test]
fn size_is_that_of_all_values_together() {
    let half = format!("{{\"v\":\"{}\"}}", "x".repeat(524_288));
    let payloads = payloads([("half", half.as_str()), ("byte", "{\"b\":\"x\"}")]);
    let mut mapping = Mapping { data: vec![entry("A", "half:v::"), entry("B", "half:v::")], ..Mapping::default() };
    assert!(mapping.render(&payloads).is_ok(), "exactly 1 MiB fits");
    mapping.data.push(entry("C", "byte:b::"));
    let error = mapping.render(&payloads).unwrap_err();
    assert_eq!(error, RenderError::TooLarge { total: 1_048_577, largest: key("B") });
    mapping.template = Some(template(&[("T", "small")]));
    mapping.template_only = true;
    assert!(mapping.render(&payloads).is_ok(), "only what is published counts");
}

#[test]
fn a_source_that_was_not_read_is_named() {
    let mapping = Mapping { data: vec![entry("A", "app:x::")], ..Mapping::default() };
    let error = mapping.render(&BTreeMap::new()).unwrap_err();
    assert!(matches!(error, RenderError::NotRead { .. }), "{error}");
}

#[test]
fn messages_stay_short_and_on_one_line() {
    let long = "k\n".repeat(5000);
    let text = serde_json::to_string(&BTreeMap::from([(long.clone(), "v")])).unwrap();
    let payloads = payloads([("app", text.as_str())]);
    let extract = Mapping { data_from: vec![all_of("app")], ..Mapping::default() };
    let mut missing = entry("A", "app:x::");
    missing.json_key = Some(format!("{long}x"));
    let single = Mapping { data: vec![missing], ..Mapping::default() };
    let required: BTreeSet<_> = (0..1000).map(|n| key(&format!("KEY_{n}"))).collect();
    let whole = Mapping { data: vec![entry("A", "app")], required_keys: required, ..Mapping::default() };
    for mapping in [extract, single, whole] {
        let error = mapping.render(&payloads).unwrap_err().to_string();
        assert!(error.len() < 700 && !error.contains('\n'), "{error}");
    }
}

/// A mapping that does a bit of everything with the secrets `app` and `other`.
fn mappings() -> impl Strategy<Value = Mapping> {
    let extracts = proptest::collection::vec(
        (
            any::<bool>(),
            prop_oneof![Just(vec![]), Just(globs(&["a*"])), Just(globs(&["?", "*b*"]))],
            any::<bool>(),
            "[a-z_.]{0,3}",
        ),
        0..3,
    );
    let entries = proptest::collection::vec(
        (any::<bool>(), proptest::option::of("[a-c]{1,2}|/a(/[a-c0-2]){0,2}"), any::<bool>(), any::<bool>()),
        0..4,
    );
    let templates = proptest::option::of(prop_oneof![
        Just("{{ a }}"),
        Just("{{ K0 | b64encode }}{{ bindery.keys | dotenv }}"),
        Just("{{ bindery.keys | tojson }}"),
        Just("{{ K0 | b64decode }}"),
        Just("{% for k, v in bindery.keys | items %}{{ k ~ v }}{% endfor %}"),
        Just("{{ a | upper ~ bindery.keys['b'] | urlencode }}"),
        Just("{{ K0.x[K1] | join(K0) }}"),
    ]);
    (extracts, entries, templates, any::<bool>(), any::<bool>()).prop_map(
        |(extracts, entries, text, only, required)| {
            let secret = |app| source(if app { "app" } else { "other" });
            Mapping {
                data_from: extracts
                    .into_iter()
                    .map(|(app, include, exclude, prefix)| Extract {
                        source: secret(app),
                        include,
                        exclude: if exclude { globs(&["*c"]) } else { vec![] },
                        key_format: if prefix.is_empty() { KeyFormat::EnvVar } else { KeyFormat::AsIs },
                        prefix,
                    })
                    .collect(),
                data: entries
                    .into_iter()
                    .enumerate()
                    .map(|(n, (app, json_key, base64, optional))| MappingEntry {
                        key: key(&format!("K{n}")),
                        source: secret(app),
                        json_key,
                        encoding: if base64 { Encoding::Base64 } else { Encoding::None },
                        optional,
                    })
                    .collect(),
                template: text.map(|text| template(&[("T", text)])),
                template_only: only,
                text_only: only,
                required_keys: if required { BTreeSet::from([key("K0")]) } else { BTreeSet::new() },
            }
        },
    )
}

/// Bytes that are sometimes JSON objects, sometimes nearly, sometimes nothing of the kind, with a canary in every value.
fn hostile_payloads() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("\"c4n4ry\"".to_owned()),
        Just("\"YzRuNHJ5\"".to_owned()),
        Just("\"c4n4ry\\u0000\\ud83d\\ude00\"".to_owned()),
        Just("[\"c4n4ry\",{\"a\":\"c4n4ry\"}]".to_owned()),
        Just("{\"a\":{\"b\":\"c4n4ry\"}}".to_owned()),
        "[0-9]{1,25}".prop_map(|digits| format!("1{digits}")),
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        Just("c4n4ry".to_owned()),
        Just("'c4n4ry'".to_owned()),
    ];
    let object = proptest::collection::vec(("[a-c]{1,2}|[a-c] ", value), 0..4).prop_map(|members| {
        let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    prop_oneof![
        4 => object.clone(),
        2 => (object, any::<prop::sample::Index>(), any::<u8>(), 0..3).prop_map(|(mut bytes, at, byte, damage)| {
            let at = at.index(bytes.len());
            match damage {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => bytes.insert(at, byte),
            }
            bytes
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| [b"c4n4ry".as_slice(), &bytes].concat()),
        1 => Just(b"YzRuNHJ5".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_mapping_of_any_payloads_gives_keys_or_an_error_without_content(
        mapping in mappings(), app in hostile_payloads(), other in hostile_payloads(),
    ) {
        let payloads =
            BTreeMap::from([(source("app"), Payload::binary(app)), (source("other"), Payload::binary(other))]);
        match mapping.render(&payloads) {
            Ok(rendered) => {
                prop_assert!(!rendered.data.is_empty());
                let names = format!("{rendered:?}");
                prop_assert!(!names.contains("c4n4ry"), "{}", names);
                for required in &mapping.required_keys {
                    prop_assert!(!rendered.data[required].expose().is_empty());
                }
                let again = mapping.render(&payloads).unwrap();
                prop_assert_eq!(shown(&rendered), shown(&again));
            }
            Err(error) => {
                let texts = format!("{error} {error:?} {error:#?}");
                for canary in ["c4n4ry", "YzRuNHJ5", "c4n4", "n4ry"] {
                    prop_assert!(!texts.contains(canary), "{}", texts);
                }
                prop_assert!(!error.to_string().is_empty() && !render_reason(&error).as_str().is_empty());
            }
        }
    }
}

#[test]
fn patterns_that_would_take_minutes_on_long_names_are_refused_at_once() {
    let text = format!(r#"{{"{}": "v", "A": "v"}}"#, "a".repeat(65_000));
    let payloads = payloads([("app", text.as_str())]);
    let costly = format!("*{}b", "?a".repeat(250));
    let extract = Extract { exclude: globs(&[costly.as_str(); 100]), ..all_of("app") };
    let started = std::time::Instant::now();
    for extracts in [1, 50] {
        let mapping = Mapping { data_from: vec![extract.clone(); extracts], ..Mapping::default() };
        let error = mapping.render(&payloads).unwrap_err();
        assert_eq!(render_reason(&error), crate::api::Reason::TooLarge, "{error}");
        assert!(error.to_string().contains("of the secret app, up to spec.dataFrom[0]: use fewer"), "{error}");
    }
    // All patterns of a binding share the steps, and a debug build takes ten times as long.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn as_many_patterns_and_keys_as_fit_are_matched() {
    let names: Vec<String> = (0..1000).map(|number| format!("SERVICE_{number}_DATABASE_URL")).collect();
    let members: Vec<String> = names.iter().map(|name| format!(r#""{name}": "v""#)).collect();
    let text = format!("{{{}}}", members.join(","));
    let patterns: Vec<String> = names.iter().rev().map(|name| name.replace("_DATABASE", "_*")).collect();
    let include = |chunk: &[String]| chunk.iter().map(|pattern| Glob::try_from(pattern.as_str()).unwrap()).collect();
    let extracts = patterns.chunks(100).map(|chunk| Extract { include: include(chunk), ..all_of("app") });
    let mapping = Mapping { data_from: extracts.collect(), ..Mapping::default() };
    let rendered = mapping.render(&payloads([("app", text.as_str())])).unwrap();
    assert_eq!(rendered.data.len(), 1000);
}

#[test]
fn hundreds_of_pointers_through_texts_in_texts_read_each_text_once() {
    let keys = |pointer: &str| -> Mapping {
        let entries = (0..500).map(|number| entry(&format!("K{number}"), &format!("app:{pointer}::")));
        Mapping { data: entries.collect(), ..Mapping::default() }
    };
    let inner = serde_json::json!({"a": "v", "long": "x".repeat(50_000)}).to_string();
    let often = (0..8).fold(inner, |text, _| serde_json::json!({ "t": text }).to_string());
    assert!(often.len() < 65_536, "{}", often.len());
    let mapping = keys(&format!("{}/a", "/t".repeat(8)));
    let rendered = mapping.render(&payloads([("app", often.as_str())])).unwrap();
    assert!(rendered.data.len() == 500 && rendered.data.values().all(|value| value.expose() == b"v"));

    // As many secrets as a binding can name, each of them wrapped as often.
    let names: Vec<String> = (0..500).map(|number| format!("app{number}")).collect();
    let entries = names.iter().map(|name| entry(&name.to_uppercase(), &format!("{name}:{}/a::", "/t".repeat(8))));
    let mapping = Mapping { data: entries.collect(), ..Mapping::default() };
    let error = mapping.render(&payloads(names.iter().map(|name| (name.as_str(), often.as_str())))).unwrap_err();
    assert_eq!(render_reason(&error), crate::api::Reason::TooLarge, "{error}");
}
