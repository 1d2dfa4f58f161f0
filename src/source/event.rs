//! What a message of the events queue says: which secret changed, and how.
//!
//! Secrets Manager sends no events of its own. CloudTrail reports its calls and its rotations to EventBridge, and a rule
//! puts them into the queue ([events of Secrets Manager][events], [the records of CloudTrail][record]). An event is a
//! hint: it may be lost, late, doubled or out of order, so it tells where to look and never what is there.
//!
//! Nothing here keeps text of a message but ids of secrets and versions, and no error holds any of it.
//!
//! [events]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/monitoring-eventbridge.html
//! [record]: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// The longest body that is looked at, in bytes. EventBridge takes events of up to 256 KiB.
const MAX_BODY: usize = 256 * 1024;

/// The longest `SecretId` that Secrets Manager takes, in characters.
const MAX_ID: usize = 2048;

/// The detail-type of events that report a call.
const API_CALL: &str = "AWS API Call via CloudTrail";

/// The detail-type of events that report what Secrets Manager did by itself.
const SERVICE_EVENT: &str = "AWS Service Event via CloudTrail";

/// The actions after which a secret may have another version in force, other versions, or another state of being.
///
/// Calls are named as in the [API]; the others as in [CloudTrail entries for Secrets Manager][entries].
///
/// [API]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_Operations.html
/// [entries]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/cloudtrail_log_entries.html
const RELEVANT: [&str; 18] = [
    "CancelRotateSecret",
    "CancelSecretVersionDelete",
    "CreateSecret",
    "DeleteSecret",
    "EndSecretVersionDelete",
    "PutSecretValue",
    "ReplicateSecretToRegions",
    "RestoreSecret",
    "RotateSecret",
    "RotationAbandoned",
    "RotationFailed",
    "RotationStarted",
    "RotationSucceeded",
    "StartSecretVersionDelete",
    "TestRotationFailed",
    "TestRotationSucceeded",
    "UpdateSecret",
    "UpdateSecretVersionStage",
];

/// Where an event names its secret: the object within `detail`, and the field. CloudTrail writes the names of answers
/// as `arn` or `aRN`, by operation.
const PLACES: [(&str, &str); 9] = [
    ("requestParameters", "secretId"),
    ("responseElements", "arn"),
    ("responseElements", "aRN"),
    ("responseElements", "ARN"),
    ("responseElements", "name"),
    ("additionalEventData", "SecretId"),
    ("additionalEventData", "secretId"),
    ("serviceEventDetails", "secretId"),
    ("serviceEventDetails", "secretArn"),
];

/// A change of a secret, as CloudTrail reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEvent {
    /// The 12 digits of the account in which it happened.
    pub account: String,
    /// The region in which it happened, such as `eu-west-1`.
    pub region: String,
    /// The secret.
    pub secret: NamedSecret,
    /// What happened: the `eventName`, one of those that can change a version or the existence of a secret.
    pub action: String,
    /// When it happened, to the second.
    pub time: Option<Timestamp>,
    /// The id of the version that the call wrote, where it is known: the [`ClientRequestToken`] of the request.
    ///
    /// [`ClientRequestToken`]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
    pub version_id: Option<String>,
}

impl SecretEvent {
    /// Whether the event is about the secret with this full ARN and this name. As [`NamedSecret::means`]; and where the
    /// event names the secret by its name alone, it is about a secret of the event's own account and region.
    #[must_use]
    pub fn concerns(&self, arn: &str, name: &str) -> bool {
        let here = || {
            let mut fields = arn.splitn(7, ':').skip(3);
            fields.next() == Some(&self.region) && fields.next() == Some(&self.account)
        };
        self.secret.means(arn, name) && (self.secret.ids.iter().any(|id| is_arn(id)) || here())
    }
}

/// A secret in each form in which an event names it: as the caller typed it, and as AWS answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// Names, partial ARNs and full ARNs, each once, in the order in which they were found. Never empty.
    pub ids: Vec<String>,
}

impl NamedSecret {
    /// Whether this is the secret with this full ARN and this name.
    ///
    /// A full ARN must agree whole, a partial one up to the `-` and six characters at the end, a name exactly. Every
    /// ARN has to agree, since what AWS answered corrects what the caller typed; names count only where there is no
    /// ARN. One ARN alone that ends like a full one may be a partial one too, of a secret whose name ends like that,
    /// and then means both: [AWS warns of such names][name].
    ///
    /// [name]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    #[must_use]
    pub fn means(&self, arn: &str, name: &str) -> bool {
        let (arns, names): (Vec<&str>, Vec<&str>) = self.ids.iter().map(String::as_str).partition(|id| is_arn(id));
        if arns.is_empty() {
            return names.contains(&name);
        }
        // An ARN that is one of the names and a suffix is a full one, so it must not be taken for a partial one.
        let is_full = |id: &str| {
            let resource = id.splitn(7, ':').nth(6);
            resource.is_some_and(|resource| {
                names.iter().any(|name| resource.strip_prefix(*name).is_some_and(is_random_suffix))
            })
        };
        arns.iter().all(|&id| id == arn || (!is_full(id) && arn.strip_prefix(id).is_some_and(is_random_suffix)))
    }
}

