//! `docs/troubleshooting.md` has every reason that a binding can show, under its condition, with the words that the
//! program says, and no other.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bindery::api::{
    ConditionType, Contact, KeyAge, Reason, RotationRule, SecretBinding, SecretBindingStatus, SecretGrant,
};
use bindery::domain::binding::{Binding, SpecError};
use bindery::domain::fingerprint::FingerprintKey;
use bindery::domain::grant::{GrantError, Home, RequestedKeys, Requester, decide, explained};
use bindery::domain::payload::Payload;
use bindery::domain::payload::absence::Absence;
use bindery::domain::render::key::TargetKey;
use bindery::domain::render::mapping::error::{PayloadFault, RenderError};
use bindery::domain::render::rejection::Rejection;
use bindery::domain::render::template::error::{TemplateError, TemplateFault};
use bindery::domain::render::text::TextFault;
use bindery::domain::rollout::outcome::RolloutReport;
use bindery::domain::rotation::due::{Facts, rule_state};
use bindery::domain::rotation::rule::Rule;
use bindery::domain::secret::error::{SourceError, SourceErrorKind};
use bindery::domain::target::withdrawal::Withdrawal;
use bindery::domain::target::{ObservedSecret, TargetError};
use bindery::kubernetes::write_error::WriteError;
use bindery::reconcile::binding::attempt::{Attempt, GrantInUse, Integrity, Published, Reached};
use bindery::reconcile::binding::status::{Findings, Report, status, suspended};
use bindery::reconcile::error::Error;
use bindery::reconcile::rotation::overlap::values::only_copy;
use bindery::settings::{Feature, FeatureOff};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The table of conditions and their False reasons, as the contract has it.
const CONTRACT: [(&str, &[&str]); 6] = [
    ("Granted", &["AccessDenied", "AmbiguousGrant", "GrantNotFound", "GrantExpired", "FeatureOff"]),
    (
        "Fetched",
        &[
            "SecretNotFound",
            "SecretPendingDeletion",
            "VersionNotFound",
            "AwsAccessDenied",
            "DecryptionFailed",
            "CredentialsFailed",
            "Throttled",
            "TenantLimit",
            "AwsUnavailable",
            "InvalidReference",
            "AuditFailed",
        ],
    ),
    (
        "Rendered",
        &[
            "InvalidPayload",
            "KeyNotFound",
            "InvalidKey",
            "TemplateFailed",
            "RequiredKeyMissing",
            "TooLarge",
            "InvalidValue",
        ],
    ),
    (
        "Applied",
        &[
            "TargetConflict",
            "TargetForbidden",
            "TargetImmutable",
            "TargetInvalid",
            "QuotaExceeded",
            "AdmissionDenied",
            "NamespaceTerminating",
            "ApplyFailed",
        ],
    ),
    ("RotationCurrent", &["RotationOverdue", "RotationFailed", "OverlapBlocked"]),
    ("RolledOut", &["RolloutPending", "RolloutFailed"]),
];

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    std::fs::read_to_string(path).unwrap()
}

/// A heading of the third level: the part of the document that it stands in, and the text below it.
struct Entry {
    part: String,
    text: String,
}

/// The entries of the document, by heading.
fn entries(document: &str) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for part in document.split("\n## ").skip(1) {
        let name = part.lines().next().unwrap().to_owned();
        for entry in part.split("\n### ").skip(1) {
            let (heading, text) = entry.split_once('\n').unwrap();
            let entry = Entry { part: name.clone(), text: text.to_owned() };
            assert!(entries.insert(heading.to_owned(), entry).is_none(), "{heading} stands there twice");
        }
    }
    entries
}

#[test]
fn every_reason_has_its_entry_and_no_entry_is_orphaned() {
    let document = document();
    let entries = entries(&document);
    let documented: BTreeSet<&str> = entries.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let missing: Vec<_> = known.difference(&documented).collect();
    let orphaned: Vec<_> = documented.difference(&known).collect();
    assert!(missing.is_empty() && orphaned.is_empty(), "missing: {missing:?}; orphaned: {orphaned:?}");
    for (heading, entry) in &entries {
        let text = entry.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let says_what_to_do = ["What to do", "Nothing to do", "says why"].iter().any(|words| text.contains(words));
        assert!(says_what_to_do, "{heading} does not say what to do");
        let link = format!("[{heading}](#{})", heading.to_lowercase());
        assert!(document.contains(&link), "{heading} is missing in the list at the top");
    }
}

