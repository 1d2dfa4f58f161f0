use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api::{
    AwsAccess, GrantedNamespaces, GrantedRotation, GrantedSecret, OnExpiry, Reason, RotationAction, SecretGrant,
    SecretGrantSpec,
};
use crate::domain::grant::{Access, GrantError, Home, RequestedKeys, Requester, decide, requested_keys};
use crate::domain::secret::reference::SecretId;

const ACCOUNT: &str = "123456789012";

fn grant(name: &str, namespaces: &[&str], secrets: &[&str]) -> SecretGrant {
    let names = Some(namespaces.iter().map(ToString::to_string).collect());
    let mut grant = SecretGrant::new(
        name,
        SecretGrantSpec {
            namespaces: GrantedNamespaces { names, selector: None },
            secrets: secrets.iter().map(|name| GrantedSecret { name: (*name).to_owned(), keys: None }).collect(),
            ..SecretGrantSpec::default()
        },
    );
    grant.spec.aws = Some(AwsAccess {
        region: Some("eu-west-1".to_owned()),
        account_id: Some(ACCOUNT.to_owned()),
        ..AwsAccess::default()
    });
    grant
}

fn with_keys(mut grant: SecretGrant, keys: &[&str]) -> SecretGrant {
    for secret in &mut grant.spec.secrets {
        secret.keys = Some(keys.iter().map(ToString::to_string).collect());
    }
    grant
}

fn all_of(secrets: &[&str]) -> BTreeMap<SecretId, RequestedKeys> {
    secrets.iter().map(|text| (text.parse().unwrap(), RequestedKeys::default())).collect()
}

