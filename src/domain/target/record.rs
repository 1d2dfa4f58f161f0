//! The record that a binding has of its Secrets: `status.target` and `status.formerTargets`.
//!
//! Labels, annotations, owner references and entries of managed fields can be copied. The status cannot, by anybody who
//! may not write it.

use crate::api::{FormerTarget, PublishedTarget, SecretBindingStatus};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::target::observed::ObservedTarget;
use crate::domain::value::Value;

/// The number of former targets on record.
pub const MAX_FORMER: usize = 4;

/// The digest of published data. Namespace and name are in it, so that equal data of two Secrets cannot be told.
#[must_use]
pub fn data_digest<'a>(
    (namespace, name): (&str, &str),
    data: impl IntoIterator<Item = (&'a str, &'a Value)>,
    key: &FingerprintKey,
) -> String {
    let data = data.into_iter().flat_map(|(key, value)| [key.as_bytes(), value.expose()]);
    key.digest("data", [namespace.as_bytes(), name.as_bytes()].into_iter().chain(data))
}

/// The digest of the data of a Secret, where the record proves it by the resource version alone.
#[must_use]
pub fn recorded_digest(status: &SecretBindingStatus, name: &str, observed: &ObservedTarget) -> Option<Box<str>> {
    let record = status.target.as_ref().filter(|record| record.name == name && record.uid == observed.uid)?;
    (record.resource_version == observed.resource_version).then(|| record.digest.as_str().into())
}

/// Whether the data of a Secret are not those that Bindery wrote last. A digest under a key that is gone tells nothing,
/// nor does a record of an older release, which has none.
#[must_use]
pub fn is_forged(status: &SecretBindingStatus, name: &str, observed: &ObservedTarget, key: &FingerprintKey) -> bool {
    let record = status.target.as_ref().filter(|record| record.name == name && key.made(&record.digest));
    match (record, &observed.digest) {
        (Some(record), Some(digest)) => record.digest != **digest,
        _ => false,
    }
}

/// Whether a binding has a Secret on record as its present target. An older release recorded the name alone.
#[must_use]
pub fn is_on_record(status: &SecretBindingStatus, name: &str, uid: &str) -> bool {
    match (&status.target, &status.binding) {
        (Some(record), _) => record.name == name || record.uid == uid,
        (None, Some(binding)) => binding.name == name,
        (None, None) => false,
    }
}

/// Whether a Secret under the name of the present target is the one on record: by its uid, or by its data, since a restore
/// gives it another uid. An older release recorded the name alone.
#[must_use]
pub fn is_proven(status: &SecretBindingStatus, name: &str, observed: &ObservedTarget) -> bool {
    match &status.target {
        Some(record) => record.uid == observed.uid || observed.digest.as_deref() == Some(&*record.digest),
        None => is_on_record(status, name, &observed.uid),
    }
}

/// The Secrets of other names than `name` that a binding has on record, the latest last.
#[must_use]
pub fn former_targets(status: &SecretBindingStatus, name: &str) -> Vec<FormerTarget> {
    let last = match (&status.target, &status.binding) {
        (Some(record), _) => Some(FormerTarget { name: record.name.clone(), uid: Some(record.uid.clone()) }),
        (None, Some(binding)) => Some(FormerTarget { name: binding.name.clone(), uid: None }),
        (None, None) => None,
    };
    let mut former = status.former_targets.clone();
    if let Some(last) = last {
        former.retain(|known| known.name != last.name);
        former.push(last);
    }
    former.retain(|known| known.name != name);
    let most = former.len().saturating_sub(MAX_FORMER);
    former.split_off(most)
}

/// The record of a target whose data are known.
#[must_use]
pub fn record(name: &str, observed: &ObservedTarget) -> Option<PublishedTarget> {
    let digest = observed.digest.as_deref()?.to_owned();
    Some(PublishedTarget {
        name: name.to_owned(),
        uid: observed.uid.clone(),
        resource_version: observed.resource_version.clone(),
        digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TargetReference;

    fn published(name: &str) -> PublishedTarget {
        PublishedTarget { name: name.to_owned(), uid: format!("uid-{name}"), ..PublishedTarget::default() }
    }

    fn former(names: &[&str]) -> Vec<FormerTarget> {
        let of = |name: &&str| FormerTarget { name: (*name).to_owned(), uid: Some(format!("uid-{name}")) };
        names.iter().map(of).collect()
    }

    #[test]
    fn a_rename_keeps_the_earlier_name_and_no_more_than_four() {
        let status = |target: &str, names: &[&str]| SecretBindingStatus {
            target: Some(published(target)),
            former_targets: former(names),
            ..SecretBindingStatus::default()
        };
        assert_eq!(former_targets(&status("a", &[]), "a"), []);
        assert_eq!(former_targets(&status("a", &[]), "b"), former(&["a"]));
        assert_eq!(former_targets(&status("b", &["a"]), "a"), former(&["b"]), "back to an earlier name");
        assert_eq!(former_targets(&status("e", &["a", "b", "c", "d"]), "f"), former(&["b", "c", "d", "e"]));
    }

    #[test]
    fn a_secret_that_somebody_put_in_the_place_of_the_target_is_not_proven() {
        let status = SecretBindingStatus {
            target: Some(PublishedTarget { digest: "d".to_owned(), ..published("a") }),
            ..SecretBindingStatus::default()
        };
        let secret = |uid: &str, digest: Option<&str>| {
            let meta = serde_json::from_value(serde_json::json!({"metadata": {"name": "a", "uid": uid}})).unwrap();
            let key = FingerprintKey::new(zeroize::Zeroizing::new([7; 32]));
            let observed = crate::domain::target::ObservedSecret::new(&meta, &key).observed;
            ObservedTarget { digest: digest.map(Into::into), ..observed }
        };
        assert!(is_proven(&status, "a", &secret("uid-a", Some("edited"))));
        assert!(is_proven(&status, "a", &secret("restored", Some("d"))));
        assert!(!is_proven(&status, "a", &secret("other", Some("theirs"))));
        assert!(!is_proven(&status, "a", &secret("other", None)));
    }

    #[test]
    fn the_status_of_an_older_release_proves_its_one_name() {
        let binding = Some(TargetReference { name: "old".to_owned() });
        let status = SecretBindingStatus { binding, ..SecretBindingStatus::default() };
        assert!(is_on_record(&status, "old", "any") && !is_on_record(&status, "other", "any"));
        assert_eq!(former_targets(&status, "new"), [FormerTarget { name: "old".to_owned(), uid: None }]);
        assert!(!is_on_record(&SecretBindingStatus::default(), "old", "any"));
    }
}
