//! References: a secret, a version of it, and a JSON key.

use std::fmt;
use std::str::FromStr;

use crate::domain::quoted::Quoted;

/// The staging label of the version in force.
pub const AWSCURRENT: &str = "AWSCURRENT";

/// The longest secret name, in characters.
const MAX_NAME_LENGTH: usize = 512;

/// The `-` and six characters that Secrets Manager appends to a name in a full ARN.
const SUFFIX_LENGTH: usize = 7;

/// How a secret is named: the `SecretId` of the Secrets Manager API (`GetSecretValue`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretId {
    /// By name: 1 to 512 of the characters `A-Z a-z 0-9 / _ + = . @ ! -`.
    Name(String),
    /// By full or partial ARN. Few are, and a name takes a quarter of its room.
    Arn(Box<SecretArn>),
}

/// The ARN of a secret, `arn:<partition>:secretsmanager:<region>:<account>:secret:<resource>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretArn {
    /// `aws`, `aws-cn`, `aws-us-gov` and so on.
    pub partition: String,
    /// Such as `eu-west-1`.
    pub region: String,
    /// The 12 digits of the account.
    pub account: String,
    /// The secret's name, in a full ARN followed by `-` and six characters. The text
    /// does not show which of the two it is: see [`SecretArn::possible_names`].
    pub resource: String,
}

/// Which version of a secret: by staging label or by id, never both (as in the Secrets Manager API, where a
/// request naming both must have them agree).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionSelector {
    /// The version carrying this staging label, 1 to 256 characters. The default is [`AWSCURRENT`].
    Stage(String),
    /// The version with this id, 32 to 64 characters.
    Id(String),
}

/// One version of one secret. Bindings with the same source share a read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The secret.
    pub secret: SecretId,
    /// The version of it.
    pub version: VersionSelector,
}

/// The one-string form of a reference, as the `valueFrom` of an Amazon ECS task definition has it:
/// `secret[:json-key[:version-stage[:version-id]]]`, where each part after the secret may be empty (Amazon ECS
/// Developer Guide, "Pass Secrets Manager secrets through Amazon ECS environment variables"). The secret is an ARN
/// or, as ECS allows nowhere else but is handy, a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueFrom {
    /// The secret and version.
    pub source: Source,
    /// The JSON key; the whole payload without one. Never empty, never with a colon.
    pub json_key: Option<String>,
}

/// Why a text is no reference. Messages quote the text, shortened: references are no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The secret's name has no characters.
    #[error("the secret has no name: write the name or ARN of a secret in Secrets Manager")]
    EmptyName,
    /// The secret's name is longer than 512 characters.
    #[error("the secret name {} is longer than {MAX_NAME_LENGTH} characters: no such secret can exist", Quoted(.name))]
    NameTooLong {
        /// The name.
        name: String,
    },
    /// The secret's name has a character that Secrets Manager does not allow.
    #[error(
        "the secret name {} contains {}, allowed are letters, digits and /_+=.@!-: write the name as \
         Secrets Manager shows it",
        Quoted(.name), Quoted(.character.encode_utf8(&mut [0; 4]))
    )]
    NameCharacter {
        /// The name.
        name: String,
        /// The first such character.
        character: char,
    },
    /// The text starts like an ARN and is none of a secret.
    #[error(
        "{} is not the ARN of a secret, {problem}: write it as Secrets Manager shows it \
         (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME), or the secret's name instead",
        Quoted(.arn)
    )]
    MalformedArn {
        /// The text.
        arn: String,
        /// What is wrong, as a fixed text.
        problem: &'static str,
    },
    /// A staging label is empty, too long, or has control characters.
    #[error("the version stage {} is not a staging label of 1 to 256 characters: leave it out for {AWSCURRENT}", Quoted(.stage))]
    MalformedStage {
        /// The label.
        stage: String,
    },
    /// A version id has the wrong length, spaces or control characters.
    #[error(
        "the version id {} is not 32 to 64 characters long as Secrets Manager's version ids are: copy it from \
         `aws secretsmanager list-secret-version-ids`, or use a version stage",
        Quoted(.id)
    )]
    MalformedId {
        /// The id.
        id: String,
    },
    /// Both a stage and an id are given.
    #[error("{} names both a version stage and a version id: keep one of them", Quoted(.reference))]
    StageAndId {
        /// The text, or the secret where the parts were given apart.
        reference: String,
    },
    /// There are more parts than the one-string form has.
    #[error(
        "{} has more parts than secret:json-key:version-stage:version-id: a JSON key with a colon cannot be written \
         in this form, use `from: {{secret, key}}` instead",
        Quoted(.reference)
    )]
    TooManyParts {
        /// The text.
        reference: String,
    },
}

