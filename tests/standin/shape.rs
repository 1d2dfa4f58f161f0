//! How Secrets Manager writes a secret in JSON.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::secret::{Content, Secret, Version};

const DAY: f64 = 24.0 * 60.0 * 60.0;

/// A time, in seconds with thousandths.
pub fn time(time: SystemTime) -> Value {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    json!((seconds * 1000.0).round() / 1000.0)
}

/// The day of a time: access is known by the day only.
fn day(time: SystemTime) -> Value {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    json!((seconds / DAY).floor() * DAY)
}

/// What `ListSecrets` and `DescribeSecret` both say. Fields without a value are left out.
fn facts(secret: &Secret) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut add = |name: &str, value: Value| _ = facts.insert(name.to_owned(), value);
    add("ARN", json!(secret.arn));
    add("Name", json!(secret.name));
    add("CreatedDate", time(secret.created));
    add("LastChangedDate", time(secret.changed));
    if let Some(description) = &secret.description {
        add("Description", json!(description));
    }
    if !secret.tags.is_empty() {
        let tags: Vec<Value> = secret.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        add("Tags", json!(tags));
    }
    if let Some(rotation) = &secret.rotation {
        add("RotationEnabled", json!(true));
        add("RotationLambdaARN", json!(rotation.lambda));
        if let Some(rules) = &rotation.rules {
            add("RotationRules", rules.clone());
        }
        if let Some(last) = rotation.last {
            add("LastRotatedDate", time(last));
        }
        if let Some(next) = rotation.next {
            add("NextRotationDate", time(next));
        }
    }
    facts
}

fn with_stages(mut facts: Map<String, Value>, name: &str, secret: &Secret) -> Map<String, Value> {
    let stages = secret.stages();
    if !stages.is_empty() {
        facts.insert(name.to_owned(), json!(stages));
    }
    facts
}

/// An entry of `ListSecrets`. Its `DeletedDate` is when the deletion was asked for.
pub fn entry(secret: &Secret) -> Value {
    let mut facts = with_stages(facts(secret), "SecretVersionsToStages", secret);
    if let Some(deletion) = secret.deletion {
        facts.insert("DeletedDate".to_owned(), time(deletion.requested));
    }
    Value::Object(facts)
}

/// The answer of `DescribeSecret`. Its `DeletedDate` is when the deletion will be done.
pub fn description(secret: &Secret) -> Value {
    let mut facts = with_stages(facts(secret), "VersionIdsToStages", secret);
    if let Some(deletion) = secret.deletion {
        facts.insert("DeletedDate".to_owned(), time(deletion.ends));
    }
    if let Some(accessed) = secret.accessed {
        facts.insert("LastAccessedDate".to_owned(), day(accessed));
    }
    Value::Object(facts)
}

/// The answer of `GetSecretValue`, and an entry of that of `BatchGetSecretValue`.
pub fn value(arn: &str, name: &str, version: &Version) -> Value {
    let mut value = json!({"ARN": arn, "Name": name, "VersionId": version.id, "CreatedDate": time(version.created)});
    add_labels(&mut value, &version.labels);
    match &version.content {
        Some(Content::Text(text)) => value["SecretString"] = json!(text),
        Some(Content::Binary(bytes)) => value["SecretBinary"] = json!(bytes),
        None => {}
    }
    value
}

/// An entry of `ListSecretVersionIds`.
pub fn version(version: &Version) -> Value {
    let mut entry = json!({
        "VersionId": version.id, "CreatedDate": time(version.created), "KmsKeyIds": ["DefaultEncryptionKey"],
    });
    add_labels(&mut entry, &version.labels);
    if let Some(accessed) = version.accessed {
        entry["LastAccessedDate"] = day(accessed);
    }
    entry
}

fn add_labels(value: &mut Value, labels: &BTreeSet<String>) {
    if !labels.is_empty() {
        value["VersionStages"] = json!(labels);
    }
}
