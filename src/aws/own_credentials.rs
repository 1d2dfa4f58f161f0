//! The operator's own credentials, checked as they are resolved: what cannot be sent is found before the signer meets it,
//! and a failure names the variable, the file or the link of the chain that is at fault. No text here holds a value.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider, future};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const POD_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// The audience that STS takes.
const AUDIENCE: &str = "sts.amazonaws.com";
/// A token file is a few kilobytes; a longer file is none.
const MAX_TOKEN: u64 = 64 * 1024;

/// Why there are no credentials, as far as this side can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsFault {
    /// A part holds a sign that no credential has.
    #[error("{from} holds {sign}, which no credential has; write it anew without that (printf %s instead of echo)")]
    Malformed {
        /// Where it is from.
        from: String,
        /// The sign.
        sign: &'static str,
    },
    /// A variable that another one needs.
    #[error("the variable {missing} is missing or empty, though {given} is set; set both")]
    Half {
        /// The variable that is set.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A token file that gives no token.
    #[error("the token file {path:?} of the variable {variable} {what}")]
    TokenFile {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// No link gave any.
    #[error(
        "no link of the credential chain gave any: neither the variable AWS_ACCESS_KEY_ID nor a profile file nor the variable AWS_WEB_IDENTITY_TOKEN_FILE nor a container endpoint (EKS Pod Identity) nor the instance metadata; give the operator's pod one of them"
    )]
    Nothing,
    /// A link failed.
    #[error("{0} gave none; check it")]
    Link(String),
}

/// Where variables and files are read.
type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The credentials of the SDK's chain, checked.
#[derive(Clone)]
pub struct OwnCredentials {
    chain: SharedCredentialsProvider,
    variables: Variables,
}

impl OwnCredentials {
    /// Checks what `chain` gives, which reads the variables of the process.
    #[must_use]
    pub fn new(chain: SharedCredentialsProvider) -> Self {
        Self { chain, variables: Arc::new(|name| std::env::var(name).ok()) }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.trim().is_empty())
    }

    async fn credentials(&self) -> Result {
        // Before the chain, which would send a part that cannot be sent.
        if let Some(fault) = self.variables_fault() {
            return Err(CredentialsError::invalid_configuration(fault));
        }
        match self.chain.provide_credentials().await {
            Ok(credentials) => match self.malformed(&credentials) {
                Some(fault) => Err(CredentialsError::invalid_configuration(fault)),
                None => Ok(credentials),
            },
            Err(error) => Err(self.explained(error)),
        }
    }

    /// What is wrong with the variables that the chain takes first.
    fn variables_fault(&self) -> Option<CredentialsFault> {
        if self.variable(KEY_ID).is_none() || self.variable(SECRET_KEY).is_none() {
            return None;
        }
        [KEY_ID, SECRET_KEY, SESSION_TOKEN].into_iter().find_map(|name| {
            let value = self.variable(name)?;
            // The SDK trims this one.
            let value = if name == SESSION_TOKEN { value.trim() } else { &value };
            let sign = foreign_sign(value)?;
            Some(CredentialsFault::Malformed { from: format!("the variable {name}"), sign })
        })
    }

    /// What is wrong with credentials that another link gave.
    fn malformed(&self, credentials: &Credentials) -> Option<CredentialsFault> {
        let parts = [
            ("access key id", Some(credentials.access_key_id())),
            ("secret access key", Some(credentials.secret_access_key())),
            ("session token", credentials.session_token()),
        ];
        parts.into_iter().find_map(|(part, value)| {
            let sign = foreign_sign(value?)?;
            Some(CredentialsFault::Malformed { from: format!("the {part} of {}", self.link()), sign })
        })
    }

    /// The link that is set up, in the order of the chain.
    fn link(&self) -> String {
        if self.variable(KEY_ID).is_some() && self.variable(SECRET_KEY).is_some() {
            return format!("the variables {KEY_ID} and {SECRET_KEY}");
        }
        if let Some(path) = self.variable("AWS_SHARED_CREDENTIALS_FILE").or_else(|| self.variable("AWS_CONFIG_FILE")) {
            return format!("the profile file {path:?}");
        }
        if self.variable(TOKEN_FILE).is_some() {
            return format!("the web identity of {TOKEN_FILE} and {ROLE}");
        }
        for name in ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
            if self.variable(name).is_some() {
                return format!("the container endpoint of {name} (EKS Pod Identity)");
            }
        }
        "a profile file or the instance metadata".to_owned()
    }

    /// A failure of the chain with what can be found out about it.
    fn explained(&self, error: CredentialsError) -> CredentialsError {
        if let Some(fault) =
            self.half().or_else(|| self.token_fault(TOKEN_FILE)).or_else(|| self.token_fault(POD_TOKEN_FILE))
        {
            return CredentialsError::invalid_configuration(fault);
        }
        match error {
            CredentialsError::CredentialsNotLoaded(_) => CredentialsError::not_loaded(CredentialsFault::Nothing),
            // AWS's own answer says more, and stands in the chain of causes.
            error => CredentialsError::provider_error(FailedLink { fault: CredentialsFault::Link(self.link()), error }),
        }
    }

    fn half(&self) -> Option<CredentialsFault> {
        [(KEY_ID, SECRET_KEY), (SECRET_KEY, KEY_ID), (TOKEN_FILE, ROLE)]
            .into_iter()
            .find(|(given, missing)| self.variable(given).is_some() && self.variable(missing).is_none())
            .map(|(given, missing)| CredentialsFault::Half { given, missing })
    }

    /// What is wrong with the token file that a variable names.
    fn token_fault(&self, variable: &'static str) -> Option<CredentialsFault> {
        let path = self.variable(variable)?;
        let what = token_file_fault(&path, variable == TOKEN_FILE)?;
        Some(CredentialsFault::TokenFile { variable, path, what })
    }
}

