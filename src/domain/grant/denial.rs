//! What is said where no grant allows a secret: which grant nearly does, and what to ask the administrator for.
//!
//! Only grants of the binding's own namespace are named: who has the others is nobody's business.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::api::{GROUP, SecretGrant, VERSION};
use crate::domain::alike::alike;
use crate::domain::grant::decision::Requester;
use crate::domain::grant::error::{DenialHint, GrantError};
use crate::domain::grant::namespace::covers;
use crate::domain::grant::request::RequestedKeys;
use crate::domain::grant::rule::secret_names;
use crate::domain::render::glob::Glob;
use crate::domain::secret::reference::SecretId;

/// The most bytes of a proposed grant. A message has room for 2,048.
const MAX_PROPOSAL: usize = 1200;

/// What a second grant for a namespace can bring about.
const SEVERAL: &str = "; a binding that several grants then allow has to name one in spec.grant";

/// A refusal, with what nearly fits and what to ask for.
#[must_use]
pub fn explained<'a>(
    error: GrantError,
    grants: impl IntoIterator<Item = &'a SecretGrant>,
    requester: Requester<'_>,
    requested: &BTreeMap<SecretId, RequestedKeys>,
    now: Timestamp,
) -> GrantError {
    match error {
        GrantError::AccessDenied { namespace, secret, keys, grant, .. } => {
            let grants: Vec<&SecretGrant> = grants.into_iter().collect();
            let refused = requested.keys().find(|id| id.to_string() == secret);
            let covering =
                |grant: &&&SecretGrant| covers(&grant.spec.namespaces, requester.namespace, requester.labels);
            let own: Vec<&SecretGrant> = grants.iter().filter(covering).copied().collect();
            let near = refused.and_then(|refused| own.iter().find_map(|grant| nearly(grant, requester, refused, now)));
            let by_operator = |refused| own.iter().find_map(|grant| of_operator(grant, requester, refused));
            let near = near.or_else(|| refused.filter(|_| keys.is_empty()).and_then(by_operator));
            let growing = grant.clone().or_else(|| sole_grant(&own, requester.namespace, refused?));
            let proposal = if let (Some(grant), Some(refused)) = (&growing, refused) {
                addition(grant, refused, &keys)
            } else {
                let name = free_name(requester.namespace, &grants);
                let warning = if own.is_empty() { "" } else { SEVERAL };
                proposal(requester.namespace, &name, requested) + warning
            };
            let near = near.map(|near| format!("{near}; ")).unwrap_or_default();
            GrantError::AccessDenied { namespace, secret, keys, grant, hint: Box::new(DenialHint { near, proposal }) }
        }
        error => error,
    }
}

/// The grant to add the secret to: the only one of the namespace, which is for no other, has no end and reads as the
/// operator where the secret is. A second one for the same secrets would make their bindings ambiguous.
fn sole_grant(own: &[&SecretGrant], namespace: &str, secret: &SecretId) -> Option<String> {
    let [grant] = own else { return None };
    let names = grant.spec.namespaces.names.as_ref()?;
    let aws = grant.spec.aws.clone().unwrap_or_default();
    let agrees = |of_grant: Option<String>, of_arn: &str| of_grant.is_some_and(|of_grant| of_grant == of_arn);
    let is_there = match secret {
        SecretId::Name(_) => true,
        SecretId::Arn(arn) => agrees(aws.region, &arn.region) && agrees(aws.account_id, &arn.account),
    };
    let as_operator = aws.role_arn.is_none() && aws.service_account_name.is_none();
    let is_for_it = names.iter().all(|name| name == namespace) && grant.spec.expires_at.is_none();
    (is_for_it && as_operator && is_there).then(|| grant.name_any())
}

