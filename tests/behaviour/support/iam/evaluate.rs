//! AWS's rules for putting policies together.
//!
//! From AWS's "policy evaluation logic": without an Allow everything is denied; a Deny wins over every Allow; within
//! one account an Allow of the identity *or* of the resource is enough; across accounts both are needed. A role's trust
//! policy and a key's policy are never optional. A resource's policy that names an account leaves it to that account's
//! own policies, so within the account it adds nothing by itself.

use std::fmt;

use super::context::Context;
use super::policy::{Effect, Kind, Named, Policy, Principals, Statement};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A user, or a session of one.
    User {
        /// The account.
        account: String,
        /// The ARN of the user.
        arn: String,
    },
    /// A session of a role.
    Session {
        /// The account.
        account: String,
        /// The ARN of the role.
        role: String,
        /// The ARN of the session, by which AWS's messages and CloudTrail name it.
        arn: String,
    },
    /// Somebody whom an identity provider vouches for, before the role is assumed.
    Federated {
        /// The ARN of the provider.
        provider: String,
    },
    /// A service of AWS.
    Service(String),
}

impl Principal {
    /// How AWS names it in messages.
    pub fn arn(&self) -> &str {
        match self {
            Self::User { arn, .. } | Self::Session { arn, .. } => arn,
            Self::Federated { provider } => provider,
            Self::Service(name) => name,
        }
    }

    /// The value of `aws:PrincipalArn`, which for a session is the role. None before there is an identity of AWS.
    pub fn principal_arn(&self) -> Option<&str> {
        match self {
            Self::User { arn, .. } => Some(arn),
            Self::Session { role, .. } => Some(role),
            Self::Federated { .. } | Self::Service(_) => None,
        }
    }

    /// The account.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::User { account, .. } | Self::Session { account, .. } => Some(account),
            Self::Federated { .. } | Self::Service(_) => None,
        }
    }

    fn is(&self, named: &Named) -> Option<Strength> {
        let direct = |yes: bool| yes.then_some(Strength::Direct);
        match (named, self) {
            (Named::Anyone, _) => Some(Strength::Direct),
            (Named::Account(id), _) => (self.account() == Some(id)).then_some(Strength::Delegated),
            (Named::Arn(arn), Self::User { arn: own, .. }) => direct(arn == own),
            (Named::Arn(arn), Self::Session { role, arn: own, .. }) => direct(arn == role || arn == own),
            (Named::Federated(arn), Self::Federated { provider }) => direct(arn == provider),
            (Named::Service(name), Self::Service(own)) => direct(name == own),
            _ => None,
        }
    }

    /// AWS looks at the account, the role and the session one after the other, and each must be excepted.
    fn is_excepted(&self, from: &[Named]) -> bool {
        let has = |wanted: &dyn Fn(&Named) -> bool| from.iter().any(wanted);
        let account = |id: &str| has(&|named| matches!(named, Named::Account(own) if own == id));
        let arn = |arn: &str| has(&|named| matches!(named, Named::Arn(own) if own == arn));
        has(&|named| *named == Named::Anyone)
            || match self {
                Self::User { account: id, arn: own } => account(id) && arn(own),
                Self::Session { account: id, role, arn: own } => account(id) && arn(role) && arn(own),
                Self::Federated { .. } | Self::Service(_) => from.iter().any(|named| self.is(named).is_some()),
            }
    }
}

/// How much a policy of a resource says by naming a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    /// The account is named: its own policies decide.
    Delegated,
    /// The principal itself is named, or everybody.
    Direct,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// For what, such as `secretsmanager:GetSecretValue`.
    pub action: &'a str,
    /// The ARN, or `*` for actions without one.
    pub resource: &'a str,
    /// The account that the resource is in.
    pub account: &'a str,
    /// What else is known.
    pub context: &'a Context,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A statement denies it.
    Explicit {
        /// The statement.
        by: String,
        /// What its policy is attached to.
        kind: Kind,
    },
    /// Nothing allows it.
    Implicit {
        /// The kind of policy that would have had to.
        missing: Kind,
    },
}

/// What was decided, and by which statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by these.
    Allowed {
        /// The names of the statements, first the identity's.
        by: Vec<String>,
    },
    /// Refused.
    Denied(Denial),
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl fmt::Display for Denial {
    /// In AWS's words, to be put after "is not authorized to perform: … on resource: …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, kind) = match self {
            Self::Explicit { kind, .. } => ("with an explicit deny in ", kind),
            Self::Implicit { missing } => ("because no ", missing),
        };
        let (article, policy) = match kind {
            Kind::Identity => ("an ", "identity-based policy"),
            Kind::Resource | Kind::Key => ("a ", "resource-based policy"),
            Kind::Trust => ("the ", "role trust policy"),
        };
        match self {
            Self::Explicit { .. } => write!(f, "{words}{article}{policy}"),
            Self::Implicit { .. } => write!(f, "{words}{policy} allows"),
        }
    }
}

/// Decides.
pub fn evaluate(request: &Request<'_>, identity: &[Policy], resource: Option<&Policy>) -> Decision {
    let applies = |statement: &&Statement| statement.applies(request.action, request.resource, request.context);
    let own = || identity.iter().flat_map(|policy| &policy.statements).filter(applies);
    let of_resource = || resource.iter().flat_map(|policy| &policy.statements).filter(applies);

    let denied = |by: &Statement, kind| Decision::Denied(Denial::Explicit { by: by.name.clone(), kind });
    if let Some(statement) = own().find(|statement| statement.effect == Effect::Deny) {
        return denied(statement, Kind::Identity);
    }
    let concerned = |statement: &&Statement| match &statement.principals {
        Some(Principals::Only(named)) => named.iter().any(|named| request.principal.is(named).is_some()),
        Some(Principals::AllBut(named)) => !request.principal.is_excepted(named),
        None => false,
    };
    let kind = resource.map_or(Kind::Resource, |policy| policy.kind);
    if let Some(statement) = of_resource().filter(concerned).find(|statement| statement.effect == Effect::Deny) {
        return denied(statement, kind);
    }

    let by_identity = own().find(|statement| statement.effect == Effect::Allow);
    let strength = |statement: &Statement| match &statement.principals {
        Some(Principals::Only(named)) => named.iter().filter_map(|named| request.principal.is(named)).max(),
        _ => None,
    };
    let by_resource = of_resource()
        .filter(|statement| statement.effect == Effect::Allow)
        .filter_map(|statement| strength(statement).map(|strength| (strength, statement)))
        .max_by_key(|(strength, _)| *strength);

    let allowed = |by: &[&Statement]| Decision::Allowed { by: by.iter().map(|by| by.name.clone()).collect() };
    let missing = |missing| Decision::Denied(Denial::Implicit { missing });
    let has_own_policies = request.principal.account().is_some();
    let same_account = request.principal.account() == Some(request.account);
    let optional = kind == Kind::Resource;
    match (by_identity, by_resource) {
        (_, None) if !optional || !has_own_policies => missing(kind),
        (None, Some((Strength::Direct, statement))) if same_account || !has_own_policies => allowed(&[statement]),
        (Some(own), Some((_, statement))) => allowed(&[own, statement]),
        (Some(own), None) if same_account => allowed(&[own]),
        (Some(_), None) => missing(kind),
        (None, _) => missing(Kind::Identity),
    }
}