impl SecretId {
    /// The ARN, if the secret is named by one.
    #[must_use]
    pub fn as_arn(&self) -> Option<&SecretArn> {
        match self {
            Self::Name(_) => None,
            Self::Arn(arn) => Some(arn),
        }
    }
}

impl TryFrom<&str> for SecretId {
    type Error = ReferenceError;

    fn try_from(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with("arn:") {
            return SecretArn::try_from(text).map(|arn| Self::Arn(Box::new(arn)));
        }
        if text.is_empty() {
            return Err(ReferenceError::EmptyName);
        }
        if let Some(character) = text.chars().find(|&c| !is_name_character(c)) {
            return Err(ReferenceError::NameCharacter { name: text.to_owned(), character });
        }
        if text.len() > MAX_NAME_LENGTH {
            return Err(ReferenceError::NameTooLong { name: text.to_owned() });
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl FromStr for SecretId {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::try_from(text)
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Arn(arn) => arn.fmt(f),
        }
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '=' | '.' | '@' | '-' | '!')
}

impl SecretArn {
    /// The names that a secret with this ARN can have: the resource itself (of a partial ARN) and, if the resource
    /// ends like a full ARN, the resource without `-` and six characters. Only AWS's answer shows which it is.
    pub fn possible_names(&self) -> impl Iterator<Item = &str> {
        let without_suffix = self.resource.len().checked_sub(SUFFIX_LENGTH).and_then(|at| {
            let (name, suffix) = self.resource.split_at_checked(at)?;
            let suffix = suffix.strip_prefix('-')?;
            (!name.is_empty() && suffix.chars().all(|c| c.is_ascii_alphanumeric())).then_some(name)
        });
        std::iter::once(self.resource.as_str()).chain(without_suffix)
    }
}

impl TryFrom<&str> for SecretArn {
    type Error = ReferenceError;

    fn try_from(text: &str) -> Result<Self, ReferenceError> {
        let malformed = |problem| ReferenceError::MalformedArn { arn: text.to_owned(), problem };
        let fields: Vec<&str> = text.splitn(7, ':').collect();
        if fields.first() != Some(&"arn") {
            return Err(malformed("it does not start with `arn:`"));
        }
        if fields.get(2) != Some(&"secretsmanager") {
            return Err(malformed("its service is not `secretsmanager`"));
        }
        let &[_, partition, _, region, account, kind, resource] = fields.as_slice() else {
            return Err(malformed("it has fewer than the seven parts of one (is the region or the account left out?)"));
        };
        let is_label = |text: &str| {
            !text.is_empty()
                && text.len() <= 64
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if !(partition.starts_with("aws") && is_label(partition)) {
            return Err(malformed("its partition is not one of AWS (`aws`, `aws-cn`, `aws-us-gov`)"));
        }
        if !is_label(region) {
            return Err(malformed("its region is missing or misspelt"));
        }
        if account.len() != 12 || !account.chars().all(|c| c.is_ascii_digit()) {
            return Err(malformed("its account is not a number of 12 digits"));
        }
        if kind != "secret" {
            return Err(malformed("its resource type is not `secret`"));
        }
        if resource.is_empty() {
            return Err(malformed("the secret's name is missing"));
        }
        if !resource.chars().all(is_name_character) {
            return Err(malformed("the secret's name has a character outside letters, digits and /_+=.@!-"));
        }
        if resource.len() > MAX_NAME_LENGTH + SUFFIX_LENGTH {
            return Err(malformed("the secret's name is too long"));
        }
        Ok(Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            resource: resource.to_owned(),
        })
    }
}

impl fmt::Display for SecretArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account, resource } = self;
        write!(f, "arn:{partition}:secretsmanager:{region}:{account}:secret:{resource}")
    }
}

