//! The messages of the events queue: the secret that changed, and the action that changed it.
//!
//! Secrets Manager sends no events. CloudTrail reports its calls and rotations to EventBridge, and a rule sends them to
//! the queue ([events of Secrets Manager][events], [the records of CloudTrail][record]). An event is a hint: it may be
//! lost, late, duplicated or out of order. So it names the secret to describe and never its state.
//!
//! A parsed event keeps only ids of secrets and versions. An error keeps no text of the message.
//!
//! [events]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/monitoring-eventbridge.html
//! [record]: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// The longest body that is parsed, in bytes. EventBridge takes events of up to 256 KiB.
const MAX_BODY: usize = 256 * 1024;

/// The longest `SecretId` of Secrets Manager, in characters.
const MAX_ID: usize = 2048;

/// The detail-type of events that report a call.
const API_CALL: &str = "AWS API Call via CloudTrail";

/// The detail-type of events that report an action of Secrets Manager itself.
const SERVICE_EVENT: &str = "AWS Service Event via CloudTrail";

/// The actions that can change the versions of a secret, its version stages or its existence.
///
/// Calls have their names of the [API], other actions those of [CloudTrail entries for Secrets Manager][entries].
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

/// The fields that name the secret: the object within `detail`, and its field. In answers, CloudTrail writes `arn` or
/// `aRN`, depending on the operation.
const ID_FIELDS: [(&str, &str); 9] = [
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
    /// The account, 12 digits.
    pub account: String,
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// The secret.
    pub secret: NamedSecret,
    /// The `eventName`: an action that can change a version or the existence of a secret.
    pub action: String,
    /// The time of the action, in whole seconds.
    pub time: Option<Timestamp>,
    /// When SQS took the message, by the clock of AWS. No sender can set it.
    pub sent: Option<Timestamp>,
    /// The id of the version that the call wrote, where the event has it: the [`ClientRequestToken`] of the request.
    ///
    /// [`ClientRequestToken`]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
    pub version_id: Option<String>,
}

impl SecretEvent {
    /// Whether the event is about the secret with this full ARN and this name, by [`NamedSecret::means`]. Where the
    /// event has only the name of the secret, account and region of the event must match too.
    #[must_use]
    pub fn concerns(&self, arn: &str, name: &str) -> bool {
        let here = || {
            let mut fields = arn.splitn(7, ':').skip(3);
            fields.next() == Some(&self.region) && fields.next() == Some(&self.account)
        };
        self.secret.means(arn, name) && (self.secret.ids.iter().any(|id| is_arn(id)) || here())
    }
}

/// The ids that an event gives a secret: those of the caller and those of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// Names, partial ARNs and full ARNs, each once: those of the request before those of the answer. Never empty.
    pub ids: Vec<String>,
}

impl NamedSecret {
    /// Whether this is the secret with this full ARN and this name.
    ///
    /// A full ARN must match whole, a partial ARN up to the `-` and six characters at the end, a name exactly. All ARNs
    /// must match, since the answer of AWS corrects the id of the caller. Names count only where there is no ARN. A
    /// single ARN that looks full can also be partial, for a secret whose name ends like a full ARN, and then means
    /// both secrets: [AWS warns of such names][name].
    ///
    /// [name]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    #[must_use]
    pub fn means(&self, arn: &str, name: &str) -> bool {
        let (arns, names): (Vec<&str>, Vec<&str>) = self.ids.iter().map(String::as_str).partition(|id| is_arn(id));
        if arns.is_empty() {
            return names.contains(&name);
        }
        // An ARN that consists of one of the names and a suffix is full, so it never counts as partial.
        let is_full = |id: &str| {
            let resource = id.splitn(7, ':').nth(6);
            resource.is_some_and(|resource| {
                names.iter().any(|name| resource.strip_prefix(*name).is_some_and(is_random_suffix))
            })
        };
        arns.iter().all(|&id| id == arn || (!is_full(id) && arn.strip_prefix(id).is_some_and(is_random_suffix)))
    }
}

/// Why a message reports no change. It has no text of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    /// The message is no event: not JSON, too long, or without account, region, action or secret.
    #[error("the message is no event of EventBridge")]
    Malformed,
    /// The event is of another service, or contradicts itself about its origin.
    #[error("the event is not one of Secrets Manager")]
    Foreign,
    /// The call failed, so it changed nothing.
    #[error("the event reports a call that failed")]
    Failed,
    /// The action changes neither a version nor the existence of a secret.
    #[error("the event reports no change of a version")]
    Irrelevant,
}

impl Ignored {
    /// The label in metrics.
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

/// Parses the body of a message: an event of EventBridge, or a [notification of SNS][sns] with one, where a topic
/// stands between the rule and the queue.
///
/// [sns]: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
///
/// # Errors
/// [`Ignored`], where the message reports no change.
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
    // EventBridge and CloudTrail both have this field. One is enough, and two must agree.
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
    // In a service event the error is that of the reported rotation, so the event counts.
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
        sent: None,
        version_id: token.and_then(Value::as_str).filter(|id| is_version_id(id)).map(str::to_owned),
    })
}

fn named(detail: &Value, action: &str) -> Option<NamedSecret> {
    // In a request, `name` names the secret only where the request creates it.
    let created = (action == "CreateSecret").then_some(("requestParameters", "name"));
    let mut ids: Vec<String> = Vec::new();
    for (object, field) in created.into_iter().chain(ID_FIELDS) {
        let id = detail.get(object).and_then(|object| object.get(field)).and_then(Value::as_str);
        if let Some(id) = id.filter(|id| is_id(id) && !ids.iter().any(|known| known == id)) {
            ids.push(id.to_owned());
        }
    }
    (!ids.is_empty()).then_some(NamedSecret { ids })
}

/// A field that exists and is not null.
fn present<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

/// Whether the text can be an id. Ids are printable, so that none can forge a log line. Services name their secrets
/// with more characters than callers may use (`rds!cluster-…`), so the alphabet of names is not checked.
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