#[test]
fn every_reason_of_the_contract_that_the_program_knows_stands_under_its_condition() {
    let entries = entries(&document());
    let (mut found, mut later) = (0, Vec::new());
    for (condition, reasons) in CONTRACT {
        for reason in reasons {
            match entries.get(*reason) {
                Some(entry) => {
                    assert_eq!(entry.part, condition, "{reason}");
                    found += 1;
                }
                None => later.push(*reason),
            }
        }
    }
    println!("{found} False reasons of the contract are documented; to come with their features: {later:?}");
    let known = |name: &&str| Reason::ALL.iter().any(|reason| reason.as_str() == *name);
    assert!(!later.iter().any(known), "{later:?}");
    let kinds = [ConditionType::Granted, ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied];
    for (kind, (condition, reasons)) in kinds.iter().zip(CONTRACT) {
        assert_eq!((kind.as_str(), reasons.iter().all(known)), (condition, true));
    }
}

fn of_aws(kind: SourceErrorKind, code: Option<&str>) -> Error {
    let code = code.map(str::to_owned);
    let request_id = code.is_some().then(|| "6b1c0b0e".to_owned());
    let place =
        "in eu-west-1 of account 123456789012, through the SecretGrant \"shop\", as the operator's own identity";
    let principal = (kind == SourceErrorKind::AccessDenied)
        .then(|| "arn:aws:sts::123456789012:assumed-role/bindery/bindery-shop".to_owned());
    let fault = match kind {
        SourceErrorKind::CredentialsFailed => Some(
            "AWS refuses the credentials of the web identity of AWS_WEB_IDENTITY_TOKEN_FILE (\"/var/run/secrets/eks.amazonaws.com/serviceaccount/token\") and AWS_ROLE_ARN (arn:aws:iam::123456789012:role/bindery); correct it; it is read again by itself".to_owned(),
        ),
        SourceErrorKind::AuditFailed => Some("writing gave: no storage space".to_owned()),
        _ => None,
    };
    let error = SourceError { code, request_id, fault, ..SourceError::new(kind, "shop/app") }.refused(principal);
    Error::Source(error).asked(Some(place))
}

fn rendering(error: RenderError) -> Error {
    Error::Render(Rejection::from(error))
}

fn key(name: &str) -> TargetKey {
    TargetKey::try_from(name).unwrap()
}

fn metadata(key: &str, needs_flag: bool) -> Error {
    Error::Grant(GrantError::Metadata {
        grant: "shop".to_owned(),
        field: "spec.target.labels",
        key: key.to_owned(),
        needs_flag,
        others: if needs_flag { Vec::new() } else { vec!["spec.target.annotations: \"team\"".to_owned()] },
    })
}