/// Why a message says nothing of a change. It holds nothing of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    /// It is no event: not JSON, too long, or without account, region, action or a secret.
    #[error("the message is no event of EventBridge")]
    Malformed,
    /// It is an event of something else, or one that contradicts itself on where it comes from.
    #[error("the event is not one of Secrets Manager")]
    Foreign,
    /// The call was refused or failed, so it changed nothing.
    #[error("the event reports a call that failed")]
    Failed,
    /// A read, or an action that changes neither a version nor the existence of a secret.
    #[error("the event reports no change of a version")]
    Irrelevant,
}

impl Ignored {
    /// The word for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Failed => "failed_call",
            Self::Irrelevant => "irrelevant",
        }
    }
}

/// Reads the body of a message: an event of EventBridge, or [SNS's notification][sns] of one, where the rule fills a
/// topic and the topic fills the queue.
///
/// [sns]: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
///
/// # Errors
/// [`Ignored`] says why the message is none that Bindery acts on.
pub fn parse(body: &str) -> Result<SecretEvent, Ignored> {
    let body = object(body)?;
    if body.get("Type").and_then(Value::as_str) == Some("Notification")
        && let Some(message) = body.get("Message").and_then(Value::as_str)
    {
        return event(&object(message)?);
    }
    event(&body)
}

fn object(text: &str) -> Result<Value, Ignored> {
    if text.len() > MAX_BODY {
        return Err(Ignored::Malformed);
    }
    serde_json::from_str(text).ok().filter(Value::is_object).ok_or(Ignored::Malformed)
}

fn event(event: &Value) -> Result<SecretEvent, Ignored> {
    let text = |field: &str| event.get(field).and_then(Value::as_str).ok_or(Ignored::Malformed);
    let (source, kind) = (text("source")?, text("detail-type")?);
    let is_call = kind == API_CALL;
    if source != "aws.secretsmanager" || !(is_call || kind == SERVICE_EVENT) {
        return Err(Ignored::Foreign);
    }
    let detail = event.get("detail").filter(|detail| detail.is_object()).ok_or(Ignored::Malformed)?;
    // Either place will do, EventBridge's or CloudTrail's; where both say something it must be the same.
    let place = |outer: &str, inner: &str| {
        let (outer, inner) = (present(event, outer), present(detail, inner));
        let said = outer.or(inner).and_then(Value::as_str).ok_or(Ignored::Malformed)?;
        Ok((said, inner.is_none_or(|inner| inner.as_str() == Some(said))))
    };
    let (account, account_agrees) = place("account", "recipientAccountId")?;
    let (region, region_agrees) = place("region", "awsRegion")?;
    if !is_account(account) || !is_region(region) {
        return Err(Ignored::Malformed);
    }
    let is_of_service =
        present(detail, "eventSource").is_none_or(|source| source.as_str() == Some("secretsmanager.amazonaws.com"));
    if !(is_of_service && account_agrees && region_agrees) {
        return Err(Ignored::Foreign);
    }
    // In a service event the error is that of the rotation which the event reports: the report itself holds.
    if is_call && (present(detail, "errorCode").is_some() || present(detail, "errorMessage").is_some()) {
        return Err(Ignored::Failed);
    }
    let action = detail.get("eventName").and_then(Value::as_str).ok_or(Ignored::Malformed)?;
    if !RELEVANT.contains(&action) {
        return Err(Ignored::Irrelevant);
    }
    let secret = named(detail, action).ok_or(Ignored::Malformed)?;
    let time = present(detail, "eventTime").or_else(|| present(event, "time"));
    let token = detail.get("requestParameters").and_then(|request| request.get("clientRequestToken"));
    Ok(SecretEvent {
        account: account.to_owned(),
        region: region.to_owned(),
        secret,
        action: action.to_owned(),
        time: time.and_then(Value::as_str).and_then(|time| time.parse().ok()),
        version_id: token.and_then(Value::as_str).filter(|id| is_version_id(id)).map(str::to_owned),
    })
}

fn named(detail: &Value, action: &str) -> Option<NamedSecret> {
    // Of a request, `name` is the secret's only where there is no secret yet.
    let created = (action == "CreateSecret").then_some(("requestParameters", "name"));
    let mut ids: Vec<String> = Vec::new();
    for (object, field) in created.into_iter().chain(PLACES) {
        let id = detail.get(object).and_then(|object| object.get(field)).and_then(Value::as_str);
        if let Some(id) = id.filter(|id| is_id(id) && !ids.iter().any(|known| known == id)) {
            ids.push(id.to_owned());
        }
    }
    (!ids.is_empty()).then_some(NamedSecret { ids })
}

/// A field that is there and not null.
fn present<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

/// Ids are printable, so that none can forge a line of a log. Services name their secrets with further characters than
/// callers may use (`rds!cluster-…`), so the alphabet of names is not asked for.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_version_id(text: &str) -> bool {
    (32..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_arn(id: &str) -> bool {
    id.starts_with("arn:")
}

/// `-` and the six characters that Secrets Manager adds to a name in an ARN.
fn is_random_suffix(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|random| random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
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
}
