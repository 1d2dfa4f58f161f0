//! The decision whether a binding may read, as a pure function of the grants.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{AwsAccess, OnExpiry, SecretGrant};
use crate::domain::grant::access::Access;
use crate::domain::grant::candidate::GrantCandidate;
use crate::domain::grant::error::GrantError;
use crate::domain::grant::namespace::covers;
use crate::domain::grant::request::RequestedKeys;
use crate::domain::grant::rule::refused;
use crate::domain::secret::identity::{Identity, Role, ServiceAccountIdentity};
use crate::domain::secret::reference::{SecretArn, SecretId};
use crate::domain::target::metadata::MetadataPattern;

/// The operator's own region and account.
#[derive(Clone, Debug, Default)]
pub struct Home {
    /// The region of the operator's own configuration.
    pub region: Option<String>,
    /// The account of the operator's own identity, if it is known.
    pub account: Option<String>,
}

/// The binding that asks.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The namespace of the binding.
    pub namespace: &'a str,
    /// The labels of that namespace; `None` if they are unknown, so that no selector matches.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The grant that the binding names.
    pub grant: Option<&'a str>,
}

/// Finds the grant through which a binding may read all that it requests.
///
/// # Errors
/// If there is none, or several and the binding names none of them.
pub fn decide<'a, C: Into<GrantCandidate<'a>>>(
    grants: impl IntoIterator<Item = C>,
    requester: Requester<'_>,
    requested: &BTreeMap<SecretId, RequestedKeys>,
    home: &Home,
    now: Timestamp,
) -> Result<Access, GrantError> {
    let mut known = false;
    let mut refusal: Option<(String, Vec<String>)> = None;
    let mut serving = Vec::new();
    for candidate in grants {
        let candidate = candidate.into();
        let grant = candidate.grant;
        let name = grant.name_any();
        match requester.grant {
            Some(named) if name != named => continue,
            Some(_) => known = true,
            // A grant with an end serves only bindings that name it.
            None if grant.spec.expires_at.is_some() => continue,
            None => {}
        }
        if !covers(&grant.spec.namespaces, requester.namespace, requester.labels) {
            continue;
        }
        if let Some(end) = grant.spec.expires_at.as_ref().map(|time| time.0).filter(|end| *end <= now) {
            let delete = grant.spec.on_expiry == Some(OnExpiry::Delete);
            return Err(GrantError::Expired { grant: name, at: end, delete });
        }
        match judge(&candidate, requester.namespace, requested, home) {
            Ok(access) => serving.push(access),
            // The refusal of keys is more precise than the refusal of the secret.
            Err(refused) if refusal.as_ref().is_none_or(|(_, keys)| keys.is_empty()) => refusal = Some(refused),
            Err(_) => {}
        }
    }
    if let (Some(named), false) = (requester.grant, known) {
        return Err(GrantError::NotFound(named.to_owned()));
    }
    serving.sort_by(|a, b| a.grant.cmp(&b.grant));
    let mut serving = serving.into_iter();
    match (serving.next(), serving.next()) {
        (Some(access), None) if access.identity.region.is_none() => Err(GrantError::NoRegion(access.grant)),
        (Some(access), None) => Ok(access),
        (Some(first), Some(second)) => {
            let mut names = vec![first.grant, second.grant];
            names.extend(serving.map(|access| access.grant));
            Err(GrantError::Ambiguous(names))
        }
        (None, _) => Err(denied(requester, requested, refusal)),
    }
}

/// The refusal of the secret that a grant refused, or of the first.
fn denied(
    requester: Requester<'_>,
    requested: &BTreeMap<SecretId, RequestedKeys>,
    refusal: Option<(String, Vec<String>)>,
) -> GrantError {
    let first = || (requested.keys().next().map(ToString::to_string).unwrap_or_default(), Vec::new());
    let (secret, keys) = refusal.unwrap_or_else(first);
    let (namespace, grant) = (requester.namespace.to_owned(), requester.grant.map(str::to_owned));
    GrantError::AccessDenied { namespace, secret, keys, grant, hint: Box::default() }
}

/// Whether a grant may serve a binding, its secrets and its end aside.
#[must_use]
pub fn is_candidate(grant: &SecretGrant, requester: Requester<'_>) -> bool {
    requester.grant.map_or(grant.spec.expires_at.is_none(), |named| grant.metadata.name.as_deref() == Some(named))
        && covers(&grant.spec.namespaces, requester.namespace, requester.labels)
}

