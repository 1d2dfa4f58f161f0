use proptest::prelude::*;

use crate::domain::secret::reference::{ReferenceError, SecretId, Source, ValueFrom, VersionSelector};

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/staging/app-AbC123";
const ID: &str = "EXAMPLE1-90ab-cdef-fedc-ba987EXAMPLE";

fn parse(text: &str) -> Result<ValueFrom, ReferenceError> {
    ValueFrom::try_from(text)
}

fn stage(label: &str) -> VersionSelector {
    VersionSelector::Stage(label.to_owned())
}

#[test]
fn the_forms_of_value_from() {
    let id = VersionSelector::Id(ID.to_owned());
    let current = VersionSelector::default();
    // text, JSON key, version, canonical form of what follows the secret
    let cases: &[(&str, Option<&str>, &VersionSelector, &str)] = &[
        ("", None, &current, ""),
        (":", None, &current, ""),
        (":::", None, &current, ""),
        (":DATABASE_URL", Some("DATABASE_URL"), &current, ":DATABASE_URL::"),
        (":DATABASE_URL:", Some("DATABASE_URL"), &current, ":DATABASE_URL::"),
        (":DATABASE_URL::", Some("DATABASE_URL"), &current, ":DATABASE_URL::"),
        (":DATABASE_URL:AWSCURRENT:", Some("DATABASE_URL"), &current, ":DATABASE_URL::"),
        (":DATABASE_URL:AWSPREVIOUS", Some("DATABASE_URL"), &stage("AWSPREVIOUS"), ":DATABASE_URL:AWSPREVIOUS:"),
        ("::AWSPREVIOUS:", None, &stage("AWSPREVIOUS"), "::AWSPREVIOUS:"),
        (&format!(":::{ID}"), None, &id, &format!(":::{ID}")),
        (&format!(":a.b/c::{ID}"), Some("a.b/c"), &id, &format!(":a.b/c::{ID}")),
        (":a key", Some("a key"), &current, ":a key::"),
        (":/a/b", Some("/a/b"), &current, ":/a/b::"),
    ];
    for secret in ["autorepost/staging/app", ARN, "arnold", "a+b=c@d.e_f-g"] {
        for (rest, json_key, version, canonical) in cases {
            let text = format!("{secret}{rest}");
            let parsed = parse(&text).unwrap();
            assert_eq!(parsed.source.secret.to_string(), secret, "{text}");
            assert_eq!(parsed.json_key.as_deref(), *json_key, "{text}");
            assert_eq!(&parsed.source.version, *version, "{text}");
            assert_eq!(parsed.to_string(), format!("{secret}{canonical}"));
        }
    }
}

#[test]
fn both_stage_and_id_is_refused() {
    let text = format!("{ARN}:KEY:AWSPREVIOUS:{ID}");
    let error = parse(&text).unwrap_err();
    assert!(matches!(error, ReferenceError::StageAndId { .. }), "{error}");
}

#[test]
fn a_json_key_with_a_colon_is_sent_to_the_long_form() {
    for text in [format!("{ARN}:urn:x:y:z"), "app:urn:x:y:z".to_owned()] {
        let error = parse(&text).unwrap_err();
        assert!(matches!(error, ReferenceError::TooManyParts { .. }), "{error}");
        assert!(error.to_string().contains("`from: {secret, key}`"), "{error}");
    }
}

/// The guide's own example leaves out region and account.
#[test]
fn malformed_arns_say_what_is_wrong() {
    let cases = [
        (
            "arn:aws:secretsmanager:...:secret:autorepost/staging/app:DATABASE_URL::",
            "its region is missing or misspelt",
        ),
        ("arn:aws:secretsmanager:eu-west-1:secret:app", "fewer than the seven parts"),
        ("arn:aws:secretsmanager:eu-west-1:12345678901:secret:app", "account"),
        ("arn:aws:secretsmanager:eu-west-1:12345678901x:secret:app", "account"),
        ("arn:aws:secretsmanager::123456789012:secret:app", "region"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/app", "secretsmanager"),
        ("arn:aws:s3:::bucket", "secretsmanager"),
        ("arn:gcp:secretsmanager:eu-west-1:123456789012:secret:app", "partition"),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:policy:app", "resource type"),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:", "name is missing"),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:a b", "character"),
        ("arn:", "secretsmanager"),
    ];
    for (text, problem) in cases {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ReferenceError::MalformedArn { .. }), "{text}: {error}");
        assert!(error.to_string().contains(problem), "{text}: {error}");
        assert!(error.to_string().contains("write it as"), "{error}");
    }
}