/// At least one failure of each reason.
fn failures() -> Vec<Error> {
    use SourceErrorKind as Kind;
    let (shop, app, secret) = (|| "shop".to_owned(), || "shop/app".to_owned(), || "worker-env".to_owned());
    let payload = Payload::text("{\"A\": \"x\"\n  \"B\": \"y\"}".to_owned());
    let malformed = PayloadFault::Json(payload.object().err().unwrap());
    let at = |field: &str| field.to_owned();
    let undefined = TemplateFault::Undefined { missing: vec!["DATABASE_HOST".to_owned()], alike: None };
    vec![
        denied(None),
        metadata("argocd.argoproj.io/secret-type", false),
        metadata("app.kubernetes.io/instance", true),
        Error::Grant(GrantError::Off {
            grant: shop(),
            account: "reader".to_owned(),
            off: FeatureOff(Feature::ServiceAccountTokens),
        }),
        of_aws(Kind::NotGranted, None),
        rendering(RenderError::KeyRefused {
            at: at("spec.data[PASSWORD]"),
            secret: app(),
            key: at("/db/password"),
            member: at("db"),
        }),
        Error::Grant(GrantError::Ambiguous(vec![shop(), at("shop-break-glass")])),
        Error::Grant(GrantError::NotFound(at("shopp"))),
        Error::Grant(GrantError::Expired {
            grant: at("shop-break-glass"),
            at: "2026-12-01T18:00:00Z".parse().unwrap(),
            delete: false,
        }),
        of_aws(Kind::SecretNotFound, Some("ResourceNotFoundException")),
        of_aws(Kind::SecretPendingDeletion, None),
        of_aws(Kind::VersionNotFound, None),
        of_aws(Kind::AccessDenied, Some("AccessDeniedException")),
        of_aws(Kind::DecryptionFailed, Some("AccessDeniedException")),
        of_aws(Kind::CredentialsFailed, Some("ExpiredTokenException")),
        of_aws(Kind::Throttled, Some("ThrottlingException")),
        of_aws(Kind::TenantLimit, None),
        of_aws(Kind::Unavailable, Some("InternalServiceError")),
        of_aws(Kind::InvalidReference, Some("InvalidParameterException")),
        of_aws(Kind::WrongSecret, None),
        of_aws(Kind::AuditFailed, None),
        rendering(RenderError::InvalidPayload {
            at: at("spec.dataFrom[0]"),
            secret: app(),
            key: None,
            problem: malformed,
        }),
        rendering(RenderError::KeyNotFound {
            at: at("spec.data[METRICS_PORT]"),
            secret: app(),
            key: at("METRICS_PORT"),
            why: Box::new(Absence::Nothing { alike: None }),
        }),
        rendering(RenderError::InvalidKey {
            at: at("spec.dataFrom[0]"),
            secret: app(),
            key: at("db password"),
            problem: TargetKey::try_from("db password").err().unwrap(),
        }),
        rendering(RenderError::TemplateFailed(TemplateError { key: key("DSN"), line: Some(1), fault: undefined })),
        rendering(RenderError::RequiredKeyMissing { absent: vec![], empty: vec![key("DATABASE_URL")], alike: None }),
        rendering(RenderError::InvalidValue { key: key("KEYSTORE"), problem: TextFault::NotUtf8 }),
        rendering(RenderError::TooLarge { total: 1_113_959, largest: key("CERTIFICATES") }),
        Error::Target(TargetError::Foreign {
            name: secret(),
            why: at("it was published by the SecretBinding \"app\""),
        }),
        Error::Target(TargetError::Held { name: secret(), finalizers: vec![at("example.com/backup")] }),
        Error::Target(TargetError::Contested { name: secret(), times: 4, manager: at("argocd-controller") }),
        Error::Write(WriteError::Forbidden {
            name: secret(),
            user: Some(at("system:serviceaccount:bindery-system:bindery")),
        }),
        Error::Write(WriteError::Immutable { name: secret(), field: at("type") }),
        Error::Write(WriteError::Invalid { name: secret(), field: at("data[tls.key]") }),
        Error::Write(WriteError::Quota { name: secret(), quota: Some(at("small")) }),
        Error::Write(WriteError::Admission { name: secret(), by: Some(at("check.example.com")) }),
        Error::Write(WriteError::Terminating(secret())),
        Error::Write(WriteError::Failed { name: secret(), what: at("the API server answered 500") }),
        Error::Spec(SpecError {
            field: at("spec.target.labels"),
            problem: at("\"node.kubernetes.io/x\" belongs to Kubernetes or Bindery and is never set; remove it"),
            reason: Reason::InvalidSpec,
        }),
    ]
}

