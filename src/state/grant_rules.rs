//! The rules of the grants, parsed once for each generation of a grant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;

use crate::api::SecretGrant;
use crate::domain::grant::{GrantedKeys, Rules, names_namespace};

/// The names of rules that are kept for single namespaces; some ten megabytes where all are as long as they may be.
const MAX_NAMES: usize = 20_000;

/// The rules of all grants that were asked.
#[derive(Debug, Default)]
pub struct GrantRules(Mutex<Parsed>);

#[derive(Debug, Default)]
struct Parsed {
    /// By uid.
    grants: HashMap<String, ParsedGrant>,
    /// The names in the rules that are kept.
    names: usize,
}

/// One generation of a grant.
#[derive(Debug)]
struct ParsedGrant {
    generation: Option<i64>,
    keys: GrantedKeys,
    /// Whether the rules differ between namespaces.
    by_namespace: bool,
    /// The rules by namespace; under the empty text those for all.
    rules: HashMap<String, Arc<Rules>>,
}

impl Parsed {
    /// Drops the rules that are kept for single namespaces.
    fn drop_variants(&mut self) {
        for grant in self.grants.values_mut().filter(|grant| grant.by_namespace) {
            grant.rules.clear();
        }
        self.names = self.grants.values().flat_map(|grant| grant.rules.values()).map(|rules| rules.names()).sum();
    }
}

impl GrantRules {
    fn parsed(&self) -> MutexGuard<'_, Parsed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules of a grant for a namespace.
    #[must_use]
    pub fn of(&self, grant: &SecretGrant, namespace: &str) -> Arc<Rules> {
        let (uid, generation) = (grant.uid().unwrap_or_default(), grant.metadata.generation);
        let mut parsed = self.parsed();
        if parsed.names > MAX_NAMES {
            parsed.drop_variants();
        }
        let known = parsed.grants.get(&uid).is_some_and(|known| known.generation == generation);
        if !known {
            let (keys, by_namespace) = (GrantedKeys::new(grant), names_namespace(grant));
            let new = ParsedGrant { generation, keys, by_namespace, rules: HashMap::new() };
            parsed.grants.insert(uid.clone(), new);
        }
        let Parsed { grants, names } = &mut *parsed;
        let Some(of) = grants.get_mut(&uid) else {
            return Arc::new(Rules::new(grant, &GrantedKeys::new(grant), namespace));
        };
        let variant = if of.by_namespace { namespace } else { "" };
        if let Some(rules) = of.rules.get(variant) {
            return rules.clone();
        }
        let rules = Arc::new(Rules::new(grant, &of.keys, namespace));
        *names += rules.names();
        of.rules.insert(variant.to_owned(), rules.clone());
        rules
    }

    /// Forgets the grants that are not among these.
    pub fn keep(&self, grants: &[Arc<SecretGrant>]) {
        let mut parsed = self.parsed();
        if parsed.grants.len() > grants.len() {
            let uids: Vec<String> = grants.iter().filter_map(|grant| grant.uid()).collect();
            parsed.grants.retain(|uid, _| uids.contains(uid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretGrantSpec;
    use serde_json::json;

    /// A grant as large as the CRD allows.
    fn largest(uid: &str, name: &str) -> SecretGrant {
        let keys: Vec<String> = (0..200).map(|key| format!("{key:0>512}")).collect();
        let secrets: Vec<_> =
            (0..100).map(|secret| json!({"name": format!("{name}/{secret:0>400}"), "keys": keys})).collect();
        let spec = json!({"namespaces": {"names": ["n"]}, "secrets": secrets});
        let spec: SecretGrantSpec = serde_json::from_value(spec).unwrap();
        let mut grant = SecretGrant::new("g", spec);
        (grant.metadata.uid, grant.metadata.generation) = (Some(uid.to_owned()), Some(1));
        grant
    }

    #[test]
    fn a_grant_at_the_bounds_is_parsed_once_for_a_hundred_bindings_of_ten_secrets() {
        let (rules, mut grant) = (GrantRules::default(), largest("u", "app"));
        let first = rules.of(&grant, "n");
        for _binding in 0..100 {
            for _secret in 0..10 {
                assert!(Arc::ptr_eq(&first, &rules.of(&grant, "n")));
            }
        }
        assert!(Arc::ptr_eq(&first, &rules.of(&grant, "m")), "the namespace is not in it");
        grant.metadata.generation = Some(2);
        let second = rules.of(&grant, "n");
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &rules.of(&grant, "n")));
    }

    #[test]
    fn a_grant_that_names_the_namespace_is_parsed_for_each_and_takes_bounded_memory() {
        let (rules, grant) = (GrantRules::default(), largest("u", "{namespace}"));
        let (n, m) = (rules.of(&grant, "n"), rules.of(&grant, "m"));
        assert!(n != m && Arc::ptr_eq(&n, &rules.of(&grant, "n")));
        for namespace in 0..1000 {
            let _ = rules.of(&grant, &namespace.to_string());
            assert!(rules.parsed().grants["u"].rules.len() <= MAX_NAMES / 100 + 2);
        }
    }

    #[test]
    fn a_deleted_grant_and_one_made_anew_leave_nothing_behind() {
        let rules = GrantRules::default();
        for number in 0..10 {
            let grant = Arc::new(largest(&number.to_string(), "app"));
            let _ = rules.of(&grant, "n");
            rules.keep(std::slice::from_ref(&grant));
        }
        assert_eq!(rules.parsed().grants.len(), 1);
    }
}