impl VersionSelector {
    /// The version carrying a staging label.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::MalformedStage`] unless the label has 1 to 256 characters, none of them a control character.
    pub fn stage(label: &str) -> Result<Self, ReferenceError> {
        let length = label.chars().count();
        if !(1..=256).contains(&length) || label.chars().any(char::is_control) {
            return Err(ReferenceError::MalformedStage { stage: label.to_owned() });
        }
        Ok(Self::Stage(label.to_owned()))
    }

    /// The version with an id.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::MalformedId`] unless the id has 32 to 64 printable ASCII characters.
    pub fn id(id: &str) -> Result<Self, ReferenceError> {
        if !(32..=64).contains(&id.len()) || !id.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ReferenceError::MalformedId { id: id.to_owned() });
        }
        Ok(Self::Id(id.to_owned()))
    }

    /// The version that a stage and an id select of which at most one is given; [`AWSCURRENT`] if neither is.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::StageAndId`] if both are given (the message names `reference`), else as
    /// [`VersionSelector::stage`] and [`VersionSelector::id`].
    pub fn from_parts(reference: &str, stage: Option<&str>, id: Option<&str>) -> Result<Self, ReferenceError> {
        match (stage, id) {
            (None, None) => Ok(Self::default()),
            (Some(stage), None) => Self::stage(stage),
            (None, Some(id)) => Self::id(id),
            (Some(_), Some(_)) => Err(ReferenceError::StageAndId { reference: reference.to_owned() }),
        }
    }

    /// Whether this is the version in force, the one that `BatchGetSecretValue` answers.
    #[must_use]
    pub fn is_current(&self) -> bool {
        matches!(self, Self::Stage(label) if label == AWSCURRENT)
    }
}

impl Default for VersionSelector {
    fn default() -> Self {
        Self::Stage(AWSCURRENT.to_owned())
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(text) | Self::Id(text) => f.write_str(text),
        }
    }
}

/// Names the secret, and the version unless it is the one in force.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.secret)?;
        if self.version.is_current() { Ok(()) } else { write!(f, " ({})", self.version) }
    }
}

impl TryFrom<&str> for ValueFrom {
    type Error = ReferenceError;

    fn try_from(text: &str) -> Result<Self, ReferenceError> {
        // An ARN has six colons of its own; a name has none.
        let colons_of_secret = if text.starts_with("arn:") { 6 } else { 0 };
        let end = text.match_indices(':').nth(colons_of_secret).map_or(text.len(), |(at, _)| at);
        let (secret, rest) = text.split_at(end);
        let secret = SecretId::try_from(secret)?;
        let parts: Vec<&str> = rest.split(':').skip(1).collect();
        if parts.len() > 3 {
            return Err(ReferenceError::TooManyParts { reference: text.to_owned() });
        }
        let part = |index: usize| parts.get(index).copied().filter(|part| !part.is_empty());
        let version = VersionSelector::from_parts(text, part(1), part(2))?;
        Ok(Self { source: Source { secret, version }, json_key: part(0).map(str::to_owned) })
    }
}

impl FromStr for ValueFrom {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::try_from(text)
    }
}

/// The canonical form: the secret alone if nothing else is chosen, otherwise with all its colons.
impl fmt::Display for ValueFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source: Source { secret, version }, json_key } = self;
        if json_key.is_none() && version.is_current() {
            return write!(f, "{secret}");
        }
        let (stage, id) = match version {
            VersionSelector::Stage(_) if version.is_current() => ("", ""),
            VersionSelector::Stage(stage) => (stage.as_str(), ""),
            VersionSelector::Id(id) => ("", id.as_str()),
        };
        write!(f, "{secret}:{}:{stage}:{id}", json_key.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
