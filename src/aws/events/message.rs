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
mod tests;
