//! IAM policies, read strictly: what is not understood is an error.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::context::{Context, Key};
use super::pattern::{ArnPattern, Pattern};

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyError {
    /// An error with a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn within(self, place: &str) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

/// What a policy is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user or a role: names no principal.
    Identity,
    /// A secret: names principals. It adds to what identities are allowed.
    Resource,
    /// A role: says who may become it. Without it nobody may.
    Trust,
    /// A KMS key: without it nobody may use the key.
    Key,
}

/// Allow or Deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Effect {
    /// Lets a request pass unless another statement denies it.
    Allow,
    /// Refuses a request, whatever else is said.
    Deny,
}

/// One principal of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// `*`.
    Anyone,
    /// An account: what its identities may do is left to that account's own policies.
    Account(String),
    /// A user, a role or a session, by its ARN.
    Arn(String),
    /// A service of AWS, such as `pods.eks.amazonaws.com`.
    Service(String),
    /// An identity provider, by its ARN.
    Federated(String),
}

/// RestartScope a statement of a resource's policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principals {
    /// Those named.
    Only(Vec<Named>),
    /// All but those named.
    AllBut(Vec<Named>),
}

/// What a statement is about: what is listed, or all else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matching<T> {
    /// Any of these.
    Any(Vec<T>),
    /// None of these.
    Not(Vec<T>),
}

impl<T> Matching<T> {
    fn holds(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Any(list) => list.iter().any(matches),
            Self::Not(list) => !list.iter().any(matches),
        }
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The policy and the statement's Sid, or its place.
    pub name: String,
    /// Allow or Deny.
    pub effect: Effect,
    /// RestartScope it is about; none in a policy of an identity.
    pub principals: Option<Principals>,
    actions: Matching<Pattern>,
    /// None in a trust policy, which is about its own role.
    resources: Option<Matching<ArnPattern>>,
    conditions: Vec<Condition>,
}

impl Statement {
    /// Whether it is about this action on this resource, under what is known. Principals aside.
    pub fn applies(&self, action: &str, resource: &str, context: &Context) -> bool {
        let action = action.to_lowercase();
        self.actions.holds(|pattern| pattern.matches(context, &action))
            && self
                .resources
                .as_ref()
                .is_none_or(|resources| resources.holds(|pattern| pattern.matches(context, resource)))
            && self.conditions.iter().all(|condition| condition.holds(context))
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it is attached to.
    pub kind: Kind,
    /// Its statements.
    pub statements: Vec<Statement>,
}

impl Policy {
    /// Reads a policy of a user or a role.
    ///
    /// # Errors
    /// Where any part of it is not understood.
    pub fn identity(name: &str, json: &str) -> Result<Self, PolicyError> {
        Self::parse(Kind::Identity, name, json)
    }

    /// Reads a policy of a secret.
    ///
    /// # Errors
    /// Where any part of it is not understood.
    pub fn resource(name: &str, json: &str) -> Result<Self, PolicyError> {
        Self::parse(Kind::Resource, name, json)
    }

    /// Reads a role's trust policy.
    ///
    /// # Errors
    /// Where any part of it is not understood.
    pub fn trust(name: &str, json: &str) -> Result<Self, PolicyError> {
        Self::parse(Kind::Trust, name, json)
    }

    /// Reads a policy of a KMS key.
    ///
    /// # Errors
    /// Where any part of it is not understood.
    pub fn key(name: &str, json: &str) -> Result<Self, PolicyError> {
        Self::parse(Kind::Key, name, json)
    }

