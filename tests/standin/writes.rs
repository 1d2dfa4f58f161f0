//! The operations that change a secret.

use serde_json::json;

use super::operations::{Done, Service, Started};
use super::parameters::Parameters;
use super::refusal::Refusal;
use super::secret::Secret;
use super::shape;
use super::store::New;

const LONGEST_DESCRIPTION: usize = 2048;
const LONGEST_LABEL: usize = 256;
const MOST_LABELS_AT_ONCE: usize = 20;
const LONGEST_LAMBDA: usize = 2048;
/// In days: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html>
const DEFAULT_WINDOW: u32 = 30;
const SHORTEST_WINDOW: u32 = 7;

/// `CreateSecret`
pub fn create(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let missing = || Refusal::constraint("Name", "not be null");
    let new = New {
        name: parameters.text("Name", 1, 512)?.ok_or_else(missing)?,
        token: parameters.token()?,
        content: parameters.content()?,
        description: parameters.text("Description", 0, LONGEST_DESCRIPTION)?,
        tags: parameters.tags(),
    };
    let (secret, version) = service.store.create(new, service.now)?;
    Ok(named(secret, version.as_deref()))
}

/// An answer that says little more than which secret it is about.
fn named(secret: &Secret, version: Option<&str>) -> Done {
    let mut body = json!({"ARN": secret.arn, "Name": secret.name});
    if let Some(version) = version {
        body["VersionId"] = json!(version);
    }
    Done::without_value(body)
}

/// `PutSecretValue`
pub fn put(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let (id, token) = (parameters.secret()?, parameters.token()?);
    let labels = parameters.list("VersionStages", MOST_LABELS_AT_ONCE, LONGEST_LABEL)?;
    let missing = || Refusal::invalid_request("You must provide either SecretString or SecretBinary.");
    let content = parameters.content()?.ok_or_else(missing)?;
    let now = service.now;
    service.store.change(id, "PutSecretValue", now, |secret| {
        secret.put(token, content, labels.as_deref(), now)?;
        let mut done = named(secret, Some(token));
        done.body["VersionStages"] = json!(secret.version(token).map(|version| &version.labels));
        Ok(done)
    })
}

/// `UpdateSecret`
pub fn update(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let (id, token) = (parameters.secret()?, parameters.token()?);
    let content = parameters.content()?;
    let description = parameters.text("Description", 0, LONGEST_DESCRIPTION)?;
    let now = service.now;
    service.store.change(id, "UpdateSecret", now, |secret| {
        secret.living()?;
        let version = content.is_some().then_some(token);
        if let Some(content) = content {
            secret.update(token, content, now)?;
        }
        if let Some(description) = description {
            secret.description = Some(description.to_owned());
        }
        secret.changed = now;
        Ok(named(secret, version))
    })
}

/// `UpdateSecretVersionStage`
pub fn move_label(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let id = parameters.secret()?;
    let missing = || Refusal::constraint("VersionStage", "not be null");
    let label = parameters.text("VersionStage", 1, LONGEST_LABEL)?.ok_or_else(missing)?;
    let (to, from) = (parameters.version("MoveToVersionId")?, parameters.version("RemoveFromVersionId")?);
    let now = service.now;
    service.store.change(id, "UpdateSecretVersionStage", now, |secret| {
        secret.move_label(label, to, from, now)?;
        Ok(named(secret, None))
    })
}

/// `RotateSecret`. Without `RotateImmediately` the function's test makes a version and takes it back, which leaves
/// nothing to see.
pub fn rotate(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let id = parameters.secret()?;
    // Of all operations this one words it as an invalid parameter.
    let missing = |refusal: Refusal| match refusal.code.as_ref() {
        "InvalidRequestException" => Refusal::invalid_parameter(refusal.message),
        _ => refusal,
    };
    let token = parameters.token().map_err(missing)?;
    let lambda = parameters.text("RotationLambdaARN", 0, LONGEST_LAMBDA)?;
    let rules = Some(&parameters.0["RotationRules"]).filter(|rules| rules.is_object());
    let at_once = parameters.flag("RotateImmediately")?.unwrap_or(true);
    let now = service.now;
    service.store.change(id, "RotateSecret", now, |secret| {
        secret.living()?;
        // What is refused changes nothing, so the configuration is set on a copy first.
        let mut rotated = secret.clone();
        rotated.configure_rotation(lambda, rules, now)?;
        if at_once {
            rotated.start_rotation(token, now)?;
        }
        *secret = rotated;
        let mut done = named(secret, at_once.then_some(token));
        done.rotation = at_once.then(|| Started { arn: secret.arn.clone(), token: token.to_owned() });
        Ok(done)
    })
}

/// `DeleteSecret`
pub fn delete(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let (id, now) = (parameters.secret()?, service.now);
    let window = parameters.number("RecoveryWindowInDays")?;
    let force = parameters.flag("ForceDeleteWithoutRecovery")?.unwrap_or_default();
    if force && window.is_some() {
        return Err(Refusal::invalid_parameter(
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
        ));
    }
    let window = window.map_or(Some(DEFAULT_WINDOW), |days| u32::try_from(days).ok());
    let Some(window) = window.filter(|days| (SHORTEST_WINDOW..=DEFAULT_WINDOW).contains(days)) else {
        return Err(Refusal::invalid_parameter(
            "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
        ));
    };
    if force {
        return match service.store.delete(id, now) {
            Ok(secret) => {
                let mut done = named(&secret, None);
                done.body["DeletionDate"] = shape::time(now);
                Ok(done)
            }
            // To delete by force what is not there is no error.
            Err(refusal) if refusal.code == "ResourceNotFoundException" => {
                Ok(Done::without_value(json!({"ARN": id, "Name": id, "DeletionDate": shape::time(now)})))
            }
            Err(refusal) => Err(refusal),
        };
    }
    let ends = service.store.schedule_deletion(id, window, now)?;
    let mut done = named(service.store.secret(id, "DeleteSecret", now)?, None);
    done.body["DeletionDate"] = shape::time(ends);
    Ok(done)
}

/// `RestoreSecret`
pub fn restore(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let now = service.now;
    service.store.change(parameters.secret()?, "RestoreSecret", now, |secret| {
        secret.deletion = None;
        secret.changed = now;
        Ok(named(secret, None))
    })
}