fn requester<'a>(namespace: &'a str, grant: Option<&'a str>) -> Requester<'a> {
    Requester { namespace, labels: None, grant }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ask(
    grants: &[SecretGrant],
    requester: Requester<'_>,
    requested: &BTreeMap<SecretId, RequestedKeys>,
) -> Result<Access, GrantError> {
    decide(grants, requester, requested, &Home::default(), at(0))
}

fn decision(grants: &[SecretGrant], namespace: &str, secrets: &[&str]) -> Result<String, Reason> {
    let decided = ask(grants, requester(namespace, None), &all_of(secrets));
    decided.map(|access| access.grant).map_err(|error| error.reason())
}

#[test]
fn nothing_is_allowed_without_a_grant() {
    assert_eq!(decision(&[], "production", &["autorepost/production/app"]), Err(Reason::AccessDenied));
}

/// Grants × namespaces × secrets, look-alikes among them, and whether the grant allows the secret.
const DECISIONS: &[(&str, &str, &str, bool)] = &[
    ("exact", "production", "autorepost/production/app", true),
    ("exact", "staging", "autorepost/production/app", false),
    ("exact", "production2", "autorepost/production/app", false),
    ("exact", "xproduction", "autorepost/production/app", false),
    ("exact", "Production", "autorepost/production/app", false),
    ("exact", "", "autorepost/production/app", false),
    ("exact", "production", "autorepost/production/app2", false),
    ("exact", "production", "xautorepost/production/app", false),
    ("exact", "production", "autorepost/production/App", false),
    ("exact", "production", "AUTOREPOST/production/app", false),
    ("exact", "production", "autorepost/production/app-AbCdEf", false),
    ("exact", "production", "autorepost/production", false),
    ("exact", "production", "autorepost/production/", false),
    ("exact", "production", "autorepost/production/app/", false),
    ("exact", "production", "/autorepost/production/app", false),
    ("exact", "production", "autorepost/production/../production/app", false),
    ("exact", "production", "autorepost/staging/app", false),
    ("exact", "production", "autorepost//production/app", false),
    ("below", "production", "autorepost/production/app", true),
    ("below", "production", "autorepost/production/worker", true),
    ("below", "production", "autorepost/production/a/b/c", true),
    ("below", "production", "autorepost/production/", true),
    // The name is text to Secrets Manager: there is no parent folder to climb to.
    ("below", "production", "autorepost/production/../staging/app", true),
    ("below", "production", "autorepost/production", false),
    ("below", "production", "autorepost/production2/app", false),
    ("below", "production", "autorepost/staging/app", false),
    ("below", "production", "xautorepost/production/app", false),
    ("below", "staging", "autorepost/production/app", false),
    ("one", "production", "autorepost/production/app", true),
    ("one", "production", "autorepost/production/api", true),
    ("one", "production", "autorepost/production/ap", false),
    ("one", "production", "autorepost/production/apps", false),
    ("own", "production", "autorepost/production/app", true),
    ("own", "staging", "autorepost/staging/app", true),
    ("own", "staging", "autorepost/production/app", false),
    ("own", "production", "autorepost/staging/app", false),
    ("own", "production", "autorepost/{namespace}/app", false),
    ("own", "production", "shared-production", true),
    ("own", "production", "shared-production2", false),
    ("own", "other", "autorepost/other/app", false),
    ("exact", "production", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app", true),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf",
        true,
    ),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdE",
        false,
    ),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEfG",
        false,
    ),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-Ab/dEf",
        false,
    ),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app2-AbCdEf",
        false,
    ),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-worker-AbCdEf",
        false,
    ),
    (
        "exact",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:xautorepost/production/app-AbCdEf",
        false,
    ),
    ("exact", "production", "arn:aws:secretsmanager:eu-west-2:123456789012:secret:autorepost/production/app", false),
    ("exact", "production", "arn:aws:secretsmanager:eu-west-1:210987654321:secret:autorepost/production/app", false),
    ("exact", "staging", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app", false),
    (
        "below",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf",
        true,
    ),
    ("below", "production", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/a/b", true),
    (
        "below",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/staging/app-AbCdEf",
        false,
    ),
    (
        "below",
        "production",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:autorepost/production/app-AbCdEf",
        false,
    ),
    ("own", "staging", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/staging/app-AbCdEf", true),
    ("own", "staging", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf", false),
    ("own", "production", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shared-production-AbCdEf", true),
    ("own", "production", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shared-staging-AbCdEf", false),
    (
        "one",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf",
        true,
    ),
    (
        "one",
        "production",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/apps-AbCdEf",
        false,
    ),
];

#[test]
fn a_grant_allows_its_namespaces_and_its_names_and_no_look_alikes() {
    let grants = [
        grant("exact", &["production"], &["autorepost/production/app"]),
        grant("below", &["production"], &["autorepost/production/*"]),
        grant("one", &["production"], &["autorepost/production/ap?"]),
        grant("own", &["production", "staging"], &["autorepost/{namespace}/*", "shared-{namespace}"]),
    ];
    let mut rows = 0;
    for &(name, namespace, secret, allowed) in DECISIONS {
        let grant = grants.iter().find(|grant| grant.name_any() == name).unwrap();
        // References that are not even names of secrets are refused before grants are asked.
        let Ok(id) = secret.parse::<SecretId>() else {
            assert!(!allowed, "{secret}");
            rows += 1;
            continue;
        };
        let requested = BTreeMap::from([(id, RequestedKeys::default())]);
        let decided = ask(std::slice::from_ref(grant), requester(namespace, None), &requested);
        assert_eq!(decided.is_ok(), allowed, "{} {namespace} {secret}: {decided:?}", grant.name_any());
        rows += 1;
    }
    assert!(rows >= 60, "{rows}");
}

#[test]
fn every_secret_must_be_allowed_by_one_and_the_same_grant() {
    let grants = [grant("app", &["production"], &["p/app"]), grant("worker", &["production"], &["p/worker"])];
    assert_eq!(decision(&grants, "production", &["p/app", "p/worker"]), Err(Reason::AccessDenied));
    assert_eq!(decision(&grants, "production", &["p/worker"]), Ok("worker".to_owned()));
}

#[test]
fn several_grants_need_a_choice() {
    let grants = [grant("b", &["n"], &["p/*"]), grant("a", &["n"], &["p/app"])];
    let error = ask(&grants, requester("n", None), &all_of(&["p/app"])).unwrap_err();
    assert_eq!(error, GrantError::Ambiguous(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(ask(&grants, requester("n", Some("b")), &all_of(&["p/app"])).unwrap().grant, "b");
}

#[test]
fn a_region_must_be_known_before_anything_is_asked() {
    let mut grant = grant("g", &["n"], &["*"]);
    grant.spec.aws = None;
    let decided = |region: Option<&str>| {
        let home = Home { region: region.map(str::to_owned), account: None };
        decide([&grant], requester("n", None), &all_of(&["app"]), &home, at(0)).map(|access| access.identity.region)
    };
    assert_eq!(decided(None), Err(GrantError::NoRegion("g".to_owned())));
    assert_eq!(decided(Some("eu-west-1")), Ok(Some("eu-west-1".to_owned())));
}

#[test]
fn a_named_grant_must_exist_and_allow() {
    let grants = [grant("a", &["n"], &["p/app"])];
    let missing = ask(&grants, requester("n", Some("x")), &all_of(&["p/app"])).unwrap_err();
    assert_eq!(missing.reason(), Reason::GrantNotFound);
    let refused = ask(&grants, requester("other", Some("a")), &all_of(&["p/app"])).unwrap_err();
    assert!(refused.to_string().contains("\"a\" does not allow the namespace \"other\""), "{refused}");
}

#[test]
fn an_arn_that_may_mean_two_names_waits_for_the_name_that_aws_answers() {
    let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-worker";
    let decided = |globs: &[&str]| ask(&[grant("g", &["n"], globs)], requester("n", None), &all_of(&[arn])).ok();
    for (globs, unconfirmed) in [
        (&["app-worker", "app"][..], Some(false)),
        (&["app"][..], Some(true)),
        (&["app-worker"][..], Some(true)),
        (&["other"][..], None),
    ] {
        assert_eq!(decided(globs).map(|access| !access.unconfirmed.is_empty()), unconfirmed, "{globs:?}");
    }
    let access = decided(&["app"]).unwrap();
    assert!(access.permits("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-worker", "app"));
    assert!(!access.permits("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-worker-AbCdEf", "app-worker"));
    assert!(!access.permits("arn:aws:secretsmanager:eu-west-2:123456789012:secret:app-AbCdEf", "app"));
    assert!(!access.permits("arn:aws:secretsmanager:eu-west-1:210987654321:secret:app-AbCdEf", "app"));
}

#[test]
fn a_selector_is_judged_as_kubernetes_does_and_an_empty_one_selects_nothing() {
    let labels =
        BTreeMap::from([("team".to_owned(), "growth".to_owned()), ("env".to_owned(), "production".to_owned())]);
    let decided = |selector: serde_json::Value, labels: Option<&BTreeMap<String, String>>| {
        let mut grant = grant("g", &[], &["app"]);
        grant.spec.namespaces =
            GrantedNamespaces { names: None, selector: Some(serde_json::from_value(selector).unwrap()) };
        ask(&[grant], Requester { namespace: "n", labels, grant: None }, &all_of(&["app"])).is_ok()
    };
    for (selector, selects) in [
        (json!({"matchLabels": {"team": "growth"}}), true),
        (json!({"matchLabels": {"team": "growth", "env": "production"}}), true),
        (json!({"matchLabels": {"team": "growth", "env": "staging"}}), false),
        (json!({"matchExpressions": [{"key": "env", "operator": "In", "values": ["production", "staging"]}]}), true),
        (json!({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["production"]}]}), false),
        (json!({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]}), true),
        (json!({"matchExpressions": [{"key": "env", "operator": "Exists"}]}), true),
        (json!({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}), true),
        (json!({"matchExpressions": [{"key": "env", "operator": "Sounds"}]}), false),
        (
            json!({"matchLabels": {"team": "growth"}, "matchExpressions": [{"key": "absent", "operator": "Exists"}]}),
            false,
        ),
        (json!({}), false),
        (json!({"matchLabels": {}, "matchExpressions": []}), false),
    ] {
        assert_eq!(decided(selector.clone(), Some(&labels)), selects, "{selector}");
        assert!(!decided(selector, None), "labels that are not known match nothing");
    }
}

#[test]
fn names_together_with_a_selector_and_neither_of_them_allow_nothing() {
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"a": "b"}})).unwrap();
    for (names, selector) in [(Some(vec!["n".to_owned()]), Some(selector)), (None, None)] {
        let mut grant = grant("g", &[], &["app"]);
        grant.spec.namespaces = GrantedNamespaces { names, selector };
        let requester = Requester { namespace: "n", labels: Some(&labels), grant: None };
        assert!(ask(&[grant], requester, &all_of(&["app"])).is_err());
    }
}