/// Why a grant of the namespace that looks as if it allowed the secret does not.
fn nearly(grant: &SecretGrant, requester: Requester<'_>, secret: &SecretId, now: Timestamp) -> Option<String> {
    let (name, allowed) = (grant.name_any(), secret_names(grant, requester.namespace));
    if requester.grant.is_some_and(|named| named != name) {
        return None;
    }
    let names = names(secret);
    if !names.iter().any(|name| allowed.iter().any(|glob| glob.matches(name))) {
        let literal = allowed.iter().filter(|glob| glob.is_literal()).map(Glob::as_str);
        let alike = alike(names.last()?, literal)?;
        return Some(format!("the SecretGrant {name:?} allows {alike:?}, which looks alike"));
    }
    let aws = grant.spec.aws.clone().unwrap_or_default();
    if let SecretId::Arn(arn) = secret {
        let region = aws.region.filter(|region| *region != arn.region);
        let account = aws.account_id.filter(|account| *account != arn.account);
        let place =
            [region.map(|region| format!("region {region}")), account.map(|account| format!("account {account}"))];
        let place: Vec<String> = place.into_iter().flatten().collect();
        if !place.is_empty() {
            return Some(format!(
                "the SecretGrant {name:?} allows this name in {}, and the ARN is of another; correct it if that is a slip",
                place.join(", ")
            ));
        }
    }
    let end = grant.spec.expires_at.as_ref().map(|end| end.0).filter(|_| requester.grant.is_none())?;
    let ended = if end <= now { "ended" } else { "ends" };
    Some(format!(
        "the SecretGrant {name:?} allows it and {ended} at {end}; one with an end serves only bindings that name it in spec.grant"
    ))
}

/// Said where a grant allows the name of an ARN and leaves its place to the operator.
fn of_operator(grant: &SecretGrant, requester: Requester<'_>, secret: &SecretId) -> Option<String> {
    let (name, allowed) = (grant.name_any(), secret_names(grant, requester.namespace));
    let is_asked = requester.grant.is_none_or(|named| named == name);
    let allows = names(secret).iter().any(|name| allowed.iter().any(|glob| glob.matches(name)));
    let aws = grant.spec.aws.clone().unwrap_or_default();
    let place = match (aws.region, aws.account_id.or(aws.role_arn)) {
        (Some(_), Some(_)) => return None,
        (Some(_), None) => "account",
        (None, Some(_)) => "region",
        (None, None) => "region and account",
    };
    let is_arn = matches!(secret, SecretId::Arn(_));
    (is_arn && is_asked && allows).then(|| {
        format!("the SecretGrant {name:?} allows this name only in the operator's own {place}; correct the ARN if it is of another by a slip")
    })
}

/// The names that a reference can mean, the likeliest last.
fn names(secret: &SecretId) -> Vec<String> {
    match secret {
        SecretId::Name(name) => vec![name.clone()],
        SecretId::Arn(arn) => arn.possible_names().map(str::to_owned).collect(),
    }
}

/// What to add to the grant that the binding names.
fn addition(grant: &str, secret: &SecretId, keys: &[String]) -> String {
    // Who may read the whole payload may read every key.
    let whole = keys.iter().any(|key| key.starts_with('('));
    let keys: Vec<&String> = keys.iter().filter(|_| !whole).collect();
    let name = names(secret).pop().unwrap_or_default();
    let entry = if keys.is_empty() { json!({"name": name}) } else { json!({"name": name, "keys": keys}) };
    let entry = entry.to_string();
    if entry.len() > MAX_PROPOSAL {
        String::new()
    } else {
        format!(" to add this to spec.secrets of {grant:?}: {entry}")
    }
}