#[test]
fn secret_names() {
    assert!(SecretId::try_from("x".repeat(512).as_str()).is_ok());
    assert!(matches!(SecretId::try_from("x".repeat(513).as_str()), Err(ReferenceError::NameTooLong { .. })));
    assert_eq!(SecretId::try_from(""), Err(ReferenceError::EmptyName));
    assert_eq!(parse(":KEY"), Err(ReferenceError::EmptyName));
    for (name, character) in [("a b", ' '), ("a,b", ','), ("ä", 'ä'), ("a\n", '\n'), ("a:b", ':'), ("a*", '*')] {
        let expected = ReferenceError::NameCharacter { name: name.to_owned(), character };
        assert_eq!(SecretId::try_from(name), Err(expected));
    }
}

#[test]
fn arns_keep_their_parts() {
    let SecretId::Arn(arn) = SecretId::try_from(ARN).unwrap() else { panic!("not an ARN") };
    assert_eq!(
        (arn.partition.as_str(), arn.region.as_str(), arn.account.as_str(), arn.resource.as_str()),
        ("aws", "eu-west-1", "123456789012", "autorepost/staging/app-AbC123")
    );
    assert_eq!(arn.possible_names().collect::<Vec<_>>(), ["autorepost/staging/app-AbC123", "autorepost/staging/app"]);
    for (resource, names) in [
        ("app-worker", vec!["app-worker", "app"]),
        ("app-workers", vec!["app-workers"]),
        ("app", vec!["app"]),
        ("-AbC123", vec!["-AbC123"]),
        ("app-AbC/23", vec!["app-AbC/23"]),
        ("app_AbC123", vec!["app_AbC123"]),
    ] {
        let text = format!("arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:{resource}");
        let id = SecretId::try_from(text.as_str()).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_arn().unwrap().possible_names().collect::<Vec<_>>(), names);
    }
}

#[test]
fn versions() {
    assert_eq!(VersionSelector::default(), stage("AWSCURRENT"));
    assert!(VersionSelector::default().is_current());
    assert!(VersionSelector::stage("ä".repeat(256).as_str()).is_ok());
    for bad in ["", "a\nb", "ä".repeat(257).as_str()] {
        assert!(VersionSelector::stage(bad).is_err(), "{bad}");
    }
    for good in ["a".repeat(32), "b".repeat(64), ID.to_owned()] {
        assert_eq!(VersionSelector::id(&good), Ok(VersionSelector::Id(good)));
    }
    for bad in ["a".repeat(31), "a".repeat(65), format!("{} {}", "a".repeat(20), "b".repeat(20)), String::new()] {
        assert!(VersionSelector::id(&bad).is_err(), "{bad}");
    }
    assert!(VersionSelector::from_parts("app", Some("AWSCURRENT"), Some(ID)).is_err());
}

#[test]
fn sources_are_told_apart_by_secret_and_version() {
    let source = |text: &str| parse(text).unwrap().source;
    assert_eq!(source("app:A::"), source("app:B:AWSCURRENT:"));
    assert_ne!(source("app"), source("app::AWSPREVIOUS:"));
    assert_ne!(source("app"), source("app2"));
    assert_eq!(source("app").to_string(), "app");
    assert_eq!(source("app::AWSPREVIOUS:").to_string(), "app (AWSPREVIOUS)");
}

#[test]
fn errors_are_bounded() {
    for text in ["x".repeat(100_000), format!("arn:{}", "x".repeat(100_000)), format!("app:{}", "x:".repeat(50_000))] {
        assert!(parse(&text).unwrap_err().to_string().len() < 500);
    }
    let stage = parse(&format!("app::{}:", "x".repeat(100_000))).unwrap_err();
    assert!(stage.to_string().len() < 500);
}

fn secrets() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9/_+=.@!-]{1,40}",
        "arn:aws(-cn|-us-gov)?:secretsmanager:[a-z]{2}-[a-z]{4,9}-[1-9]:[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]{1,40}",
    ]
}

proptest! {
    #[test]
    fn canonical_forms_round_trip(
        secret in secrets(),
        json_key in proptest::option::of("[^:]{1,20}"),
        version in prop_oneof![
            Just(VersionSelector::default()),
            "[A-Za-z]{1,20}".prop_map(VersionSelector::Stage),
            "[a-f0-9-]{32,64}".prop_map(VersionSelector::Id),
        ],
    ) {
        let secret = SecretId::try_from(secret.as_str()).unwrap();
        let reference = ValueFrom { source: Source { secret, version }, json_key };
        prop_assert_eq!(parse(&reference.to_string()), Ok(reference));
    }

    #[test]
    fn any_text_is_a_reference_or_a_bounded_error(text in "(arn:)?(aws:secretsmanager:)?.{0,60}") {
        match parse(&text) {
            Ok(reference) => prop_assert_eq!(parse(&reference.to_string()), Ok(reference)),
            Err(error) => prop_assert!(error.to_string().len() < 800),
        }
    }
}