/// Whether the account of the operator's own identity decides: an ARN names an account, and a grant that names none
/// means the operator's own.
#[must_use]
pub fn needs_account<'a, C: Into<GrantCandidate<'a>>>(
    grants: impl IntoIterator<Item = C>,
    requester: Requester<'_>,
    requested: &BTreeMap<SecretId, RequestedKeys>,
    region: Option<&str>,
) -> bool {
    let account = requested.keys().find_map(|secret| match secret {
        SecretId::Arn(arn) => Some(arn.account.clone()),
        SecretId::Name(_) => None,
    });
    let Some(account) = account else { return false };
    let own = Home { region: region.map(str::to_owned), account: Some(account) };
    grants.into_iter().any(|candidate| {
        let candidate = candidate.into();
        let aws = candidate.grant.spec.aws.as_ref();
        aws.is_none_or(|aws| aws.account_id.is_none() && aws.role_arn.is_none())
            && is_candidate(candidate.grant, requester)
            && judge(&candidate, requester.namespace, requested, &own).is_ok()
    })
}

/// Judges one grant. The error is the first refused secret with its refused keys.
fn judge(
    candidate: &GrantCandidate<'_>,
    namespace: &str,
    requested: &BTreeMap<SecretId, RequestedKeys>,
    home: &Home,
) -> Result<Access, (String, Vec<String>)> {
    let (grant, rules) = (candidate.grant, candidate.rules_for(namespace));
    let aws = grant.spec.aws.clone().unwrap_or_default();
    let region = aws.region.clone().or_else(|| home.region.clone());
    let of_role = aws.role_arn.as_deref().and_then(|arn| arn.split(':').nth(4)).map(str::to_owned);
    let account = aws.account_id.clone().or(of_role).or_else(|| home.account.clone());
    let mut unconfirmed = BTreeSet::new();
    for (secret, keys) in requested {
        let refusal = |name: &str| refused(&rules.secrets, name, keys);
        match secret {
            SecretId::Name(name) => {
                if let Some(keys) = refusal(name) {
                    return Err((secret.to_string(), keys));
                }
            }
            SecretId::Arn(arn) if !lives_in(arn, region.as_deref(), account.as_deref()) => {
                return Err((secret.to_string(), Vec::new()));
            }
            // By its ARN, `app-worker` may be the secret `app-worker` or the secret `app`.
            SecretId::Arn(arn) => {
                let refusals: Vec<Option<Vec<String>>> = arn.possible_names().map(refusal).collect();
                if refusals.iter().all(Option::is_some) {
                    let keys = refusals.into_iter().flatten().find(|keys| !keys.is_empty()).unwrap_or_default();
                    return Err((secret.to_string(), keys));
                }
                if refusals.iter().any(Option::is_some) {
                    unconfirmed.insert(secret.clone());
                }
            }
        }
    }
    let metadata = grant.spec.target_metadata.iter();
    Ok(Access {
        metadata: metadata.filter_map(|text| MetadataPattern::try_from(text.as_str()).ok()).collect(),
        grant: grant.name_any(),
        generation: grant.metadata.generation.unwrap_or_default(),
        identity: identity(&aws, region, namespace, &grant.name_any()),
        account,
        unconfirmed,
        expires: grant.spec.expires_at.as_ref().map(|time| time.0),
        rules,
    })
}

fn lives_in(arn: &SecretArn, region: Option<&str>, account: Option<&str>) -> bool {
    region == Some(arn.region.as_str()) && account == Some(arn.account.as_str())
}

fn identity(aws: &AwsAccess, region: Option<String>, namespace: &str, grant: &str) -> Identity {
    let role = aws.role_arn.clone();
    match (&aws.service_account_name, role) {
        (Some(name), role_arn) => Identity {
            region,
            role: None,
            service_account: Some(ServiceAccountIdentity {
                namespace: namespace.to_owned(),
                name: name.clone(),
                role_arn,
            }),
        },
        (None, Some(arn)) => Identity {
            region,
            role: Some(Role {
                arn,
                external_id: aws.external_id.clone(),
                namespace: namespace.to_owned(),
                grant: grant.to_owned(),
                tags: aws.session_tags.unwrap_or_default(),
            }),
            service_account: None,
        },
        (None, None) => Identity { region, role: None, service_account: None },
    }
}
