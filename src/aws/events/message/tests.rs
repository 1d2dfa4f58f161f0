use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const NAME: &str = "autorepost/production/app";
const PARTIAL: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app";
const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbC123";
const VERSION: &str = "4d383ea9-084a-49c9-8722-cbfb0f25c456";

/// The recorded messages by their names, without `.json`.
fn recorded() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn message(name: &str) -> Value {
    serde_json::from_str(&recorded()[name]).unwrap()
}

fn named(ids: &[&str]) -> NamedSecret {
    NamedSecret { ids: ids.iter().map(|&id| id.to_owned()).collect() }
}

#[test]
fn each_recorded_change_names_its_secret_in_every_form_that_it_has() {
    let rds = "rds!db-2f4a1c7e-0f5b-4c57-9b1f-6c0f7a3e2d11";
    let rds_arn = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{rds}-x9Yz0A");
    let pyodbc = "arn:aws:secretsmanager:us-west-2:123456789012:secret:Appuser-pyodbc-WoDpmU";
    let test_secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/test-secret-123456";
    let china = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:autorepost/production/app-AbC123";
    let mut left = recorded();
    for (file, action, ids, version) in [
        ("rotation-succeeded", "RotationSucceeded", vec![pyodbc], None),
        ("put-secret-value", "PutSecretValue", vec![test_secret], Some("4d383ea9-084a-49c9-8722-cbfb0f25c456")),
        ("create-secret", "CreateSecret", vec![NAME, ARN], Some(VERSION)),
        ("put-pending", "PutSecretValue", vec![ARN], Some(VERSION)),
        ("put-without-account", "PutSecretValue", vec![NAME, ARN], Some(VERSION)),
        ("put-in-china", "PutSecretValue", vec![NAME, china], Some(VERSION)),
        ("update-secret-partial-arn", "UpdateSecret", vec![PARTIAL, ARN, NAME], Some(VERSION)),
        ("update-version-stage", "UpdateSecretVersionStage", vec![NAME, ARN], None),
        ("delete-secret", "DeleteSecret", vec![NAME, ARN], None),
        ("restore-secret", "RestoreSecret", vec![NAME, ARN], None),
        ("rotate-secret", "RotateSecret", vec![NAME, ARN], Some(VERSION)),
        ("cancel-rotate-secret", "CancelRotateSecret", vec![ARN], None),
        ("replicate-to-regions", "ReplicateSecretToRegions", vec![NAME, ARN], None),
        ("rotation-started", "RotationStarted", vec![ARN], None),
        ("rotation-failed", "RotationFailed", vec![ARN], None),
        ("rotation-abandoned", "RotationAbandoned", vec![ARN], None),
        ("test-rotation-failed", "TestRotationFailed", vec![ARN], None),
        ("test-rotation-succeeded", "TestRotationSucceeded", vec![ARN], None),
        ("start-version-delete", "StartSecretVersionDelete", vec![ARN], None),
        ("cancel-version-delete", "CancelSecretVersionDelete", vec![ARN], None),
        ("end-version-delete", "EndSecretVersionDelete", vec![ARN], None),
        ("managed-rotation", "RotationSucceeded", vec![rds, &rds_arn], None),
        ("through-sns", "PutSecretValue", vec![NAME, ARN], Some(VERSION)),
    ] {
        let event = parse(&left.remove(file).unwrap()).unwrap_or_else(|ignored| panic!("{file}: {ignored}"));
        assert_eq!((event.action.as_str(), &event.secret), (action, &named(&ids)), "{file}");
        assert_eq!(event.version_id.as_deref(), version, "{file}");
        assert_eq!(event.account, "123456789012", "{file}");
        let (region, time) = match file {
            "rotation-succeeded" => ("us-west-2", "2021-08-13T19:17:16Z"),
            "put-secret-value" => ("eu-west-1", "2024-10-23T12:26:45Z"),
            "put-in-china" => ("cn-north-1", "2026-09-14T08:15:27Z"),
            _ => ("eu-west-1", "2026-09-14T08:15:27Z"),
        };
        assert_eq!(event.region, region, "{file}");
        assert_eq!(event.time, Some(time.parse().unwrap()), "{file}");
    }
    // The others say in their names why they are ignored.
    for (file, body) in left {
        let reason = match file.split_once('-').map(|(reason, _)| reason) {
            Some("failed") => Ignored::Failed,
            Some("irrelevant") => Ignored::Irrelevant,
            Some("foreign") => Ignored::Foreign,
            Some("malformed") => Ignored::Malformed,
            _ => panic!("{file} is missing in this test"),
        };
        assert_eq!(parse(&body), Err(reason), "{file}");
    }
}

