//! The links of the chain by which the operator becomes somebody at AWS, and what can be told of each.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;

use crate::aws::own_credentials::fault::CredentialsFault;
use crate::aws::own_credentials::profile_file::profile_fault;
use crate::aws::own_credentials::signs::{foreign_sign, role_fault, url_fault};
use crate::aws::own_credentials::token_file::{point, read_token, refused_token, speaks_of};
use crate::aws::sts_failure::StsFailure;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";
const PROFILE_FILES: [&str; 2] = ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"];
const POD_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const POD_ENDPOINT: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TASK_ENDPOINT: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const INSTANCE_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// A link of the chain, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The variables with keys.
    Variables,
    /// The files of profiles.
    Profile,
    /// A token file and a role.
    WebIdentity,
    /// An endpoint of the container: EKS Pod Identity, ECS.
    Container,
    /// The metadata of the instance.
    Instance,
}

/// Where the variables of the process are read.
#[derive(Clone)]
pub struct Variables(Arc<Read>);

type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Variables {
    /// Variables that `read` gives.
    pub fn new(read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// A variable that is set and holds something.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// Whether a variable is set and holds nothing.
    #[must_use]
    pub fn is_empty(&self, name: &str) -> bool {
        (self.0)(name).is_some_and(|value| value.trim().is_empty())
    }

    fn fault(&self, name: &'static str, judge: impl Fn(&str) -> Option<String>) -> Option<CredentialsFault> {
        let what = judge(&self.get(name)?)?;
        Some(CredentialsFault::Variable { name, what })
    }

    fn file_fault(&self, variable: &'static str, what: impl Fn(&str) -> Option<String>) -> Option<CredentialsFault> {
        let path = self.get(variable)?;
        let what = what(&path)?;
        Some(CredentialsFault::File { variable, path, what })
    }
}

fn sign_fault(value: &str) -> Option<String> {
    foreign_sign(value).map(|sign| format!("holds {sign}, which no credential has (printf %s instead of echo)"))
}

fn plain_fault(value: &str) -> Option<String> {
    foreign_sign(value).map(|sign| format!("holds {sign}"))
}

impl Link {
    /// How a message names it.
    #[must_use]
    pub fn describe(self, variables: &Variables) -> String {
        let value = |name: &str| variables.get(name).unwrap_or_default();
        match self {
            Self::Variables if variables.get(SESSION_TOKEN).is_some() => {
                format!("the variables {KEY_ID}, {SECRET_KEY} and {SESSION_TOKEN}")
            }
            Self::Variables => format!("the variables {KEY_ID} and {SECRET_KEY}"),
            Self::Profile => {
                let files =
                    PROFILE_FILES.iter().filter_map(|name| Some(format!("{:?} of {name}", variables.get(name)?)));
                let files: Vec<String> = files.collect();
                let files = if files.is_empty() { "~/.aws".to_owned() } else { files.join(" and ") };
                format!("the profile {:?} (AWS_PROFILE) in the profile file {files}", profile(variables))
            }
            Self::WebIdentity => {
                format!("the web identity of {TOKEN_FILE} ({:?}) and {ROLE} ({})", value(TOKEN_FILE), value(ROLE))
            }
            Self::Container => {
                let name = if variables.get(TASK_ENDPOINT).is_some() { TASK_ENDPOINT } else { POD_ENDPOINT };
                format!("the container endpoint {:?} of {name} (EKS Pod Identity)", value(name))
            }
            Self::Instance => "the instance metadata".to_owned(),
        }
    }

    /// What is wrong with what a link is given, before it is asked: what is wrong so can never be sent.
    #[must_use]
    pub fn refused(self, variables: &Variables) -> Option<CredentialsFault> {
        let set = |name: &str| variables.get(name).is_some();
        match self {
            Self::Variables if set(KEY_ID) && set(SECRET_KEY) => variables
                .fault(KEY_ID, sign_fault)
                .or_else(|| variables.fault(SECRET_KEY, sign_fault))
                // The SDK trims this one.
                .or_else(|| variables.fault(SESSION_TOKEN, |token| sign_fault(token.trim()))),
            Self::WebIdentity if set(TOKEN_FILE) && set(ROLE) => variables
                .fault(ROLE, role_fault)
                .or_else(|| variables.fault(SESSION_NAME, plain_fault))
                .or_else(|| variables.file_fault(TOKEN_FILE, |path| read_token(path).err())),
            Self::Container if set(POD_ENDPOINT) || set(TASK_ENDPOINT) => variables
                .fault(POD_ENDPOINT, url_fault)
                .or_else(|| variables.fault(TASK_ENDPOINT, plain_fault))
                .or_else(|| variables.file_fault(POD_TOKEN_FILE, |path| read_token(path).err())),
            // A URL that is none ends the SDK's client in a panic.
            Self::Instance => variables.fault(INSTANCE_ENDPOINT, url_fault),
            _ => None,
        }
    }

    /// What is wrong with credentials that a link gave.
    #[must_use]
    pub fn unusable(self, credentials: &Credentials, variables: &Variables) -> Option<CredentialsFault> {
        let parts = [
            ("access key id", Some(credentials.access_key_id())),
            ("secret access key", Some(credentials.secret_access_key())),
            ("session token", credentials.session_token()),
        ];
        let malformed = parts.into_iter().find_map(|(part, value)| {
            let sign = foreign_sign(value?)?;
            Some(CredentialsFault::Malformed { from: format!("the {part} of {}", self.describe(variables)), sign })
        });
        malformed.or_else(|| {
            let ended = credentials.expiry().filter(|end| *end <= SystemTime::now())?;
            let ended = point(ended.duration_since(UNIX_EPOCH).unwrap_or_default());
            let what = format!(
                "gave credentials that ended at {ended} by this node's clock; check who renews them, and the clock"
            );
            Some(CredentialsFault::Link { link: self.describe(variables), what })
        })
    }

    /// What is wrong where a link failed.
    #[must_use]
    pub fn failed(self, error: &CredentialsError, variables: &Variables, region: &str) -> CredentialsFault {
        let token = variables.get(TOKEN_FILE).and_then(|path| read_token(&path).ok()).unwrap_or_default();
        let what = match self {
            Self::Profile => return profile_file(variables).unwrap_or_else(|| self.gave_none(error, variables)),
            Self::WebIdentity => {
                if let Some(fault) = variables.file_fault(TOKEN_FILE, |_| refused_token(&token)) {
                    return fault;
                }
                StsFailure::explain(error, &speaks_of(&token), region)
            }
            _ => return self.gave_none(error, variables),
        };
        CredentialsFault::Link { link: self.describe(variables), what }
    }

    fn gave_none(self, error: &CredentialsError, variables: &Variables) -> CredentialsFault {
        let what = match (self, status(error)) {
            (_, Some(status)) => {
                format!("answered the HTTP status {status} and no credentials; check which role it has for this pod")
            }
            (Self::Container, None) if matches!(error, CredentialsError::InvalidConfiguration(_)) => {
                "may not be asked: its host must be local, of EKS or ECS, or https; correct the variable and restart the operator".to_owned()
            }
            _ => "cannot be reached or gave no credentials; check it, its role and the network policy. If a variable is wrong, restart the operator after the correction".to_owned(),
        };
        CredentialsFault::Link { link: self.describe(variables), what }
    }
}

/// The profile that is meant.
fn profile(variables: &Variables) -> String {
    variables.get("AWS_PROFILE").unwrap_or_else(|| "default".to_owned())
}

fn profile_file(variables: &Variables) -> Option<CredentialsFault> {
    let name = profile(variables);
    PROFILE_FILES
        .into_iter()
        .find_map(|variable| variables.file_fault(variable, |path| Some(profile_fault(path, &name))))
}

/// What is wrong where no link of the chain has anything, though something may be set up.
#[must_use]
pub fn nothing(variables: &Variables) -> CredentialsFault {
    let half = [(KEY_ID, SECRET_KEY), (SECRET_KEY, KEY_ID), (TOKEN_FILE, ROLE)]
        .into_iter()
        .find(|(given, missing)| variables.get(given).is_some() && variables.get(missing).is_none())
        .map(|(given, missing)| CredentialsFault::Half { given, missing });
    let asked = !variables.get("AWS_EC2_METADATA_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"));
    let instance = if asked { " (it has no role, or cannot be reached)" } else { " (which is switched off)" };
    half.or_else(|| profile_file(variables))
        .unwrap_or_else(|| CredentialsFault::Nothing { instance: instance.to_owned() })
}

/// The HTTP status that an endpoint answered, which the SDK tells in words only.
fn status(error: &CredentialsError) -> Option<u16> {
    let mut current: Option<&dyn StdError> = Some(error);
    while let Some(error) = current {
        let text = error.to_string();
        let digits = text.split_once("StatusCode(").and_then(|(_, rest)| rest.split_once(')'));
        if let Some(status) = digits.and_then(|(digits, _)| digits.parse().ok()) {
            return Some(status);
        }
        current = error.source();
    }
    None
}