/// More failures than the document shows: what else the same reasons say.
fn more_failures() -> Vec<Error> {
    use bindery::domain::payload::absence::Absence;
    let at = |field: &str| field.to_owned();
    let not_found = |key: &str, why| {
        let (at, secret, key, why) = (format!("spec.data[{key}]"), at("shop/app"), at(key), Box::new(why));
        rendering(RenderError::KeyNotFound { at, secret, key, why })
    };
    let in_text =
        |is_json, alike: Option<&str>| Absence::InText { pointer: at("/config"), is_json, alike: alike.map(at) };
    let payload = |text: &str| {
        let problem = PayloadFault::Json(Payload::text(at(text)).object().err().unwrap());
        rendering(RenderError::InvalidPayload {
            at: at("spec.dataFrom[0]"),
            secret: at("shop/app"),
            key: None,
            problem,
        })
    };
    let spec = |spec: serde_json::Value| {
        let manifest = SecretBinding::new("worker", serde_json::from_value(spec).unwrap());
        Error::Spec(Binding::parse(&manifest).err().unwrap())
    };
    let template =
        |text: &str| spec(serde_json::json!({"dataFrom": [{"secret": "a"}], "target": {"template": {"DSN": text}}}));
    let undefined = TemplateFault::Undefined { missing: vec![at("tls")], alike: Some(at("tls.crt")) };
    vec![
        denied(Some("shop")),
        Error::Grant(GrantError::NoRegion(at("shop"))),
        Error::Grant(GrantError::Unreadable(at("shop"))),
        not_found("DATABASE_URL", Absence::Nothing { alike: Some(at("database_url")) }),
        not_found("EMPTY", Absence::Null),
        not_found("/config/host", in_text(false, None)),
        not_found("/config/host", in_text(true, None)),
        not_found("/config/host", in_text(true, Some("Host"))),
        rendering(RenderError::NothingToPublish),
        payload("{\u{201c}A\u{201d}: 1}"),
        payload("{\"A\":\u{a0}1}"),
        payload("{\n  // the port\n  \"A\": 1}"),
        payload("{'A': 1}"),
        payload("A=1"),
        payload(""),
        payload("[1]"),
        payload("{\"A\": 1, \"A\": 2}"),
        payload("{\"A\": 1"),
        rendering(RenderError::KeysClash {
            at: at("spec.dataFrom[0]"),
            secret: at("shop/app"),
            keys: [at("foo-bar"), at("foo.bar")],
            name: key("FOO_BAR"),
        }),
        rendering(RenderError::InvalidValue { key: key("TOKEN"), problem: TextFault::Nul }),
        rendering(RenderError::RequiredKeyMissing {
            absent: vec![key("REDIS_URL")],
            empty: vec![],
            alike: Some(at("redis-url")),
        }),
        rendering(RenderError::TemplateFailed(TemplateError { key: key("DSN"), line: Some(1), fault: undefined })),
        template("{{ user-name }}"),
        template("{{ USER | shout }}"),
        template("{{ USER }"),
        spec(serde_json::json!({"dataFrom": [{"secret": "a b"}]})),
        Error::Write(WriteError::TooLarge(at("worker-env"))),
        Error::Write(WriteError::Raced),
        Error::LostValue { key: key("TOKEN_KEY"), phase: None },
        Error::Deadline { seconds: 600, fetched: false },
        Error::Panicked,
    ]
}

/// What is said of a secret that no grant allows.
fn denied(grant: Option<&str>) -> Error {
    let grants = [SecretGrant::new(
        "shop",
        serde_json::from_value(serde_json::json!({
            "namespaces": {"names": ["shop"]}, "secrets": [{"name": "shop/App"}], "aws": {"region": "eu-west-1"},
        }))
        .unwrap(),
    )];
    let requested = BTreeMap::from([("shop/app".parse().unwrap(), RequestedKeys::default())]);
    let requester = Requester { namespace: "shop", labels: None, grant };
    let now = "2026-11-26T00:00:00Z".parse().unwrap();
    let error = decide(&grants, requester, &requested, &Home::default(), now).err().unwrap();
    Error::Grant(explained(error, &grants, requester, &requested, now))
}