#[test]
fn a_placeholder_that_could_reach_into_another_namespace_allows_nothing() {
    let grants = [grant("g", &["team-a"], &["x/{namespace}*"])];
    assert_eq!(decision(&grants, "team-a", &["x/team-a/app"]), Err(Reason::AccessDenied));
    assert_eq!(decision(&grants, "team-a", &["x/team-ab/app"]), Err(Reason::AccessDenied));
}

#[test]
fn keys_outside_the_list_are_refused_before_any_read_and_named() {
    let grants = [with_keys(grant("g", &["n"], &["app"]), &["DATABASE_URL", "S3_*"])];
    let wanting = |keys: &[&str], whole: bool| {
        let requested = RequestedKeys { keys: keys.iter().map(ToString::to_string).collect(), whole };
        ask(&grants, requester("n", None), &BTreeMap::from([("app".parse().unwrap(), requested)]))
    };
    assert!(wanting(&["DATABASE_URL", "S3_BUCKET"], false).is_ok());
    let refused = wanting(&["DATABASE_URL", "REDIS_URL"], false).unwrap_err();
    assert!(refused.to_string().contains("to read REDIS_URL of the secret \"app\""), "{refused}");
    let whole = wanting(&[], true).unwrap_err();
    assert!(whole.to_string().contains("(the whole payload)"), "{whole}");
    // dataFrom asks for nothing by name: it publishes what is allowed.
    let access = wanting(&[], false).unwrap();
    assert!(access.permits_key("app", "S3_BUCKET") && !access.permits_key("app", "REDIS_URL"));
    assert!(!access.permits_key("other", "S3_BUCKET"));
}

