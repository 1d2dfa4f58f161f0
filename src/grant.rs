//! Who may read what: the decision, as a pure function of the grants.
//!
//! A namespace reads nothing until a [`SecretGrant`] allows it. The decision is taken before any call to AWS, and
//! again after the read, before the value is used.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use crate::api::{Reason, SecretGrant};
use crate::binding::glob::Glob;
use crate::binding::reference::{SecretArn, SecretId};
use crate::source::Identity;

/// A grant that serves a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The name of the grant.
    pub grant: String,
    /// The generation of the grant that was judged.
    pub generation: i64,
    /// As whom the secrets are read.
    pub identity: Identity,
    /// The account that the grant names.
    pub account: Option<String>,
    /// The secrets that are named by an ARN which may stand for two names: the name that AWS answers must be judged
    /// by [`Access::permits`] before any value is read.
    pub unconfirmed: BTreeSet<SecretId>,
    allowed: Vec<Glob>,
}

impl Access {
    /// Whether the grant allows the secret of this ARN and name, as AWS answered them.
    #[must_use]
    pub fn permits(&self, arn: &str, name: &str) -> bool {
        let account_agrees = self.account.as_deref().is_none_or(|account| arn.split(':').nth(4) == Some(account));
        let region_agrees = self.identity.region.as_deref().is_none_or(|region| arn.split(':').nth(3) == Some(region));
        account_agrees && region_agrees && self.allowed.iter().any(|glob| glob.matches(name))
    }
}

/// Why no grant serves a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No grant allows the secret.
    #[error("{}", denied(namespace, secret, grant.as_deref()))]
    AccessDenied {
        /// The namespace of the binding.
        namespace: String,
        /// The first secret that is refused.
        secret: String,
        /// The one grant that was asked.
        grant: Option<String>,
    },
    /// Several grants allow all the secrets.
    #[error("the grants {} all allow these secrets; name one of them in spec.grant", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Neither the grant nor the operator says in which region the secrets are.
    #[error("the SecretGrant {0:?} names no region and the operator has none; set spec.aws.region in the grant, or --aws-region")]
    NoRegion(String),
    /// The named grant does not exist.
    #[error("spec.grant names {0:?}, but there is no SecretGrant of this name")]
    NotFound(String),
}

impl GrantError {
    /// The reason in the condition `Granted`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AccessDenied { .. } | Self::NoRegion(_) => Reason::AccessDenied,
            Self::Ambiguous(_) => Reason::AmbiguousGrant,
            Self::NotFound(_) => Reason::GrantNotFound,
        }
    }
}

fn denied(namespace: &str, secret: &str, grant: Option<&str>) -> String {
    let who = grant.map_or_else(|| "no SecretGrant allows".to_owned(), |grant| format!("the SecretGrant {grant:?} does not allow"));
    format!(
        "{who} the namespace {namespace:?} to read the secret {secret:?}; ask whoever manages the SecretGrants of the cluster"
    )
}

/// Where the operator itself is.
#[derive(Clone, Debug, Default)]
pub struct Home {
    /// The region of the operator's own configuration.
    pub region: Option<String>,
    /// The account of the operator's own identity, where it is known.
    pub account: Option<String>,
}

/// Finds the grant through which a binding of `namespace` may read all `secrets`.
///
/// # Errors
/// Where there is none, or several and `named` chooses none of them.
pub fn decide<'a>(
    grants: impl IntoIterator<Item = &'a SecretGrant>,
    namespace: &str,
    named: Option<&str>,
    secrets: &BTreeSet<SecretId>,
    home: &Home,
) -> Result<Access, GrantError> {
    let mut known = false;
    let mut refused = None;
    let mut serving = Vec::new();
    for grant in grants {
        if let Some(named) = named {
            if grant.name_any() != named {
                continue;
            }
            known = true;
        }
        if !grant.spec.namespaces.names.iter().any(|name| name == namespace) {
            continue;
        }
        match judge(grant, secrets, home) {
            Ok(access) => serving.push(access),
            Err(secret) => refused = Some((secret, grant.name_any())),
        }
    }
    if let (Some(named), false) = (named, known) {
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
        (None, _) => {
            let (secret, grant) = refused.map_or_else(
                || (secrets.first().map(ToString::to_string).unwrap_or_default(), named.map(str::to_owned)),
                |(secret, grant)| (secret, Some(grant)),
            );
            // With several grants for the namespace, naming one of them would point at the wrong place.
            let grant = named.map(str::to_owned).or(grant).filter(|_| named.is_some());
            Err(GrantError::AccessDenied { namespace: namespace.to_owned(), secret, grant })
        }
    }
}