    fn parse(kind: Kind, name: &str, json: &str) -> Result<Self, PolicyError> {
        let raw: RawPolicy = serde_json::from_str(json).map_err(|e| PolicyError::new(format!("{name}: {e}")))?;
        // The older version, which is also the default, knows no variables: they would be taken as they stand.
        if raw.version != "2012-10-17" {
            return Err(PolicyError::new(format!("{name}: the version {:?} is not 2012-10-17", raw.version)));
        }
        let mut statements = Vec::new();
        for (index, statement) in raw.statement.into_vec().into_iter().enumerate() {
            let place = match &statement.sid {
                Some(sid) => format!("{name}/{sid}"),
                None => format!("{name}/{index}"),
            };
            statements.push(statement.read(kind, &place).map_err(|error| error.within(&place))?);
        }
        if statements.is_empty() {
            return Err(PolicyError::new(format!("{name}: there is no statement")));
        }
        Ok(Self { kind, statements })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawPolicy {
    version: String,
    #[serde(rename = "Id")]
    _id: Option<String>,
    statement: OneOrMany<RawStatement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawStatement {
    sid: Option<String>,
    effect: Effect,
    principal: Option<RawPrincipal>,
    not_principal: Option<RawPrincipal>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    condition: Option<Pairs<Pairs<OneOrMany<Value>>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPrincipal {
    Anyone(String),
    Listed(Pairs<OneOrMany<String>>),
}

/// A list, or one without the brackets.
struct OneOrMany<T>(Vec<T>);

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    /// By hand, since an untagged enum would say only that neither form fits.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one or a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                T::deserialize(text.into_deserializer()).map(|one| OneOrMany(vec![one]))
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<OneOrMany<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<OneOrMany<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
            }
        }
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

/// The entries of a JSON object, in which a name stands once: of two, a parser keeps one, and a reader sees the other.
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs: Vec<(String, T)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    if pairs.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(serde::de::Error::custom(format!("{name} stands twice")));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

impl RawStatement {
    fn read(self, kind: Kind, place: &str) -> Result<Statement, PolicyError> {
        let principals = match (kind, self.principal, self.not_principal) {
            (Kind::Identity, None, None) => None,
            (Kind::Identity, ..) => return Err(PolicyError::new("a policy of an identity names no principal")),
            (_, Some(listed), None) => Some(Principals::Only(listed.read()?)),
            (Kind::Trust, None, Some(_)) => return Err(PolicyError::new("a trust policy cannot have NotPrincipal")),
            (_, None, Some(listed)) if self.effect == Effect::Deny => Some(Principals::AllBut(listed.read()?)),
            (_, None, Some(_)) => return Err(PolicyError::new("NotPrincipal goes with Deny only")),
            _ => return Err(PolicyError::new("exactly one of Principal and NotPrincipal is needed")),
        };
        let actions = either(self.action, self.not_action, "Action", "NotAction", action)?;
        let resources = match (kind, self.resource, self.not_resource) {
            (Kind::Trust, None, None) => None,
            (Kind::Trust, ..) => return Err(PolicyError::new("a trust policy names no resource")),
            (_, listed, not) => Some(either(listed, not, "Resource", "NotResource", ArnPattern::parse)?),
        };
        let mut conditions = Vec::new();
        for (operator, tests) in self.condition.map_or_else(Vec::new, |condition| condition.0) {
            let operator = Operator::parse(&operator)?;
            for (key, values) in tests.0 {
                conditions.push(Condition::read(operator, Key::parse(&key)?, values.into_vec())?);
            }
        }
        Ok(Statement { name: place.to_owned(), effect: self.effect, principals, actions, resources, conditions })
    }
}

fn either<T>(
    listed: Option<OneOrMany<String>>,
    not: Option<OneOrMany<String>>,
    name: &str,
    not_name: &str,
    read: fn(&str) -> Result<T, PolicyError>,
) -> Result<Matching<T>, PolicyError> {
    let all = |list: OneOrMany<String>| list.into_vec().iter().map(|text| read(text)).collect::<Result<Vec<T>, _>>();
    match (listed, not) {
        (Some(list), None) => all(list).map(Matching::Any),
        (None, Some(list)) => all(list).map(Matching::Not),
        _ => Err(PolicyError::new(format!("exactly one of {name} and {not_name} is needed"))),
    }
}

/// Actions are the same in upper and lower case.
fn action(text: &str) -> Result<Pattern, PolicyError> {
    let service = text.split_once(':').map(|(service, _)| service);
    if text != "*" && service.is_none_or(|service| service.is_empty() || service.contains(['*', '?'])) {
        return Err(PolicyError::new(format!("the action {text:?} is neither `*` nor service:operation")));
    }
    let pattern = Pattern::wildcard(&text.to_lowercase())?;
    if pattern.has_variables() {
        return Err(PolicyError::new(format!("the action {text:?} has a variable, which AWS does not replace")));
    }
    Ok(pattern)
}

impl RawPrincipal {
    fn read(self) -> Result<Vec<Named>, PolicyError> {
        let pairs = match self {
            Self::Anyone(text) if text == "*" => return Ok(vec![Named::Anyone]),
            Self::Anyone(text) => return Err(PolicyError::new(format!("the principal {text:?} is not `*`"))),
            Self::Listed(pairs) => pairs.0,
        };
        let mut named = Vec::new();
        for (kind, list) in pairs {
            for text in list.into_vec() {
                named.push(name(&kind, text)?);
            }
        }
        Ok(named)
    }
}

fn name(kind: &str, text: String) -> Result<Named, PolicyError> {
    if kind == "AWS" && text == "*" {
        return Ok(Named::Anyone);
    }
    if text.contains(['*', '?', '$']) {
        return Err(PolicyError::new(format!("the principal {text:?} has a wildcard or variable, which AWS refuses")));
    }
    let account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        "AWS" if account(&text) => Ok(Named::Account(text)),
        "AWS" => {
            let parts = super::pattern::arn_parts(&text).filter(|parts| parts[0] == "arn" && account(parts[4]));
            let parts = parts.ok_or_else(|| PolicyError::new(format!("the principal {text:?} is not an ARN")))?;
            Ok(if parts[5] == "root" { Named::Account(parts[4].to_owned()) } else { Named::Arn(text) })
        }
        "Service" => Ok(Named::Service(text)),
        "Federated" => Ok(Named::Federated(text)),
        _ => Err(PolicyError::new(format!("principals of the kind {kind} are not known here"))),
    }
}

/// How a value of a request is compared with one of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    /// `ArnLike` and `ArnEquals` behave the same.
    Arn,
    Bool,
    Numeric(Comparison),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    Less,
    LessOrEquals,
    Greater,
    GreaterOrEquals,
}

/// How several values of a request are taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    One,
    Any,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Test { quantifier: Quantifier, test: Test, negated: bool, if_exists: bool },
    Null,
}