#[test]
fn every_relevant_action_is_taken_under_both_detail_types() {
    for action in RELEVANT {
        for (file, kind) in [("put-pending", API_CALL), ("rotation-started", SERVICE_EVENT)] {
            let mut event = message(file);
            event["detail"]["eventName"] = action.into();
            event["detail-type"] = kind.into();
            assert_eq!(parse(&event.to_string()).map(|event| event.action).as_deref(), Ok(action), "{kind}");
        }
    }
}

#[test]
fn garbage_is_malformed() {
    let whole = recorded()["put-secret-value"].clone();
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested_detail = whole.replacen("\"resources\":[]", &format!("\"resources\":{nested}"), 1);
    assert_ne!(nested_detail, whole);
    for garbage in [
        "",
        " ",
        "hello",
        "null",
        "true",
        "1e999",
        "\"text\"",
        "[]",
        "{}",
        "[{}]",
        "{\"detail\":",
        "\u{feff}{}",
        "\0",
        &whole[..whole.len() / 2],
        &format!("{whole}{whole}"),
        &nested,
        &nested_detail,
    ] {
        assert_eq!(parse(garbage), Err(Ignored::Malformed), "{}", &garbage[..garbage.len().min(40)]);
    }
}

#[test]
fn an_event_of_which_any_one_part_has_another_type_is_ignored_or_read_without_it() {
    let whole = message("create-secret");
    for wrong in [Value::Null, 1.into(), true.into(), "".into(), "\n".into(), Value::Array(vec![]), "X".into()] {
        for pointer in ["/source", "/detail-type", "/account", "/region", "/detail", "/detail/eventName"] {
            let mut event = whole.clone();
            event["detail"]["awsRegion"] = Value::Null;
            event["detail"]["recipientAccountId"] = Value::Null;
            *event.pointer_mut(pointer).unwrap() = wrong.clone();
            assert!(parse(&event.to_string()).is_err(), "{pointer} {wrong}");
        }
        for pointer in ["/detail/requestParameters", "/detail/responseElements", "/time", "/resources"] {
            let mut event = whole.clone();
            *event.pointer_mut(pointer).unwrap() = wrong.clone();
            assert!(parse(&event.to_string()).is_ok(), "{pointer} {wrong}");
        }
    }
}

#[test]
fn a_body_is_taken_up_to_256_kib_and_an_id_up_to_2048_characters() {
    let mut event = message("create-secret");
    event["detail"]["userAgent"] = "x".into();
    let room = MAX_BODY - event.to_string().len();
    event["detail"]["userAgent"] = "x".repeat(room + 1).into();
    assert_eq!(event.to_string().len(), MAX_BODY);
    assert!(parse(&event.to_string()).is_ok());
    event["detail"]["userAgent"] = "x".repeat(room + 2).into();
    assert_eq!(parse(&event.to_string()), Err(Ignored::Malformed));

    let mut event = message("put-pending");
    event["detail"]["responseElements"] = Value::Null;
    event["detail"]["requestParameters"]["secretId"] = "x".repeat(MAX_ID).into();
    assert!(parse(&event.to_string()).is_ok());
    for dropped in ["x".repeat(MAX_ID + 1), "a\nb".to_owned(), "a b".to_owned(), "ä".to_owned()] {
        event["detail"]["requestParameters"]["secretId"] = dropped.clone().into();
        event["detail"]["responseElements"] = Value::Null;
        assert_eq!(parse(&event.to_string()), Err(Ignored::Malformed));
        event["detail"]["responseElements"] = serde_json::json!({"arn": ARN});
        assert_eq!(parse(&event.to_string()).unwrap().secret, named(&[ARN]));
    }
}