/// Judges one grant; the error is the first secret that it refuses.
fn judge(grant: &SecretGrant, secrets: &BTreeSet<SecretId>, home: &Home) -> Result<Access, String> {
    // A glob that does not parse allows nothing.
    let allowed: Vec<Glob> = grant.spec.secrets.iter().filter_map(|secret| Glob::try_from(secret.name.as_str()).ok()).collect();
    let aws = grant.spec.aws.clone().unwrap_or_default();
    let region = aws.region.or_else(|| home.region.clone());
    let account = aws.account_id.or_else(|| home.account.clone());
    let mut unconfirmed = BTreeSet::new();
    for secret in secrets {
        let matches = |name: &str| allowed.iter().any(|glob| glob.matches(name));
        let judged = match secret {
            SecretId::Name(name) => matches(name).then_some(true),
            SecretId::Arn(arn) if !lives_in(arn, region.as_deref(), account.as_deref()) => None,
            SecretId::Arn(arn) => judge_arn(arn, &matches),
        };
        match judged {
            Some(true) => {}
            Some(false) => {
                unconfirmed.insert(secret.clone());
            }
            None => return Err(secret.to_string()),
        }
    }
    Ok(Access {
        grant: grant.name_any(),
        generation: grant.metadata.generation.unwrap_or_default(),
        identity: Identity { region },
        account,
        unconfirmed,
        allowed,
    })
}

fn lives_in(arn: &SecretArn, region: Option<&str>, account: Option<&str>) -> bool {
    region == Some(arn.region.as_str()) && account == Some(arn.account.as_str())
}

/// Judges an ARN, whose last part is a name with or without `-` and six characters: `app-worker` may be the secret
/// `app-worker` or the secret `app`. `Some(true)`: allowed whichever it is. `Some(false)`: only one of the two is.
fn judge_arn(arn: &SecretArn, matches: &impl Fn(&str) -> bool) -> Option<bool> {
    let whole = matches(&arn.resource);
    let Some(stem) = without_suffix(&arn.resource) else {
        return whole.then_some(true);
    };
    match (whole, matches(stem)) {
        (true, true) => Some(true),
        (false, false) => None,
        _ => Some(false),
    }
}