impl Operator {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "Null" {
            return Ok(Self::Null);
        }
        let (quantifier, name) = match text.split_once(':') {
            Some(("ForAnyValue", name)) => (Quantifier::Any, name),
            Some(("ForAllValues", name)) => (Quantifier::All, name),
            None => (Quantifier::One, text),
            Some(_) => return Err(unknown(text)),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        // What AWS does with both is not documented.
        if if_exists && quantifier != Quantifier::One {
            return Err(unknown(text));
        }
        let (test, negated) = match name {
            "StringEquals" => (Test::StringEquals, false),
            "StringNotEquals" => (Test::StringEquals, true),
            "StringEqualsIgnoreCase" => (Test::StringEqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Test::StringEqualsIgnoreCase, true),
            "StringLike" => (Test::StringLike, false),
            "StringNotLike" => (Test::StringLike, true),
            "ArnEquals" | "ArnLike" => (Test::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
            "Bool" => (Test::Bool, false),
            "NumericEquals" => (Test::Numeric(Comparison::Equals), false),
            "NumericNotEquals" => (Test::Numeric(Comparison::Equals), true),
            "NumericLessThan" => (Test::Numeric(Comparison::Less), false),
            "NumericLessThanEquals" => (Test::Numeric(Comparison::LessOrEquals), false),
            "NumericGreaterThan" => (Test::Numeric(Comparison::Greater), false),
            "NumericGreaterThanEquals" => (Test::Numeric(Comparison::GreaterOrEquals), false),
            _ => return Err(unknown(text)),
        };
        Ok(Self::Test { quantifier, test, negated, if_exists })
    }
}

fn unknown(operator: &str) -> PolicyError {
    PolicyError::new(format!("the condition operator {operator} is not known here"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Text(Pattern),
    Arn(ArnPattern),
    Bool(bool),
    Number(i64),
}

impl Expected {
    fn read(test: Test, text: &str) -> Result<Self, PolicyError> {
        let plain = |what: &str| PolicyError::new(format!("{text:?} is not {what}"));
        Ok(match test {
            Test::StringEquals => Self::Text(Pattern::literal(text)?),
            Test::StringEqualsIgnoreCase => {
                let pattern = Pattern::literal(&text.to_lowercase())?;
                if pattern.has_variables() {
                    return Err(plain("free of variables, whose case would count"));
                }
                Self::Text(pattern)
            }
            Test::StringLike => Self::Text(Pattern::wildcard(text)?),
            Test::Arn => Self::Arn(ArnPattern::parse(text)?),
            Test::Bool => Self::Bool(boolean(text).ok_or_else(|| plain("true or false"))?),
            Test::Numeric(_) => Self::Number(text.parse().map_err(|_| plain("a whole number"))?),
        })
    }

    fn matches(&self, test: Test, context: &Context, value: &str) -> bool {
        match (self, test) {
            (Self::Text(pattern), Test::StringEqualsIgnoreCase) => pattern.matches(context, &value.to_lowercase()),
            (Self::Text(pattern), _) => pattern.matches(context, value),
            (Self::Arn(pattern), _) => pattern.matches(context, value),
            (Self::Bool(expected), _) => boolean(value) == Some(*expected),
            (Self::Number(expected), Test::Numeric(comparison)) => {
                value.parse::<i64>().is_ok_and(|value| match comparison {
                    Comparison::Equals => value == *expected,
                    Comparison::Less => value < *expected,
                    Comparison::LessOrEquals => value <= *expected,
                    Comparison::Greater => value > *expected,
                    Comparison::GreaterOrEquals => value >= *expected,
                })
            }
            (Self::Number(_), _) => false,
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// One key of a condition block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    key: Key,
    test: ConditionTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ConditionTest {
    /// Whether the key must be absent.
    Null(bool),
    Values {
        quantifier: Quantifier,
        test: Test,
        negated: bool,
        if_exists: bool,
        expected: Vec<Expected>,
    },
}

impl Condition {
    fn read(operator: Operator, key: Key, values: Vec<Value>) -> Result<Self, PolicyError> {
        let mut texts = Vec::new();
        for value in values {
            texts.push(match value {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return Err(PolicyError::new(format!("a value for {key} is no text"))),
            });
        }
        let test = match operator {
            Operator::Null => match texts.as_slice() {
                [text] => boolean(text).map(ConditionTest::Null),
                _ => None,
            }
            .ok_or_else(|| PolicyError::new(format!("Null for {key} wants true or false")))?,
            Operator::Test { quantifier, test, negated, if_exists } => {
                if key.is_many() && quantifier == Quantifier::One {
                    return Err(PolicyError::new(format!("{key} wants ForAnyValue or ForAllValues")));
                }
                let expected = texts.iter().map(|text| Expected::read(test, text)).collect::<Result<Vec<_>, _>>()?;
                ConditionTest::Values { quantifier, test, negated, if_exists, expected }
            }
        };
        Ok(Self { key, test })
    }

    fn holds(&self, context: &Context) -> bool {
        let values = context.get(&self.key);
        match &self.test {
            ConditionTest::Null(absent) => values.is_empty() == *absent,
            ConditionTest::Values { quantifier, test, negated, if_exists, expected } => {
                if values.is_empty() && *if_exists {
                    return true;
                }
                let matches = |value: &String| {
                    expected.iter().any(|expected| expected.matches(*test, context, value)) != *negated
                };
                match quantifier {
                    Quantifier::Any => values.iter().any(matches),
                    // An absent key equals nothing: what must differ, differs.
                    Quantifier::One if values.is_empty() => *negated,
                    Quantifier::One | Quantifier::All => values.iter().all(matches),
                }
            }
        }
    }
}