/// What the conditions and Events of bindings say that are published, suspended, stale or withdrawn.
fn of_statuses() -> Vec<(String, String)> {
    let at = |second: i64| k8s_openapi::jiff::Timestamp::from_second(1_700_000_000 + second).unwrap();
    let meta = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "worker-env", "namespace": "shop"}});
    let key = FingerprintKey::new(zeroize::Zeroizing::new([1; 32]));
    let observed = ObservedSecret::new(&serde_json::from_value(meta).unwrap(), &key).observed;
    let grant = Some(GrantInUse { name: "shop".to_owned(), expires: None, place: String::new() });
    let published = Published {
        name: "worker-env".to_owned(),
        observed: observed.clone(),
        cleaned: None,
        binary: Some(vec!["keystore.jks".to_owned()]),
    };
    let full = Attempt {
        grant: grant.clone(),
        reached: Reached::Applied,
        published: Some(Box::new(published)),
        ..Attempt::default()
    };
    let failing = Attempt {
        grant,
        reached: Reached::Granted,
        integrity: Integrity::Intact(Box::new(observed)),
        ..Attempt::default()
    };
    let report = |before: &SecretBindingStatus, attempt: &Attempt, error: Option<&Error>, second| {
        let interval = std::time::Duration::from_secs(60);
        status(
            before,
            Findings { binding: None, generation: 1, attempt, error, interval, looks_again: true },
            at(second),
        )
    };
    let error = of_aws(SourceErrorKind::Unavailable, Some("InternalServiceError"));
    let first = report(&SecretBindingStatus::default(), &full, None, 0);
    let failed = report(&first.status, &failing, Some(&error), 60);
    let stale = report(&failed.status, &failing, Some(&error), 600);
    let paused = suspended(&first.status, 1, at(0));
    let withdrawn = [Withdrawal::Delete, Withdrawal::Release, Withdrawal::Keep].map(|withdrawal| {
        let error = Error::Grant(GrantError::Expired { grant: "shop".to_owned(), at: at(0), delete: true });
        report(&first.status, &Attempt { withdrawal, ..Attempt::default() }, Some(&error), 60)
    });
    let reports = [first, failed, stale, paused, of_risky_key(&key)].into_iter().chain(withdrawn);
    let said = reports.flat_map(|report| {
        let conditions = report.status.conditions.into_iter().map(|condition| (condition.reason, condition.message));
        let notes = report.notes.into_iter().chain(report.commands).map(|note| (note.reason.to_string(), note.text));
        conditions.chain(notes).collect::<Vec<_>>()
    });
    said.collect()
}

/// The report on a Secret with a key that a pattern brought and that changes how programs run.
fn of_risky_key(key: &FingerprintKey) -> Report {
    let fields = serde_json::json!({"f:data": {"f:LD_PRELOAD": {}}});
    let own = serde_json::json!({"manager": "bindery", "operation": "Apply", "fieldsV1": fields});
    let meta = serde_json::json!({"metadata": {"name": "worker-env", "namespace": "shop", "managedFields": [own]}});
    let observed = ObservedSecret::new(&serde_json::from_value(meta).unwrap(), key).observed;
    let published = Published { name: "worker-env".to_owned(), observed, cleaned: None, binary: None };
    let attempt = Attempt { reached: Reached::Applied, published: Some(Box::new(published)), ..Attempt::default() };
    let spec = serde_json::json!({"dataFrom": [{"secret": "shop/app"}]});
    let manifest = SecretBinding::new("worker", serde_json::from_value(spec).unwrap());
    let binding = Binding::parse(&manifest).unwrap();
    let interval = std::time::Duration::from_secs(60);
    let findings = Findings {
        binding: Some(&binding),
        generation: 1,
        attempt: &attempt,
        error: None,
        interval,
        looks_again: true,
    };
    status(&SecretBindingStatus::default(), findings, k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}

/// The reasons whose messages depend on a run of rotations or restarts: their tests have them.
const MADE_ELSEWHERE: [&str; 5] = ["Current", "DueSoon", "Rotating", "RotationFailed", "RolledOut"];

#[test]
fn the_table_of_messages_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages.md");
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for failure in failures().into_iter().chain(more_failures()) {
        let message = failure.to_string();
        if failure.condition() == Some(ConditionType::Fetched) && matches!(failure, Error::Source(_)) {
            assert!(
                message.contains("asked in eu-west-1 of account"),
                "it does not say where AWS was asked: {message}"
            );
            assert!(message.contains("through the SecretGrant"), "it does not say through which grant: {message}");
        }
        // A condition of the API server has room for 32 KiB, and Bindery for 2 KiB.
        assert!(message.len() < 2048, "{message}");
        assert!(!message.contains("this region"), "{message}");
        table.entry(failure.reason().to_string()).or_default().insert(message);
    }
    for (reason, message) in of_statuses() {
        table.entry(reason).or_default().insert(message);
    }
    for (_, reason, message) in rollouts().into_iter().map(|report| report.condition()) {
        table.entry(reason.to_string()).or_default().insert(message);
    }
    table.entry("RotationOverdue".to_owned()).or_default().insert(overdue());
    let only_copy = only_copy(&key("TOKEN_KEY"), "worker-env");
    table.entry(only_copy.reason.to_string()).or_default().insert(only_copy.text);
    let missing: Vec<&str> =
        Reason::ALL.iter().map(|reason| reason.as_str()).filter(|reason| !table.contains_key(*reason)).collect();
    assert_eq!(missing, MADE_ELSEWHERE, "no case is made here for these reasons");
    let mut text = "# What each reason says\n\nMade by the program (`make generate`), from a case for each reason and for what looks alike.\n".to_owned();
    for reason in Reason::ALL.iter().map(|reason| reason.as_str()) {
        let Some(messages) = table.get(reason) else { continue };
        text.push_str(&["\n## ", reason, "\n\n"].concat());
        for message in messages {
            text.push_str(&["- ", message, "\n"].concat());
        }
    }
    if std::env::var_os("BINDERY_GENERATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{} is out of date: run `make generate` and read what changed", path.display());
}