/// What is wrong with a token file.
fn token_file_fault(path: &str, for_sts: bool) -> Option<String> {
    if foreign_sign(path).is_some_and(|sign| sign != "a space") {
        return Some("has a line end or another sign in its name that no file has; correct the variable".to_owned());
    }
    let token = match std::fs::metadata(path).and_then(|meta| {
        if meta.len() > MAX_TOKEN {
            Err(std::io::ErrorKind::FileTooLarge.into())
        } else {
            std::fs::read_to_string(path)
        }
    }) {
        Ok(token) => token,
        Err(error) => {
            return Some(format!(
                "cannot be read ({}); mount the token, or see why the EKS webhook did not",
                error.kind()
            ));
        }
    };
    let token = token.trim();
    if token.is_empty() {
        return Some("is empty; the kubelet fills it".to_owned());
    }
    let Some(claims) = claims(token) else { return for_sts.then(|| "holds no token (no JWT)".to_owned()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = |name: &str| claims.get(name).and_then(serde_json::Value::as_u64).map(Duration::from_secs);
    if let Some(ended) = seconds("exp").filter(|end| *end <= now) {
        return Some(format!(
            "holds a token that ended at {} by this node's clock; the kubelet renews it, so check the mount and the clock",
            point(ended)
        ));
    }
    if let Some(begins) = seconds("nbf").filter(|begin| *begin > now + Duration::from_secs(60)) {
        return Some(format!("holds a token that begins at {} only; check the clock of this node", point(begins)));
    }
    let audiences = claims.get("aud").filter(|_| for_sts)?;
    let is_for_sts = |one: &serde_json::Value| one.as_str().is_some_and(|one| one.starts_with(AUDIENCE));
    let fits = is_for_sts(audiences) || audiences.as_array().is_some_and(|all| all.iter().any(is_for_sts));
    (!fits).then(|| {
        format!("holds a token for another audience than {AUDIENCE}; correct the audience of its projected volume")
    })
}

/// A time since 1970 as people read it. It stays the same from one failure to the next.
fn point(since: Duration) -> String {
    let time = i64::try_from(since.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a time far away".to_owned(), |time| time.to_string())
}

/// The claims of a JSON Web Token. Its signature is for AWS to judge.
fn claims(token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The first sign that no credential has: those of AWS are of letters, digits and a few signs of ASCII.
fn foreign_sign(value: &str) -> Option<&'static str> {
    value.chars().find_map(|sign| match sign {
        '\n' | '\r' => Some("a line end"),
        '\t' => Some("a tab"),
        ' ' => Some("a space"),
        '"' | '\'' => Some("a quotation mark"),
        sign if sign.is_ascii_graphic() => None,
        sign if sign.is_control() => Some("a control character"),
        _ => Some("a sign outside ASCII"),
    })
}

/// A failure of a link, with the failure that the SDK reports.
#[derive(Debug)]
struct FailedLink {
    fault: CredentialsFault,
    error: CredentialsError,
}

impl fmt::Display for FailedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for FailedLink {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The fault that an error names itself, its causes left aside.
#[must_use]
pub fn named_fault<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CredentialsFault> {
    let fault = error.downcast_ref::<FailedLink>().map(|link| &link.fault);
    fault.or_else(|| error.downcast_ref::<CredentialsFault>())
}

impl fmt::Debug for OwnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCredentials").finish_non_exhaustive()
    }
}

impl ProvideCredentials for OwnCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

#[cfg(test)]
mod tests;