#[test]
fn a_json_pointer_is_judged_by_its_first_token() {
    let spec =
        json!({"data": [{"key": "A", "from": {"secret": "app", "key": "/db/url"}}, {"key": "B", "valueFrom": "app"}]});
    let spec: crate::api::SecretBindingSpec = serde_json::from_value(spec).unwrap();
    let binding = crate::domain::binding::Binding::parse(&crate::api::SecretBinding::new("b", spec)).ok().unwrap();
    let wanted = requested_keys(&binding.mapping).remove(&"app".parse().unwrap()).unwrap();
    assert_eq!(wanted, RequestedKeys { keys: BTreeSet::from(["db".to_owned()]), whole: true });
}

#[test]
fn a_change_of_the_keys_changes_what_is_digested() {
    let text = |keys: &[&str]| {
        let decided = ask(&[with_keys(grant("g", &["n"], &["app"]), keys)], requester("n", None), &all_of(&["app"]));
        decided.unwrap().keys_text("app")
    };
    assert_ne!(text(&["A"]), text(&["A", "B"]));
    assert_eq!(text(&["*"]), "*");
}

#[test]
fn a_grant_with_an_end_serves_those_who_name_it_until_then() {
    let mut grant = grant("break-glass", &["n"], &["app"]);
    grant.spec.expires_at = Some(Time(at(100)));
    grant.spec.on_expiry = Some(OnExpiry::Delete);
    let ask = |named: Option<&str>, now: i64| {
        decide([&grant], requester("n", named), &all_of(&["app"]), &Home::default(), at(now))
    };
    assert_eq!(ask(None, 0).unwrap_err().reason(), Reason::AccessDenied);
    assert_eq!(ask(Some("break-glass"), 99).unwrap().expires, Some(at(100)));
    let ended = ask(Some("break-glass"), 100).unwrap_err();
    assert_eq!(ended, GrantError::Expired { grant: "break-glass".to_owned(), at: at(100), delete: true });
    // Another namespace learns that it has no access, not that there was one.
    let other = decide([&grant], requester("m", Some("break-glass")), &all_of(&["app"]), &Home::default(), at(100));
    assert_eq!(other.unwrap_err().reason(), Reason::AccessDenied);
}