/// What is said of a rule that is overdue.
fn overdue() -> String {
    let contact =
        Contact { name: "Growth team".to_owned(), email: Some("growth@example.com".to_owned()), ..Contact::default() };
    let rule = Rule::parse(&RotationRule {
        name: "tiktok-session".to_owned(),
        keys: vec!["TIKTOK_COOKIE".to_owned()],
        every: Some("7d".to_owned()),
        contact: Some(contact),
        ..RotationRule::default()
    });
    let age = KeyAge {
        key: "TIKTOK_COOKIE".to_owned(),
        fingerprint: "x".to_owned(),
        last_rotated_time: Some(Time("2026-11-01T12:00:00Z".parse().unwrap())),
        at_least: false,
    };
    let ages = BTreeMap::from([(age.key.clone(), age)]);
    let facts = Facts { ages: &ages, emergency: None, activity: None, aws: &[] };
    rule_state(&rule.unwrap(), facts, "2026-11-09T00:00:00Z".parse().unwrap()).message
}

/// Restarts that are not done.
fn rollouts() -> Vec<RolloutReport> {
    let at = |text: &str| text.to_owned();
    let pending = vec![
        at("Deployment worker: its pods are being replaced"),
        at("StatefulSet queue: its update strategy is OnDelete; delete its pods to have them made anew"),
    ];
    let failed = vec![at(
        "Deployment worker: restarted at 2027-01-01T02:00:00Z, its new pods did not become available within its progressDeadlineSeconds; see why they do not start",
    )];
    vec![RolloutReport { pending, ..RolloutReport::default() }, RolloutReport { failed, ..RolloutReport::default() }]
}

#[test]
fn the_messages_of_the_document_are_those_that_the_program_says() {
    let entries = entries(&document());
    let (mut shown, mut missing) = (BTreeSet::new(), Vec::new());
    let failures = failures().into_iter().map(|failure| (failure.reason(), failure.to_string()));
    let rollouts =
        rollouts().into_iter().map(|report| report.condition()).map(|(_, reason, message)| (reason, message));
    for (reason, message) in failures.chain(rollouts) {
        let reason = reason.as_str();
        let line = format!("    Message:  {message}");
        if !entries[reason].text.lines().any(|shown| shown == line) {
            missing.push(format!("{reason}: {message}"));
        }
        shown.insert(reason);
    }
    let overdue = format!("    Message:  {}", overdue());
    if !entries["RotationOverdue"].text.lines().any(|shown| shown == overdue) {
        missing.push(overdue);
    }
    shown.insert("RotationOverdue");
    assert!(missing.is_empty(), "the document does not show: {missing:#?}");
    let failing = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .filter(|reason| entries[*reason].text.contains("Status:   False"));
    // What is stale is so by the clock; a test of the status has its message.
    let unproven: Vec<&str> = failing.filter(|reason| !shown.contains(reason) && *reason != "Stale").collect();
    assert!(unproven.is_empty(), "no failure is made here for {unproven:?}");
    for (reason, entry) in &entries {
        for line in entry.text.lines().filter(|line| line.starts_with("    Reason:")) {
            assert_eq!(line, format!("    Reason:   {reason}"));
        }
    }
}
