//! Whether a grant is for a namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::GrantedNamespaces;

/// Whether a grant is for the namespace of this name and these labels. A selector matches no unknown labels.
pub(super) fn covers(granted: &GrantedNamespaces, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
    match (&granted.names, &granted.selector) {
        (Some(names), None) => names.iter().any(|name| name == namespace),
        (None, Some(selector)) => labels.is_some_and(|labels| selects(selector, labels)),
        // The CRD refuses both and neither. Unknown forms allow nothing.
        _ => false,
    }
}

/// The semantics of a [label selector][selector], but that an empty one selects nothing.
///
/// [selector]: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    let mut requirements = exact.clone().count() + expressions.clone().count();
    let exact = exact.into_iter().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = expressions.into_iter().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = || value.is_some_and(|value| expression.values.iter().flatten().any(|listed| listed == value));
        match expression.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => {
                requirements = 0;
                false
            }
        }
    });
    requirements > 0 && exact && expressions
}
