//! The comparison of one list of all secrets with the index. Pure.
//!
//! [`ListSecrets`][list] answers a hundred secrets with one call, for all bindings, and names the versions of each. The
//! answer may be up to five minutes old. It leaves out secrets that are pending deletion and secrets of other accounts.
//! So a list proves only that nothing changed. Any difference is a hint, which `DescribeSecret` confirms.
//!
//! [list]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecrets.html

use std::collections::{BTreeSet, HashMap};

use crate::domain::secret::description::{Description, answers};
use crate::domain::secret::reference::SecretId;

/// The most values of one filter of `ListSecrets`.
const MAX_PREFIXES: usize = 10;

/// How a description of a secret differs from the known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionComparison {
    /// The versions are the known ones.
    Same,
    /// The versions are not the known ones.
    Differs,
    /// No description was known.
    New,
    /// The list leaves the secret out.
    Missing,
}

/// Compares the known description of a secret with a listed one. The flag says that the known description is partial,
/// as reads leave it: then only the known versions count.
#[must_use]
pub fn compare(known: Option<(&Description, bool)>, listed: Option<&Description>) -> VersionComparison {
    match (known, listed) {
        (_, None) => VersionComparison::Missing,
        (None, Some(_)) => VersionComparison::New,
        (Some((known, partial)), Some(listed)) => {
            let agrees = if partial {
                known.versions.iter().all(|(id, stages)| {
                    listed.versions.get(id).is_some_and(|listed| stages.is_subset(listed))
                        // A list leaves out versions without a version stage.
                        || stages.is_empty()
                })
            } else {
                known.versions == listed.versions
            };
            if agrees && known.arn == listed.arn && !listed.pending_deletion {
                VersionComparison::Same
            } else {
                VersionComparison::Differs
            }
        }
    }
}

/// References to secrets, by the names that the secrets may have.
#[derive(Debug, Default)]
pub struct SecretLookup {
    by_name: HashMap<String, Vec<SecretId>>,
}

impl SecretLookup {
    /// A lookup of these references.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = SecretId>) -> Self {
        let mut by_name: HashMap<String, Vec<SecretId>> = HashMap::new();
        for secret in secrets {
            let names: Vec<String> = match &secret {
                SecretId::Name(name) => vec![name.clone()],
                SecretId::Arn(arn) => arn.possible_names().map(str::to_owned).collect(),
            };
            for name in names {
                by_name.entry(name).or_default().push(secret.clone());
            }
        }
        Self { by_name }
    }

    /// The references that name a listed secret.
    pub fn matches<'a>(&'a self, listed: &'a Description) -> impl Iterator<Item = &'a SecretId> {
        let of_name = self.by_name.get(&listed.name).map(Vec::as_slice).unwrap_or_default();
        of_name.iter().filter(|secret| answers(secret, &listed.arn, &listed.name))
    }

    /// At most ten prefixes that cover all names, as long as possible. Empty where the names have no common prefixes.
    /// The names of one folder share the prefix up to the last `/`.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        let folders = self.by_name.keys().map(|name| match name.rfind('/') {
            Some(end) => name[..=end].to_owned(),
            None => name.clone(),
        });
        let mut prefixes: Vec<String> = folders.collect::<BTreeSet<_>>().into_iter().collect();
        // In sorted order a prefix precedes the names that it covers.
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
        while prefixes.len() > MAX_PREFIXES {
            let closest = (1..prefixes.len()).max_by_key(|&i| common(&prefixes[i - 1], &prefixes[i])).unwrap_or(1);
            let length = common(&prefixes[closest - 1], &prefixes[closest]);
            if length == 0 {
                return Vec::new();
            }
            prefixes.remove(closest);
            prefixes[closest - 1].truncate(length);
            prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
        }
        prefixes
    }
}

/// The length of the common prefix. Names of secrets are ASCII, so every length is a character boundary.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn description(versions: &[(&str, &[&str])]) -> Description {
        Description {
            arn: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf".to_owned(),
            name: "app".to_owned(),
            versions: versions
                .iter()
                .map(|(id, stages)| ((*id).to_owned(), stages.iter().map(ToString::to_string).collect()))
                .collect::<BTreeMap<_, _>>(),
            pending_deletion: false,
            created: None,
            rotation: crate::domain::secret::description::RotationDates::default(),
        }
    }

    #[test]
    fn agreement_is_good_news_and_anything_else_is_a_hint() {
        let known = description(&[("v2", &["AWSCURRENT"]), ("v1", &["AWSPREVIOUS"])]);
        let moved = description(&[("v3", &["AWSCURRENT"]), ("v2", &["AWSPREVIOUS"])]);
        let of_a_read = description(&[("v2", &["AWSCURRENT"])]);
        let deleted = Description { pending_deletion: true, ..known.clone() };
        assert_eq!(compare(Some((&known, false)), Some(&known)), VersionComparison::Same);
        assert_eq!(compare(Some((&known, false)), Some(&moved)), VersionComparison::Differs);
        assert_eq!(compare(Some((&of_a_read, false)), Some(&known)), VersionComparison::Differs);
        assert_eq!(compare(Some((&of_a_read, true)), Some(&known)), VersionComparison::Same);
        assert_eq!(compare(Some((&of_a_read, true)), Some(&moved)), VersionComparison::Differs);
        assert_eq!(compare(Some((&known, false)), Some(&deleted)), VersionComparison::Differs);
        assert_eq!(compare(Some((&known, false)), None), VersionComparison::Missing);
        assert_eq!(compare(None, Some(&known)), VersionComparison::New);
    }

    #[test]
    fn a_listed_secret_is_found_by_each_form_of_reference_and_look_alikes_are_not() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app";
        let texts = ["app", arn, &format!("{arn}-AbCdEf"), &format!("{arn}-XXXXXX"), "app2", "App"];
        let lookup = SecretLookup::new(texts.iter().map(|text| text.parse().unwrap()));
        let mut found: Vec<String> = lookup.matches(&description(&[])).map(std::string::ToString::to_string).collect();
        found.sort();
        assert_eq!(found, ["app".to_owned(), arn.to_owned(), format!("{arn}-AbCdEf")]);
    }

    #[test]
    fn prefixes_are_as_long_as_ten_of_them_can_be() {
        let prefixes = |names: &[String]| SecretLookup::new(names.iter().map(|name| name.parse().unwrap())).prefixes();
        let names: Vec<String> = ["a/production/app", "a/production/worker", "a/staging/app", "plain"]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(prefixes(&names), ["a/production/", "a/staging/", "plain"]);
        let teams: Vec<String> = (0..30).map(|team| format!("teams/team-{team:02}/app")).collect();
        let found = prefixes(&teams);
        assert!(found.len() <= 10 && found.iter().all(|prefix| prefix.starts_with("teams/team-")), "{found:?}");
        assert!(teams.iter().all(|name| found.iter().any(|prefix| name.starts_with(prefix.as_str()))));
        let strangers: Vec<String> = ('a'..='z').map(|c| format!("{c}/app")).collect();
        assert!(prefixes(&strangers).is_empty());
        assert!(prefixes(&[]).is_empty());
    }
}
