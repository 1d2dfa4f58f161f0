//! Becoming a role: who may, with which tags, for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use hyper::StatusCode;

use super::context::Context;
use super::evaluate::{Decision, Principal, Request, evaluate};
use super::gate::Judged;
use super::token::{Provider, TokenError, verify};
use super::wire::{Answer, Protocol, sentence};
use super::world::{IamWorld, Identity, NewSession, Role, Tags, account_of};

/// The fields of a request in the query protocol.
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    /// One field; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The members of a list, whose names end with this.
    fn members<'a>(&'a self, list: &str, end: &'a str) -> Vec<&'a str> {
        let name = |index: usize| format!("{list}.member.{index}{end}");
        (1..).map_while(|index| self.0.get(&name(index)).map(String::as_str)).collect()
    }

    fn tags(&self) -> Tags {
        let keys = self.members("Tags", ".Key").into_iter().map(str::to_lowercase);
        keys.zip(self.members("Tags", ".Value").into_iter().map(str::to_owned)).collect()
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or(b'?'),
                    _ => b'?',
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What came of a call: a session to be, or a refusal, and the decisions on the way.
pub struct Outcome {
    /// The session, or the answer.
    pub result: Result<NewSession, Answer>,
    /// Each decision.
    pub judged: Vec<Judged>,
}

impl Outcome {
    fn refused(answer: Answer) -> Self {
        Self { result: Err(answer), judged: vec![] }
    }
}

fn denied(message: &str) -> Answer {
    Answer::error(Protocol::Query, StatusCode::FORBIDDEN, "AccessDenied", message)
}

fn invalid(message: &str) -> Answer {
    Answer::error(Protocol::Query, StatusCode::BAD_REQUEST, "ValidationError", message)
}

/// Judges `AssumeRole`.
pub fn assume_role(world: &IamWorld, caller: &Identity, fields: &Fields, region: &str, now: SystemTime) -> Outcome {
    let (role_arn, session_name) = match names(fields) {
        Ok(names) => names,
        Err(answer) => return Outcome::refused(answer),
    };
    let refusal = sentence(&caller.principal, "sts:AssumeRole", Some(role_arn), &Decision::Allowed { by: vec![] });
    // AWS does not tell whether there is such a role.
    let Some(role) = world.role(role_arn) else {
        return Outcome::refused(denied(&refusal));
    };
    let mut context = caller.context(now);
    if let Some(serial) = fields.get("SerialNumber") {
        if !world.mfa_is_right(&caller.principal, serial, fields.get("TokenCode").unwrap_or_default()) {
            return Outcome::refused(denied("MultiFactorAuthentication failed with invalid MFA one time pass code."));
        }
        context = context.with("aws:MultiFactorAuthPresent", "true").with("aws:MultiFactorAuthAge", "0");
    }
    let lasts = match lasts(fields, role, caller.is_role()) {
        Ok(lasts) => lasts,
        Err(answer) => return Outcome::refused(answer),
    };
    let source_identity = match (&caller.person, fields.get("SourceIdentity")) {
        // Once given it stays, and nobody may give another.
        (Some(own), given) if given.is_some_and(|given| given != own) => return Outcome::refused(denied(&refusal)),
        (Some(own), _) => Some(own.clone()),
        (None, given) => given.map(str::to_owned),
    };
    let tags = fields.tags();
    let transitive: BTreeSet<String> =
        fields.members("TransitiveTagKeys", "").into_iter().map(str::to_lowercase).collect();
    let inherited: Tags = caller
        .tags
        .iter()
        .filter(|(key, _)| caller.transitive.contains(*key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if tags.keys().any(|key| inherited.contains_key(key)) {
        return Outcome::refused(denied(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from \
             the calling session.",
        ));
    }
    if let Some(answer) = bad_tags(&tags, &transitive) {
        return Outcome::refused(answer);
    }

    context = context
        .with("aws:RequestedRegion", region)
        .with("sts:RoleSessionName", session_name)
        .with_some("sts:ExternalId", fields.get("ExternalId"))
        .with_some("sts:SourceIdentity", source_identity.as_deref())
        .with_some("sts:DurationSeconds", fields.get("DurationSeconds"))
        .with_all("aws:TagKeys", tags.keys().cloned())
        .with_all("sts:TransitiveTagKeys", transitive.iter().cloned());
    for (key, value) in &tags {
        context = context.with(&format!("aws:RequestTag/{key}"), value);
    }
    let mut actions = vec!["sts:AssumeRole"];
    if !tags.is_empty() || !inherited.is_empty() {
        actions.push("sts:TagSession");
    }
    if source_identity.is_some() {
        actions.push("sts:SetSourceIdentity");
    }
    let session = NewSession {
        role: role.arn.clone(),
        name: session_name.to_owned(),
        transitive: inherited.keys().cloned().chain(transitive).collect(),
        tags: tags.into_iter().chain(inherited).collect(),
        source_identity,
        provider: None,
        lasts,
    };
    let policies = world.policies(&caller.principal);
    judge_all(&caller.principal, policies, role, &actions, &context, session, |action| {
        sentence(&caller.principal, action, Some(role_arn), &Decision::Allowed { by: vec![] })
    })
}

/// Judges `AssumeRoleWithWebIdentity`, which nobody signs: the token is the proof.
pub fn assume_role_with_web_identity(world: &IamWorld, fields: &Fields, now: SystemTime) -> Outcome {
    const ACTION: &str = "sts:AssumeRoleWithWebIdentity";
    let (role_arn, session_name) = match names(fields) {
        Ok(names) => names,
        Err(answer) => return Outcome::refused(answer),
    };
    let account = account_of(role_arn);
    let token = fields.get("WebIdentityToken").unwrap_or_default();
    let (provider, claims) = match verify(token, now, |issuer| world.provider(&account, issuer).cloned()) {
        Ok(verified) => verified,
        Err(error) => return Outcome::refused(token_answer(&error)),
    };
    let refusal = format!("Not authorized to perform {ACTION}");
    let Some(role) = world.role(role_arn) else {
        return Outcome::refused(denied(&refusal));
    };
    let lasts = match lasts(fields, role, false) {
        Ok(lasts) => lasts,
        Err(answer) => return Outcome::refused(answer),
    };
    let Provider { arn, .. } = &provider;
    let context = Context::new()
        .with(&format!("{}:sub", provider.prefix()), &claims.subject)
        .with(&format!("{}:aud", provider.prefix()), &claims.audience)
        .with("aws:FederatedProvider", arn)
        .with("sts:RoleSessionName", session_name)
        .with_some("sts:DurationSeconds", fields.get("DurationSeconds"));
    let session = NewSession {
        role: role.arn.clone(),
        name: session_name.to_owned(),
        tags: Tags::new(),
        transitive: BTreeSet::new(),
        source_identity: None,
        provider: Some(arn.clone()),
        lasts,
    };
    let principal = Principal::Federated { provider: arn.clone() };
    judge_all(&principal, &[], role, &[ACTION], &context, session, |_| refusal.clone())
}

fn judge_all(
    principal: &Principal,
    policies: &[super::Policy],
    role: &Role,
    actions: &[&str],
    context: &Context,
    session: NewSession,
    refusal: impl Fn(&str) -> String,
) -> Outcome {
    let mut judged = Vec::new();
    for action in actions {
        let account = account_of(&role.arn);
        let request = Request { principal, action, resource: &role.arn, account: &account, context };
        let decision = evaluate(&request, policies, Some(&role.trust));
        let allowed = decision.is_allowed();
        judged.push(Judged::new(&request, decision));
        if !allowed {
            return Outcome { result: Err(denied(&refusal(action))), judged };
        }
    }
    Outcome { result: Ok(session), judged }
}

fn names(fields: &Fields) -> Result<(&str, &str), Answer> {
    for unknown in ["Policy", "PolicyArns.member.1.arn", "ProvidedContexts.member.1.ProviderArn", "ProviderId"] {
        if fields.get(unknown).is_some() {
            return Err(Answer::error(
                Protocol::Query,
                StatusCode::NOT_IMPLEMENTED,
                "NotModelled",
                &format!("the gate of the tests does not model {unknown}"),
            ));
        }
    }
    let session = fields.get("RoleSessionName").unwrap_or_default();
    let right = (2..=64).contains(&session.len())
        && session.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
    if !right {
        return Err(invalid(&format!(
            "1 validation error detected: Value '{session}' at 'roleSessionName' failed to satisfy constraint: Member \
             must satisfy regular expression pattern: [\\w+=,.@-]*"
        )));
    }
    Ok((fields.get("RoleArn").ok_or_else(|| invalid("1 validation error detected: Value null at 'roleArn'"))?, session))
}

fn lasts(fields: &Fields, role: &Role, chained: bool) -> Result<Duration, Answer> {
    const HOUR: Duration = Duration::from_secs(3600);
    let Some(text) = fields.get("DurationSeconds") else {
        return Ok(HOUR);
    };
    let lasts = text.parse().map(Duration::from_secs).map_err(|_| invalid("'durationSeconds' is not a number"))?;
    if lasts < Duration::from_secs(900) {
        return Err(invalid(
            "'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
        ));
    }
    if lasts > role.max_session {
        return Err(invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role."));
    }
    if chained && lasts > HOUR {
        return Err(invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ));
    }
    Ok(lasts)
}

fn bad_tags(tags: &Tags, transitive: &BTreeSet<String>) -> Option<Answer> {
    let right = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
    let wrong = tags.len() > 50
        || tags.iter().any(|(key, value)| {
            key.is_empty()
                || key.len() > 128
                || value.len() > 256
                || !right(key)
                || !right(value)
                || key.starts_with("aws:")
        });
    if wrong {
        return Some(invalid("1 validation error detected: a session tag breaks the rules of AWS for tags"));
    }
    let unset = transitive.iter().find(|key| !tags.contains_key(*key))?;
    Some(invalid(&format!("The transitive tag key {unset} is not among the tags")))
}

fn token_answer(error: &TokenError) -> Answer {
    let bad = |code, message: &str| Answer::error(Protocol::Query, StatusCode::BAD_REQUEST, code, message);
    match error {
        TokenError::Malformed(why) => {
            bad("InvalidIdentityToken", &format!("The ID Token provided is not a valid JWT: {why}"))
        }
        TokenError::UnknownIssuer(issuer) => {
            bad("InvalidIdentityToken", &format!("No OpenIDConnect provider found in your account for {issuer}"))
        }
        TokenError::BadSignature => bad("InvalidIdentityToken", "Token signature invalid"),
        TokenError::WrongAudience => bad("InvalidIdentityToken", "Incorrect token audience"),
        TokenError::NotYet => bad("InvalidIdentityToken", "Token is not valid yet"),
        TokenError::Expired { now, end } => bad(
            "ExpiredTokenException",
            &format!("Token expired: current date/time {now} must be before the expiration date/time {end}"),
        ),
    }
}
