//! Who there is: users, roles, sessions, identity providers and keys, of any number of accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::context::Context;
use super::evaluate::{Denial, Principal, Request, evaluate};
use super::policy::{Policy, PolicyError};
use super::token::Provider;

/// Session tags and tags of users and roles. Their names are the same in upper and lower case.
pub type Tags = BTreeMap<String, String>;

/// Tags from pairs.
pub fn tags<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Tags {
    pairs.into_iter().map(|(key, value)| (key.to_lowercase(), value.to_owned())).collect()
}

/// An IAM user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    arn: String,
    policies: Vec<Policy>,
    /// The serial number of its MFA device and the code that the device shows.
    mfa: Option<(String, String)>,
}

impl User {
    /// A user that may do nothing.
    pub fn new(arn: &str) -> Self {
        Self { arn: arn.to_owned(), policies: vec![], mfa: None }
    }

    /// Attaches a policy.
    ///
    /// # Errors
    /// Where it is not understood.
    pub fn policy(mut self, name: &str, json: &str) -> Result<Self, PolicyError> {
        self.policies.push(Policy::identity(name, json)?);
        Ok(self)
    }

    /// Gives it an MFA device.
    #[must_use]
    pub fn mfa(mut self, serial: &str, code: &str) -> Self {
        self.mfa = Some((serial.to_owned(), code.to_owned()));
        self
    }
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// Who may become it.
    pub trust: Policy,
    /// The longest session.
    pub max_session: Duration,
    policies: Vec<Policy>,
    tags: Tags,
}

impl Role {
    /// A role that may do nothing.
    ///
    /// # Errors
    /// Where the trust policy is not understood.
    pub fn new(arn: &str, trust: &str) -> Result<Self, PolicyError> {
        let trust = Policy::trust(&format!("trust of {}", last(arn)), trust)?;
        Ok(Self {
            arn: arn.to_owned(),
            trust,
            max_session: Duration::from_secs(3600),
            policies: vec![],
            tags: tags([]),
        })
    }

    /// Attaches a policy.
    ///
    /// # Errors
    /// Where it is not understood.
    pub fn policy(mut self, name: &str, json: &str) -> Result<Self, PolicyError> {
        self.policies.push(Policy::identity(name, json)?);
        Ok(self)
    }

    /// Tags it.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.extend(tags([(key, value)]));
        self
    }

    /// Changes the longest session.
    #[must_use]
    pub fn max_session(mut self, max_session: Duration) -> Self {
        self.max_session = max_session;
        self
    }
}

/// What belongs to an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub principal: Principal,
    /// Its tags.
    pub tags: Tags,
    /// Those of them that go on to the next session.
    pub transitive: BTreeSet<String>,
    /// The name that a person gave when the first role was assumed: AWS's source identity.
    pub person: Option<String>,
    /// When MFA was given; none where it was not.
    mfa: Option<SystemTime>,
    /// The session token and the end; none for long-term keys.
    session: Option<(String, SystemTime)>,
    /// The provider that vouched for it.
    provider: Option<String>,
}

impl Identity {
    /// Whether it is a session of a role, so that a further role is a link in a chain.
    pub fn is_role(&self) -> bool {
        matches!(self.principal, Principal::Session { .. })
    }

    /// What is known of it in each request.
    pub fn context(&self, now: SystemTime) -> Context {
        let kind = if self.is_role() { "AssumedRole" } else { "User" };
        let name = last(self.principal.arn());
        let mut context = Context::new()
            .with_some("aws:PrincipalArn", self.principal.principal_arn())
            .with_some("aws:PrincipalAccount", self.principal.account())
            .with("aws:PrincipalType", kind)
            .with("aws:userid", if self.is_role() { format!("AROAEXAMPLE:{name}") } else { format!("AIDA{name}") })
            .with_some("aws:username", (!self.is_role()).then_some(name))
            .with_some("aws:SourceIdentity", self.person.as_deref())
            .with_some("aws:FederatedProvider", self.provider.as_deref());
        // Long-term keys carry no word about MFA; sessions do, and those of roles never say yes.
        if self.session.is_some() {
            context = context.with("aws:MultiFactorAuthPresent", self.mfa.is_some().to_string());
        }
        if let Some(since) = self.mfa {
            let age = now.duration_since(since).unwrap_or_default().as_secs();
            context = context.with("aws:MultiFactorAuthAge", age.to_string());
        }
        for (key, value) in &self.tags {
            context = context.with(&format!("aws:PrincipalTag/{key}"), value);
        }
        context
    }
}

