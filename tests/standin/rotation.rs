//! Rotation of one secret. Pure: the time is an argument.
//!
//! Secrets Manager makes an empty version labelled AWSPENDING and calls a function, which writes the value
//! (`createSecret`) and moves AWSCURRENT (`finishSecret`):
//! <https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html>

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::refusal::Refusal;
use super::secret::{CURRENT, Content, PENDING, Secret, Version};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The rotation of a secret, once it was configured.
#[derive(Clone, Debug)]
pub struct Rotation {
    pub lambda: String,
    pub rules: Option<Value>,
    pub last: Option<SystemTime>,
    pub next: Option<SystemTime>,
}

/// What a rotation function makes of a value where the test has no wish: the same keys, other texts.
pub fn other_texts(old: &str) -> String {
    match serde_json::from_str(old) {
        Ok(Value::Object(mut object)) => {
            for value in object.values_mut() {
                if let Value::String(text) = value {
                    text.push_str("-rotated");
                }
            }
            Value::Object(object).to_string()
        }
        _ => format!("{old}-rotated"),
    }
}

impl Secret {
    /// The part of `RotateSecret` that is kept: what is not given stays as it was.
    pub fn configure_rotation(
        &mut self,
        lambda: Option<&str>,
        rules: Option<&Value>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        self.living()?;
        let kept = self.rotation.clone();
        let lambda = lambda.map(str::to_owned).or_else(|| kept.as_ref().map(|rotation| rotation.lambda.clone()));
        let Some(lambda) = lambda else {
            return Err(Refusal::invalid_request("No Lambda rotation function ARN is associated with this secret."));
        };
        let rules = rules.cloned().or_else(|| kept.as_ref().and_then(|rotation| rotation.rules.clone()));
        let days = rules.as_ref().and_then(|rules| rules["AutomaticallyAfterDays"].as_u64());
        let next = days.and_then(|days| u32::try_from(days).ok()).map(|days| now + DAY * days);
        self.rotation = Some(Rotation { lambda, rules, last: kept.and_then(|rotation| rotation.last), next });
        self.changed = now;
        Ok(())
    }

    /// Makes the empty version of a rotation. A repeated call under the same token does nothing.
    pub fn start_rotation(&mut self, token: &str, now: SystemTime) -> Result<(), Refusal> {
        self.living()?;
        match self.holder(PENDING) {
            Some(pending) if pending.id == token => return Ok(()),
            Some(pending) if !pending.labels.contains(CURRENT) => {
                return Err(Refusal::invalid_request(
                    "A previous rotation isn't complete. That rotation will be reattempted.",
                ));
            }
            _ => {}
        }
        if self.version(token).is_some() {
            return Err(Refusal::exists(format!(
                "You can't use ClientRequestToken {token} because that value is already in use for a version of secret \
                 {}.",
                self.arn
            )));
        }
        self.versions.push(Version {
            id: token.to_owned(),
            content: None,
            created: now,
            accessed: None,
            labels: BTreeSet::new(),
        });
        self.attach(PENDING, token);
        self.changed = now;
        Ok(())
    }

    /// What the function does first: it writes what it makes of the current value. A rotation that was taken back in
    /// the meantime, by removing AWSPENDING or deleting the secret, ends here.
    pub fn fill_rotation(&mut self, token: &str, make: fn(&str) -> String, now: SystemTime) {
        let pending = self.version(token).is_some_and(|version| version.labels.contains(PENDING));
        if pending && self.deletion.is_none() {
            let old = match self.holder(CURRENT).and_then(|version| version.content.as_ref()) {
                Some(Content::Text(text)) => text.clone(),
                _ => String::new(),
            };
            // It can only be refused where somebody else has written under this token; then theirs is taken.
            let _ = self.put(token, Content::Text(make(&old)), Some(&[PENDING.to_owned()]), now);
        }
    }

    /// What the function does last. AWSPENDING stays, on the same version as AWSCURRENT.
    pub fn finish_rotation(&mut self, token: &str, now: SystemTime) {
        let ready = |version: &Version| version.labels.contains(PENDING) && version.content.is_some();
        if self.deletion.is_none() && self.version(token).is_some_and(ready) {
            self.attach(CURRENT, token);
            self.changed = now;
            if let Some(rotation) = &mut self.rotation {
                rotation.last = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "22222222-2222-2222-2222-222222222222";

    fn secret(now: SystemTime) -> Secret {
        let mut secret = Secret::new("app", "arn:app", now);
        secret.put(&"1".repeat(32), Content::Text("old".to_owned()), None, now).unwrap();
        secret
    }

    #[test]
    fn a_rotation_goes_from_an_empty_pending_version_to_the_current_one() {
        let now = SystemTime::UNIX_EPOCH;
        let mut secret = secret(now);
        assert_eq!(secret.configure_rotation(None, None, now).unwrap_err().code, "InvalidRequestException");
        secret.configure_rotation(Some("arn:aws:lambda"), None, now).unwrap();
        secret.start_rotation(TOKEN, now).unwrap();
        assert_eq!(secret.read(None, Some(PENDING)).unwrap_err().code, "ResourceNotFoundException");
        assert_eq!(secret.read(None, None).unwrap().content, Some(Content::Text("old".to_owned())));
        secret.start_rotation(TOKEN, now).unwrap();
        assert_eq!(secret.start_rotation(&"3".repeat(32), now).unwrap_err().code, "InvalidRequestException");

        secret.finish_rotation(TOKEN, now);
        assert_ne!(secret.holder(CURRENT).unwrap().id, TOKEN, "an empty version does not become current");
        secret.fill_rotation(TOKEN, |old| format!("{old}, rotated"), now);
        assert_eq!(secret.read(None, None).unwrap().content, Some(Content::Text("old".to_owned())));
        secret.finish_rotation(TOKEN, now);
        let current = secret.read(None, None).unwrap();
        assert_eq!(current.content, Some(Content::Text("old, rotated".to_owned())));
        assert!(current.labels.contains(PENDING));
        secret.start_rotation(&"3".repeat(32), now).unwrap();
    }

    #[test]
    fn a_rotated_object_keeps_its_keys() {
        assert_eq!(other_texts(r#"{"a":"x","b":1}"#), r#"{"a":"x-rotated","b":1}"#);
        assert_eq!(other_texts("x"), "x-rotated");
    }

    #[test]
    fn a_rotation_that_was_taken_back_ends() {
        let now = SystemTime::UNIX_EPOCH;
        let mut secret = secret(now);
        secret.start_rotation(TOKEN, now).unwrap();
        secret.move_label(PENDING, None, Some(TOKEN), now).unwrap();
        secret.fill_rotation(TOKEN, str::to_owned, now);
        secret.finish_rotation(TOKEN, now);
        assert!(secret.version(TOKEN).unwrap().content.is_none());
        assert_ne!(secret.holder(CURRENT).unwrap().id, TOKEN);
    }
}