#[test]
fn the_identity_follows_from_the_grant_and_keeps_namespaces_apart() {
    let mut by_role = grant("g", &["n", "m"], &["app"]);
    by_role.spec.aws = Some(AwsAccess {
        region: Some("eu-west-1".to_owned()),
        role_arn: Some("arn:aws:iam::210987654321:role/read".to_owned()),
        session_tags: Some(true),
        ..AwsAccess::default()
    });
    let identity = |grant: &SecretGrant, namespace: &str| {
        ask(std::slice::from_ref(grant), requester(namespace, None), &all_of(&["app"])).unwrap()
    };
    let access = identity(&by_role, "n");
    assert_eq!(access.account.as_deref(), Some("210987654321"), "secrets are in the account of the role");
    assert_ne!(access.identity, identity(&by_role, "m").identity);
    let mut by_account = by_role.clone();
    by_account.spec.aws.as_mut().unwrap().service_account_name = Some("worker".to_owned());
    let account = identity(&by_account, "n").identity.service_account.unwrap();
    assert_eq!((account.namespace.as_str(), account.name.as_str()), ("n", "worker"));
}

#[test]
fn a_grant_to_read_is_none_to_write_and_a_grant_to_write_is_for_named_keys() {
    use RotationAction::{Generate, RotateSecret, RunJob};
    let rule = |action, secret: &str, key: &str| GrantedRotation {
        action,
        secrets: vec![secret.to_owned()],
        keys: vec![key.to_owned()],
    };
    let permits = |rules: Vec<GrantedRotation>, action, name: &str, key: &str| {
        let mut grant = with_keys(grant("g", &["n"], &["app", "worker"]), &["KEY", "OTHER"]);
        grant.spec.rotation = rules;
        ask(&[grant], requester("n", None), &all_of(&["app"])).unwrap().permits_rotation(action, name, key)
    };
    assert!(!permits(vec![], Generate, "app", "KEY"));
    assert!(permits(vec![rule(Generate, "app", "KEY")], Generate, "app", "KEY"));
    for (rules, action, name, key) in [
        (vec![rule(Generate, "app", "KEY")], Generate, "app", "OTHER"),
        (vec![rule(Generate, "app", "KEY")], Generate, "worker", "KEY"),
        (vec![rule(Generate, "app", "KEY")], RotateSecret, "app", "KEY"),
        (vec![rule(Generate, "app", "*")], Generate, "app", "KEY"),
        (vec![rule(RotateSecret, "app", "KEY")], RotateSecret, "app", "KEY"),
        // What may not be read may not be written.
        (vec![rule(RunJob, "*", "*")], RunJob, "app", "HIDDEN"),
        (vec![rule(RunJob, "*", "*")], RunJob, "elsewhere", "KEY"),
    ] {
        assert!(!permits(rules.clone(), action, name, key), "{rules:?} {action:?} {name} {key}");
    }
    assert!(permits(vec![rule(RunJob, "*", "*")], RunJob, "worker", "OTHER"));
}

#[test]
fn a_grant_of_a_broken_glob_allows_nothing_by_it() {
    let grants = [grant("g", &["n"], &["", "app"])];
    assert_eq!(decision(&grants, "n", &["app"]), Ok("g".to_owned()));
    assert_eq!(decision(&grants, "n", &["b"]), Err(Reason::AccessDenied));
}