/// Why credentials are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The access key, or its session token, is not known.
    Unknown,
    /// The session has ended.
    Expired,
}

/// A session to be, once its credentials are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// The role.
    pub role: String,
    /// The name of the session.
    pub name: String,
    /// The tags given with it and those that came along.
    pub tags: Tags,
    /// Those that go on.
    pub transitive: BTreeSet<String>,
    /// The name that a person gave.
    pub source_identity: Option<String>,
    /// The provider that vouched for it.
    pub provider: Option<String>,
    /// How long it lasts.
    pub lasts: Duration,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct IamWorld {
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    providers: Vec<Provider>,
    keys: BTreeMap<String, Policy>,
    credentials: BTreeMap<String, Identity>,
}

impl IamWorld {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user, or changes it.
    pub fn add_user(&mut self, user: User) {
        self.users.insert(user.arn.clone(), user);
    }

    /// Adds a role, or changes it. Sessions that it has follow.
    pub fn add_role(&mut self, role: Role) {
        self.roles.insert(role.arn.clone(), role);
    }

    /// Adds an identity provider.
    pub fn add_provider(&mut self, provider: Provider) {
        self.providers.push(provider);
    }

    /// Gives a KMS key a policy of its own, in the place of the usual one that leaves all to the account.
    ///
    /// # Errors
    /// Where it is not understood.
    pub fn set_key_policy(&mut self, arn: &str, json: &str) -> Result<(), PolicyError> {
        self.keys.insert(arn.to_owned(), Policy::key(&format!("policy of {}", last(arn)), json)?);
        Ok(())
    }

    /// Gives a user a long-term access key.
    pub fn add_access_key(&mut self, user: &str, access_key: &str) {
        self.credentials.insert(access_key.to_owned(), user_identity(user, None, None));
    }

    /// Gives a user the credentials of `sts:GetSessionToken`; with `mfa`, those that a code was given for then.
    pub fn add_user_session(
        &mut self,
        user: &str,
        access_key: &str,
        token: &str,
        end: SystemTime,
        mfa: Option<SystemTime>,
    ) {
        self.credentials.insert(access_key.to_owned(), user_identity(user, Some((token.to_owned(), end)), mfa));
    }

    /// Adds the credentials of a session.
    pub fn add_session(&mut self, access_key: &str, token: &str, start: SystemTime, session: NewSession) {
        let parts = super::pattern::arn_parts(&session.role).expect("the ARN of a role has six parts");
        let (partition, account) = (parts[1], parts[4].to_owned());
        let role = last(&session.role);
        let arn = format!("arn:{partition}:sts::{account}:assumed-role/{role}/{}", session.name);
        // Tags of the session win over those of the role.
        let mut all = self.roles.get(&session.role).map(|role| role.tags.clone()).unwrap_or_default();
        all.extend(session.tags);
        let identity = Identity {
            principal: Principal::Session { account, role: session.role, arn },
            tags: all,
            transitive: session.transitive,
            person: session.source_identity,
            mfa: None,
            session: Some((token.to_owned(), start + session.lasts)),
            provider: session.provider,
        };
        self.credentials.insert(access_key.to_owned(), identity);
    }