#[test]
fn a_token_that_cannot_be_a_version_id_is_none() {
    let mut event = message("put-pending");
    for (token, is_id) in [
        (VERSION.to_owned(), true),
        ("x".repeat(32), true),
        ("x".repeat(64), true),
        ("x".repeat(31), false),
        ("x".repeat(65), false),
        (" ".repeat(36), false),
        ("ä".repeat(20), false),
    ] {
        event["detail"]["requestParameters"]["clientRequestToken"] = token.clone().into();
        assert_eq!(parse(&event.to_string()).unwrap().version_id, is_id.then_some(token));
    }
}

#[test]
fn only_one_notification_of_sns_is_unwrapped() {
    let mut twice = message("through-sns");
    twice["Message"] = recorded()["through-sns"].clone().into();
    assert_eq!(parse(&twice.to_string()), Err(Ignored::Malformed));
}

#[test]
fn reasons_hold_nothing_of_the_message() {
    for ignored in [Ignored::Malformed, Ignored::Foreign, Ignored::Failed, Ignored::Irrelevant] {
        assert!(ignored.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        assert!(!ignored.to_string().is_empty());
    }
}

#[test]
fn a_secret_is_meant_by_its_names_and_by_no_look_alike() {
    let of = |resource: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{resource}");
    let (arn, partial) = (of("app-AbCdEf"), of("app"));
    for (ids, meant) in [
        (vec!["app"], true),
        (vec![arn.as_str()], true),
        (vec![partial.as_str()], true),
        (vec!["app", &arn], true),
        (vec![&partial, &arn, "app"], true),
        // An ARN decides over a name.
        (vec!["other", &arn], true),
        (vec!["app", &of("other-AbCdEf")], false),
        (vec![&partial, &of("app-GhIjKl")], false),
        (vec!["app2"], false),
        (vec!["xapp"], false),
        (vec!["ap"], false),
        (vec!["App"], false),
        (vec!["app-AbCdEf"], false),
        (vec![""], false),
        (vec![&of("app2")], false),
        (vec![&of("ap")], false),
        (vec![&of("App")], false),
        (vec![&of("app-AbCdE")], false),
        (vec![&of("app-AbCdEg")], false),
        (vec![&of("app-abcdef")], false),
        (vec![&of("app-AbCdEf-GhIjKl")], false),
        (vec![&of("")], false),
        (vec!["arn:aws:secretsmanager:eu-west-1:999999999999:secret:app-AbCdEf"], false),
        (vec!["arn:aws:secretsmanager:eu-west-1:999999999999:secret:app"], false),
        (vec!["arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf"], false),
        (vec!["arn:aws-cn:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"], false),
    ] {
        assert_eq!(named(&ids).means(&arn, "app"), meant, "{ids:?}");
    }
}

#[test]
fn a_secret_whose_name_ends_like_an_arn_is_told_from_the_one_that_has_this_arn() {
    let of = |resource: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{resource}");
    let app = (of("app-AbCdEf"), "app");
    let like = (of("app-AbCdEf-GhIjKl"), "app-AbCdEf");
    for (ids, means_app, means_like) in [
        (vec!["app"], true, false),
        (vec!["app-AbCdEf"], false, true),
        (vec!["app", &app.0], true, false),
        (vec![&app.0, &like.0], false, true),
        (vec!["app-AbCdEf", &like.0], false, true),
        (vec![&like.0], false, true),
        // What the caller typed, and nothing more: it may be either.
        (vec![&app.0], true, true),
    ] {
        assert_eq!(named(&ids).means(&app.0, app.1), means_app, "{ids:?}");
        assert_eq!(named(&ids).means(&like.0, like.1), means_like, "{ids:?}");
    }
}

#[test]
fn a_name_is_of_the_account_and_region_of_the_event() {
    let event = |ids: &[&str]| SecretEvent { secret: named(ids), ..parse(&recorded()["put-pending"]).unwrap() };
    let other_region = ARN.replace("eu-west-1", "us-east-1");
    let other_account = ARN.replace("123456789012", "999999999999");
    assert!(event(&[NAME]).concerns(ARN, NAME));
    assert!(!event(&[NAME]).concerns(&other_region, NAME));
    assert!(!event(&[NAME]).concerns(&other_account, NAME));
    assert!(!event(&[NAME]).concerns("", NAME));
    // A caller's account hears of its calls to another account's secret, under its own number.
    assert!(event(&[&other_account]).concerns(&other_account, NAME));
    assert!(event(&[ARN]).concerns(ARN, NAME));
}

fn json() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        proptest::sample::select(vec![
            "source",
            "detail-type",
            "account",
            "region",
            "detail",
            "eventName",
            "requestParameters",
            "responseElements",
            "secretId",
            "arn",
            "Type",
            "Message",
            "clientRequestToken",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let text = prop_oneof![
        proptest::sample::select(vec![
            "aws.secretsmanager",
            API_CALL,
            "123456789012",
            "eu-west-1",
            "PutSecretValue",
            "Notification",
        ])
        .prop_map(str::to_owned),
        ".{0,40}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(field.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A name, and some that look like it.
fn look_alikes() -> impl Strategy<Value = Vec<String>> {
    ("[a-z][a-zA-Z0-9/_+=.@-]{0,12}", "[a-zA-Z0-9]{6}").prop_map(|(name, random)| {
        vec![
            format!("{name}2"),
            format!("x{name}"),
            format!("{name}-{random}"),
            format!("{name}-{random}-{random}"),
            name.to_uppercase(),
            name,
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_parsed_without_a_panic(body in any::<String>()) {
        let _ = parse(&body);
    }

    #[test]
    fn any_json_is_parsed_without_a_panic(body in json()) {
        let _ = parse(&body.to_string());
    }

    #[test]
    fn any_json_in_the_place_of_a_part_of_an_event_is_parsed_without_a_panic(
        pointer in proptest::sample::select(vec![
            "/detail", "/account", "/region", "/time", "/detail/eventName", "/detail/requestParameters",
            "/detail/requestParameters/name", "/detail/responseElements", "/detail/responseElements/arn",
            "/detail/eventTime", "/detail/awsRegion", "/detail/recipientAccountId",
        ]),
        part in json(),
    ) {
        let mut event = message("create-secret");
        *event.pointer_mut(pointer).unwrap() = part;
        if let Ok(event) = parse(&event.to_string()) {
            prop_assert!(!event.secret.ids.is_empty());
            prop_assert!(event.secret.ids.iter().all(|id| is_id(id)));
            prop_assert!(is_account(&event.account) && is_region(&event.region));
        }
    }

    #[test]
    fn an_event_means_the_one_secret_that_was_changed(
        names in look_alikes(),
        suffixes in proptest::collection::vec("[a-zA-Z0-9]{6}", 6),
        changed in 0_usize..6,
        typed in 0_usize..3,
        answered in any::<bool>(),
    ) {
        let arns: Vec<(String, String)> = names
            .iter()
            .zip(&suffixes)
            .map(|(name, suffix)| {
                let partial = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}");
                (format!("{partial}-{suffix}"), partial)
            })
            .collect();
        let (arn, partial) = &arns[changed];
        let by_name = typed == 0;
        let typed = [&names[changed], partial, arn][typed];
        let secret = if answered { named(&[typed, arn]) } else { named(&[typed]) };
        for ((arn, _), name) in arns.iter().zip(&names) {
            // The reference: the changed secret itself; and where one ARN is all there is, whatever Secrets Manager
            // would find by it.
            let mut expected = *name == names[changed] && *arn == arns[changed].0;
            if !by_name && (!answered || *typed == arns[changed].0) {
                let rest = arn.strip_prefix(typed);
                expected |= rest.is_some_and(|rest| rest.is_empty() || (rest.len() == 7 && rest.starts_with('-')));
            }
            prop_assert_eq!(secret.means(arn, name), expected, "{:?} {}", secret, arn);
        }
    }
}