fn without_suffix(resource: &str) -> Option<&str> {
    let (stem, suffix) = resource.rsplit_once('-')?;
    (!stem.is_empty() && suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AwsAccess, GrantedNamespaces, GrantedSecret, SecretGrantSpec};

    fn grant(name: &str, namespaces: &[&str], secrets: &[&str]) -> SecretGrant {
        SecretGrant::new(
            name,
            SecretGrantSpec {
                namespaces: GrantedNamespaces { names: namespaces.iter().map(ToString::to_string).collect() },
                secrets: secrets.iter().map(|name| GrantedSecret { name: (*name).to_owned() }).collect(),
                aws: Some(AwsAccess { region: Some("eu-west-1".to_owned()), account_id: Some("123456789012".to_owned()) }),
            },
        )
    }

    fn wanted(secrets: &[&str]) -> BTreeSet<SecretId> {
        secrets.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn decision(grants: &[SecretGrant], namespace: &str, secrets: &[&str]) -> Result<String, Reason> {
        decide(grants, namespace, None, &wanted(secrets), &Home::default())
            .map(|access| access.grant)
            .map_err(|error| error.reason())
    }

    #[test]
    fn nothing_is_allowed_without_a_grant() {
        assert_eq!(decision(&[], "production", &["autorepost/production/app"]), Err(Reason::AccessDenied));
    }

    #[test]
    fn a_grant_allows_its_namespaces_and_its_names_and_no_look_alikes() {
        let grants = [grant("g", &["production"], &["autorepost/production/app"])];
        assert_eq!(decision(&grants, "production", &["autorepost/production/app"]), Ok("g".to_owned()));
        for (namespace, secret) in [
            ("staging", "autorepost/production/app"),
            ("production2", "autorepost/production/app"),
            ("Production", "autorepost/production/app"),
            ("production", "autorepost/production/app2"),
            ("production", "xautorepost/production/app"),
            ("production", "autorepost/production/App"),
            ("production", "autorepost/production/app-AbCdEf"),
            ("production", "autorepost/production"),
            ("production", "autorepost/staging/app"),
        ] {
            assert_eq!(decision(&grants, namespace, &[secret]), Err(Reason::AccessDenied), "{namespace} {secret}");
        }
    }

    #[test]
    fn every_secret_must_be_allowed_by_one_and_the_same_grant() {
        let grants = [grant("app", &["production"], &["p/app"]), grant("worker", &["production"], &["p/worker"])];
        assert_eq!(decision(&grants, "production", &["p/app", "p/worker"]), Err(Reason::AccessDenied));
        assert_eq!(decision(&grants, "production", &["p/worker"]), Ok("worker".to_owned()));
    }

    #[test]
    fn several_grants_need_a_choice() {
        let grants = [grant("b", &["n"], &["p/*"]), grant("a", &["n"], &["p/app"])];
        let error = decide(&grants, "n", None, &wanted(&["p/app"]), &Home::default()).unwrap_err();
        assert_eq!(error, GrantError::Ambiguous(vec!["a".to_owned(), "b".to_owned()]));
        let access = decide(&grants, "n", Some("b"), &wanted(&["p/app"]), &Home::default()).unwrap();
        assert_eq!(access.grant, "b");
    }

    #[test]
    fn a_region_must_be_known_before_anything_is_asked() {
        let mut grant = grant("g", &["n"], &["*"]);
        grant.spec.aws = None;
        let decided = |region: Option<&str>| {
            let home = Home { region: region.map(str::to_owned), account: None };
            decide([&grant], "n", None, &wanted(&["app"]), &home).map(|access| access.identity.region)
        };
        assert_eq!(decided(None), Err(GrantError::NoRegion("g".to_owned())));
        assert_eq!(decided(Some("eu-west-1")), Ok(Some("eu-west-1".to_owned())));
    }

    #[test]
    fn a_named_grant_must_exist_and_allow() {
        let grants = [grant("a", &["n"], &["p/app"])];
        let missing = decide(&grants, "n", Some("x"), &wanted(&["p/app"]), &Home::default()).unwrap_err();
        assert_eq!(missing.reason(), Reason::GrantNotFound);
        let refused = decide(&grants, "other", Some("a"), &wanted(&["p/app"]), &Home::default()).unwrap_err();
        assert!(refused.to_string().contains("\"a\" does not allow the namespace \"other\""), "{refused}");
    }

    #[test]
    fn an_arn_of_another_region_or_account_is_refused() {
        let grants = [grant("g", &["n"], &["*"])];
        let arn = |region: &str, account: &str| format!("arn:aws:secretsmanager:{region}:{account}:secret:app");
        assert_eq!(decision(&grants, "n", &[&arn("eu-west-1", "123456789012")]), Ok("g".to_owned()));
        assert_eq!(decision(&grants, "n", &[&arn("eu-west-2", "123456789012")]), Err(Reason::AccessDenied));
        assert_eq!(decision(&grants, "n", &[&arn("eu-west-1", "210987654321")]), Err(Reason::AccessDenied));
    }

    #[test]
    fn an_arn_that_may_mean_two_names_waits_for_the_name_that_aws_answers() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-worker";
        for (globs, expected) in [
            (&["app-worker", "app"][..], Some(false)),
            (&["app"][..], Some(true)),
            (&["app-worker"][..], Some(true)),
            (&["other"][..], None),
        ] {
            let decided = decide(&[grant("g", &["n"], globs)], "n", None, &wanted(&[arn]), &Home::default());
            assert_eq!(decided.ok().map(|access| !access.unconfirmed.is_empty()), expected, "{globs:?}");
        }
        let access = decide(&[grant("g", &["n"], &["app"])], "n", None, &wanted(&[arn]), &Home::default()).unwrap();
        assert!(access.permits("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-worker", "app"));
        assert!(!access.permits("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-worker-AbCdEf", "app-worker"));
        assert!(!access.permits("arn:aws:secretsmanager:eu-west-2:123456789012:secret:app-AbCdEf", "app"));
    }

    #[test]
    fn a_grant_of_a_broken_glob_allows_nothing_by_it() {
        let grants = [grant("g", &["n"], &["", "app"])];
        assert_eq!(decision(&grants, "n", &["app"]), Ok("g".to_owned()));
        assert_eq!(decision(&grants, "n", &["b"]), Err(Reason::AccessDenied));
    }
}