    /// Starts the session that EKS Pod Identity starts for a pod. There is no call of STS that could be watched: an
    /// agent on the node hands the credentials out.
    ///
    /// # Errors
    /// Says why the role's trust policy refuses.
    ///
    /// # Panics
    /// Where there is no such role.
    pub fn start_pod_session(
        &mut self,
        role: &str,
        (access_key, token): (&str, &str),
        start: SystemTime,
        given: &Tags,
    ) -> Result<(), Denial> {
        let service = Principal::Service("pods.eks.amazonaws.com".to_owned());
        let trust = &self.roles[role].trust;
        let mut context = Context::new().with_all("aws:TagKeys", given.keys().cloned());
        for (key, value) in given {
            context = context.with(&format!("aws:RequestTag/{key}"), value);
        }
        for action in ["sts:AssumeRole", "sts:TagSession"] {
            let account = account_of(role);
            let request = Request { principal: &service, action, resource: role, account: &account, context: &context };
            if let super::evaluate::Decision::Denied(denial) = evaluate(&request, &[], Some(trust)) {
                return Err(denial);
            }
        }
        let session = NewSession {
            role: role.to_owned(),
            name: "eks-cluster-bindery-0".to_owned(),
            tags: given.clone(),
            transitive: given.keys().cloned().collect(),
            source_identity: None,
            provider: None,
            lasts: Duration::from_secs(6 * 3600),
        };
        self.add_session(access_key, token, start, session);
        Ok(())
    }

    /// Who has this access key.
    ///
    /// # Errors
    /// Where nobody has, or no longer.
    pub fn authenticate(&self, access_key: &str, token: Option<&str>, now: SystemTime) -> Result<&Identity, Rejected> {
        let identity = self.credentials.get(access_key).ok_or(Rejected::Unknown)?;
        match (&identity.session, token) {
            (None, None) => Ok(identity),
            (Some((expected, end)), Some(token)) if expected == token => {
                if now < *end {
                    Ok(identity)
                } else {
                    Err(Rejected::Expired)
                }
            }
            _ => Err(Rejected::Unknown),
        }
    }

    /// The policies attached to a user, or to the role of a session.
    pub fn policies(&self, principal: &Principal) -> &[Policy] {
        match principal {
            Principal::User { arn, .. } => self.users.get(arn).map_or(&[], |user| &user.policies),
            Principal::Session { role, .. } => self.roles.get(role).map_or(&[], |role| &role.policies),
            Principal::Federated { .. } | Principal::Service(_) => &[],
        }
    }

    /// A role.
    pub fn role(&self, arn: &str) -> Option<&Role> {
        self.roles.get(arn)
    }

    /// The provider with this issuer in an account.
    pub fn provider(&self, account: &str, issuer: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| account_of(&provider.arn) == account && provider.issuer == issuer)
    }

    /// The policy of a KMS key.
    ///
    /// # Panics
    /// Where the ARN is none.
    pub fn key_policy(&self, arn: &str) -> Policy {
        // What AWS gives a key that is made without a policy.
        let usual = || {
            let root = format!("arn:aws:iam::{}:root", account_of(arn));
            let json = serde_json::json!({
                "Version": "2012-10-17",
                "Statement": {"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"},
            });
            Policy::key("usual policy of a key", &json.to_string()).expect("the usual policy of a key is right")
        };
        self.keys.get(arn).cloned().unwrap_or_else(usual)
    }

    /// Whether a user's device shows this code.
    pub fn mfa_is_right(&self, principal: &Principal, serial: &str, code: &str) -> bool {
        let device = self.users.get(principal.arn()).and_then(|user| user.mfa.as_ref());
        device.is_some_and(|(own, shown)| own == serial && shown == code)
    }
}

fn user_identity(arn: &str, session: Option<(String, SystemTime)>, mfa: Option<SystemTime>) -> Identity {
    Identity {
        principal: Principal::User { account: account_of(arn), arn: arn.to_owned() },
        tags: tags([]),
        transitive: BTreeSet::new(),
        person: None,
        mfa,
        session,
        provider: None,
    }
}

/// The account in an ARN.
pub fn account_of(arn: &str) -> String {
    arn.split(':').nth(4).unwrap_or_default().to_owned()
}

fn last(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