/// A name that no grant has, so that who applies the proposal replaces none.
fn free_name(namespace: &str, grants: &[&SecretGrant]) -> String {
    let is_free = |name: &String| grants.iter().all(|grant| grant.metadata.name.as_ref() != Some(name));
    let numbered = (2..=grants.len() + 2).map(|number| format!("{namespace}-{number}"));
    std::iter::once(namespace.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

/// A grant that allows all that is requested, or as much of it as there is room for, as the JSON that `kubectl apply -f -`
/// takes.
fn proposal(namespace: &str, name: &str, requested: &BTreeMap<SecretId, RequestedKeys>) -> String {
    let mut spec = json!({"namespaces": {"names": [namespace]}, "secrets": []});
    if let Some(arn) = requested.keys().find_map(SecretId::as_arn) {
        spec["aws"] = json!({"region": arn.region, "accountId": arn.account});
    }
    let mut grant = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "SecretGrant", "metadata": {"name": name}, "spec": spec});
    let mut all: Vec<String> = requested.keys().filter_map(|id| names(id).pop()).collect();
    all.dedup();
    // Whoever may write bindings can ask for hundreds, again and again: each is made into JSON once.
    let mut room = MAX_PROPOSAL.saturating_sub(grant.to_string().len());
    let fitting = all.iter().map_while(|name| {
        let entry = json!({"name": name});
        room = room.checked_sub(entry.to_string().len() + 1)?;
        Some(entry)
    });
    let secrets: Vec<Value> = fitting.collect();
    if secrets.is_empty() {
        return String::new();
    }
    let left = all.len() - secrets.len();
    let more = if left > 0 { format!(" (and {left} secrets more)") } else { String::new() };
    grant["spec"]["secrets"] = secrets.into();
    format!(" for this{more}, which kubectl apply -f - takes: {grant}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretGrantSpec;
    use crate::domain::grant::decision::{Home, decide};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn grant(name: &str, spec: Value) -> SecretGrant {
        SecretGrant::new(name, serde_json::from_value::<SecretGrantSpec>(spec).unwrap())
    }

    fn of(secrets: &[&str]) -> BTreeMap<SecretId, RequestedKeys> {
        secrets.iter().map(|secret| (secret.parse().unwrap(), RequestedKeys::default())).collect()
    }

    fn said(grants: &[SecretGrant], named: Option<&str>, secrets: &[&str]) -> String {
        let requester = Requester { namespace: "shop", labels: None, grant: named };
        let requested = of(secrets);
        let home = Home { region: Some("eu-west-1".to_owned()), account: None };
        let error = decide(grants, requester, &requested, &home, NOW).unwrap_err();
        explained(error, grants, requester, &requested, NOW).to_string()
    }

    #[test]
    fn the_proposed_grant_allows_what_was_refused() {
        for secrets in [
            &["shop/app"][..],
            &["shop/app", "shop/worker", "a+b=c@d!"],
            &["arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/app-AbCdEf"],
        ] {
            let said = said(&[], None, secrets);
            let proposed: SecretGrant = serde_json::from_str(&said[said.find('{').unwrap()..]).unwrap();
            let requester = Requester { namespace: "shop", labels: None, grant: None };
            let home = Home { region: Some("eu-west-1".to_owned()), account: None };
            let access = decide([&proposed], requester, &of(secrets), &home, NOW).unwrap();
            assert_eq!(access.grant, "shop");
        }
    }

    /// A second grant for the same secrets would make every binding of them `AmbiguousGrant`.
    #[test]
    fn where_the_namespace_has_a_grant_of_its_own_the_proposal_adds_to_it() {
        let own = |spec: Value| {
            let mut all = json!({"namespaces": {"names": ["shop"]}, "secrets": [{"name": "shop/app", "keys": ["A"]}]});
            all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            grant("mine", all)
        };
        let adds = r#" to add this to spec.secrets of "mine": {"name":"shop/worker"}"#;
        let said_of_own = said(&[own(json!({}))], None, &["shop/worker"]);
        assert!(said_of_own.ends_with(adds), "{said_of_own}");
        let warns = "; a binding that several grants then allow has to name one in spec.grant";
        for further in [
            json!({"expiresAt": "2030-01-01T00:00:00Z", "reason": "x"}),
            json!({"namespaces": {"names": ["shop", "other"]}}),
            json!({"aws": {"roleArn": "arn:aws:iam::123456789012:role/r"}}),
        ] {
            let said = said(&[own(further)], None, &["shop/worker"]);
            assert!(said.contains("kubectl apply -f - takes: {") && said.ends_with(warns), "{said}");
        }
        let two =
            [own(json!({})), grant("more", json!({"namespaces": {"names": ["shop"]}, "secrets": [{"name": "x"}]}))];
        let said_of_two = said(&two, None, &["shop/worker"]);
        assert!(said_of_two.ends_with(warns), "{said_of_two}");
        let said_of_none = said(&[], None, &["shop/worker"]);
        assert!(!said_of_none.contains("several grants"), "{said_of_none}");
    }

    #[test]
    fn a_proposed_grant_replaces_none_that_exists() {
        let taken = ["shop", "shop-2"]
            .map(|name| grant(name, json!({"namespaces": {"names": ["x"]}, "secrets": [{"name": "x"}]})));
        let said = said(&taken, None, &["shop/app"]);
        assert!(said.contains(r#""metadata":{"name":"shop-3"}"#), "{said}");
    }

    #[test]
    fn a_proposal_that_is_too_long_for_a_condition_says_what_it_leaves_out() {
        let names: Vec<String> = (0..40).map(|n| format!("shop/{}{n}", "x".repeat(100))).collect();
        let said = said(&[], None, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains("secrets more)") && said.len() < 1800, "{said}");
        assert!(serde_json::from_str::<SecretGrant>(&said[said.find('{').unwrap()..]).is_ok());
        let longest = "x".repeat(512);
        assert!(super::proposal(&"n".repeat(63), "n", &of(&[&longest])).len() < 1300);
    }

    #[test]
    fn a_denial_of_hundreds_of_secrets_costs_little_however_often_it_is_said() {
        let names: Vec<String> = (0..500).map(|n| format!("shop/{}{n}", "x".repeat(245))).collect();
        let requested = of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let started = std::time::Instant::now();
        for _ in 0..200 {
            let said = super::proposal("shop", "shop", &requested);
            assert!(said.contains(" secrets more)"), "{said}");
        }
        // A debug build took two minutes where each number of secrets was tried.
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn a_grant_that_nearly_fits_is_named_and_grants_of_others_are_not() {
        let own = |secret: &str, rest: Value| {
            let mut spec = json!({"namespaces": {"names": ["shop"]}, "secrets": [{"name": secret}]});
            spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            grant("mine", spec)
        };
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/app-AbCdEf";
        for (found, secret, words) in [
            (own("shop/App", json!({})), "shop/app", "the SecretGrant \"mine\" allows \"shop/App\", which looks alike"),
            (
                own("shop/*", json!({"aws": {"region": "eu-west-1"}})),
                arn,
                "\"mine\" allows this name in region eu-west-1, and the ARN",
            ),
            (
                own("shop/*", json!({"expiresAt": "2030-01-01T00:00:00Z", "reason": "x"})),
                "shop/app",
                "\"mine\" allows it and ends at 2030-01-01T00:00:00Z; one with an end serves only bindings that name it",
            ),
        ] {
            let said = said(&[found], None, &[secret]);
            assert!(said.contains(words), "{said}");
        }
        let said_of_account = said(&[own("shop/*", json!({"aws": {"region": "eu-central-1"}}))], None, &[arn]);
        assert!(
            said_of_account.contains("\"mine\" allows this name only in the operator's own account; correct the ARN"),
            "{said_of_account}"
        );
        let other = grant("theirs", json!({"namespaces": {"names": ["other"]}, "secrets": [{"name": "shop/App"}]}));
        let said_of_others = said(&[other], None, &["shop/app"]);
        assert!(!said_of_others.contains("theirs") && !said_of_others.contains("App"), "{said_of_others}");
        let named = grant("mine", json!({"namespaces": {"names": ["shop"]}, "secrets": [{"name": "x"}]}));
        let named = said(&[named], Some("mine"), &["shop/app"]);
        assert!(named.ends_with(r#" to add this to spec.secrets of "mine": {"name":"shop/app"}"#), "{named}");
    }
}
