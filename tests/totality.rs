//! Whatever a manifest says and whatever a payload holds: a result or a typed error, never a panic, and never a piece
//! of the payload in an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use bindery::api::{SecretBinding, SecretBindingSpec};
use bindery::domain::binding::Binding;
use bindery::domain::payload::Payload;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Stands in every value, so that an error that quotes one is found.
const CANARY: &str = "kanarienvogel";

fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("app".to_owned()),
        2 => Just("autorepost/production/worker".to_owned()),
        1 => Just("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf".to_owned()),
        1 => ".{0,12}",
    ]
}

fn json_key() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[A-Z_]{1,8}",
        1 => Just("/a/0/b".to_owned()),
        1 => Just("db.password".to_owned()),
        1 => ".{0,10}",
    ]
}

fn glob() -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_owned()), "[A-Z*?]{1,6}", ".{0,8}"]
}

fn data_from() -> impl Strategy<Value = Value> {
    let globs = || prop::collection::vec(glob(), 0..3);
    (secret(), globs(), globs(), prop::option::of("[A-Z_]{0,4}|.{0,4}"), prop::option::of("AWSCURRENT|AWSPREVIOUS|.{0,9}"))
        .prop_map(|(secret, include, exclude, prefix, stage)| {
            json!({"secret": secret, "include": include, "exclude": exclude, "prefix": prefix, "versionStage": stage})
        })
}

fn data() -> impl Strategy<Value = Value> {
    let from = prop_oneof![
        (secret(), json_key()).prop_map(|(secret, key)| json!({"valueFrom": format!("{secret}:{key}::")})),
        secret().prop_map(|secret| json!({"valueFrom": secret})),
        (secret(), prop::option::of(json_key()))
            .prop_map(|(secret, key)| json!({"from": {"secret": secret, "key": key}})),
        ".{0,20}".prop_map(|text| json!({"valueFrom": text})),
    ];
    let key = prop_oneof![4 => "[A-Za-z._-]{1,6}", 1 => ".{0,6}"];
    (key, from, prop::option::of(any::<bool>()), prop::option::of("None|Base64")).prop_map(
        |(key, from, optional, encoding)| {
            let mut entry = json!({"key": key, "optional": optional, "encoding": encoding});
            entry.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
            entry
        },
    )
}

fn template() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{{ A }}?sslmode=require".to_owned()),
        Just("{{ bindery.keys | dotenv }}".to_owned()),
        Just("{% for key in bindery.keys %}{{ key }}={{ bindery.keys[key] | urlencode }}\n{% endfor %}".to_owned()),
        "[{}%a-zA-Z|._ ]{0,30}",
        ".{0,20}",
    ]
}

fn manifest() -> impl Strategy<Value = Value> {
    let target = (
        prop::option::of(prop::collection::btree_map("[A-Z]{1,4}", template(), 0..3)),
        prop::option::of(any::<bool>()),
        prop::collection::vec("[A-Z]{1,3}|.{0,3}", 0..2),
    );
    (prop::collection::vec(data_from(), 0..3), prop::collection::vec(data(), 0..4), target).prop_map(
        |(data_from, data, (template, template_only, required))| {
            json!({
                "dataFrom": data_from, "data": data,
                "target": {"template": template, "templateOnly": template_only, "requiredKeys": required},
            })
        },
    )
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        3 => "[a-z]{0,6}".prop_map(|text| json!(format!("{CANARY}{text}"))),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(|flag| json!(flag)),
        1 => Just(Value::Null),
        1 => Just(json!({"0": {"b": CANARY}})),
        1 => Just(json!([{"b": CANARY}])),
    ];
    let object =
        prop::collection::btree_map(json_key(), leaf, 0..8).prop_map(|object| json!(object).to_string()).boxed();
    prop_oneof![
        6 => object.clone().prop_map(String::into_bytes),
        // Cut or damaged anywhere, as a paste may be.
        3 => (object, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(object, at, byte)| {
            let mut bytes = object.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => prop::collection::vec(any::<u8>(), 0..64),
        1 => Just(format!("{CANARY} is no JSON").into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_manifest_with_every_payload_gives_a_result_or_a_typed_error(
        spec in manifest(),
        payloads in prop::collection::vec((payload(), any::<bool>()), 3),
    ) {
        let Ok(spec) = serde_json::from_value::<SecretBindingSpec>(spec) else { return Ok(()) };
        let binding = match Binding::parse(&SecretBinding::new("b", spec)) {
            Ok(binding) => binding,
            Err(error) => {
                prop_assert!(!error.field.is_empty() && !error.problem.is_empty());
                return Ok(());
            }
        };
        let mut given = payloads.iter().cycle();
        let mut read = BTreeMap::new();
        for source in binding.mapping.sources() {
            let (bytes, as_text) = given.next().unwrap();
            let text = String::from_utf8(bytes.clone()).ok().filter(|_| *as_text);
            read.insert(source, text.map_or_else(|| Payload::binary(bytes.clone()), Payload::text));
        }
        match binding.mapping.render(&read) {
            Ok(rendered) => prop_assert!(!rendered.data.is_empty()),
            Err(error) => {
                let text = format!("{error} {error:?}");
                prop_assert!(!text.contains(CANARY), "{text}");
            }
        }
        // The same again: rendering is a function.
        let keys = |rendered: bindery::domain::render::mapping::Rendered| rendered.data.into_keys().collect::<Vec<_>>();
        let (first, second) = (binding.mapping.render(&read).map(keys), binding.mapping.render(&read).map(keys));
        prop_assert_eq!(first, second);
    }
}
