//! The keys of a Kubernetes Secret.

use std::fmt;
use std::str::FromStr;

use crate::domain::quoted::Quoted;

/// The longest key that Kubernetes accepts in a Secret, in characters.
pub const MAX_KEY_LENGTH: usize = 253;

/// A key in the `data` of a Kubernetes Secret: 1 to 253 of the characters `A-Z a-z 0-9 - _ .`, not `.` and not
/// starting with `..` (keys become file names in a volume).
///
/// The rules are those of `IsConfigMapKey` in `k8s.io/apimachinery/pkg/util/validation`, which the API server
/// applies to Secrets too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey(Box<str>);

/// Why a text cannot be a key of a Kubernetes Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has no characters.
    #[error("a key cannot be empty: give it a name such as `DATABASE_URL` or `tls.crt`")]
    Empty,
    /// The key is longer than [`MAX_KEY_LENGTH`].
    #[error("a key has at most {MAX_KEY_LENGTH} characters and this one has {length}: shorten it")]
    TooLong {
        /// The number of characters found.
        length: usize,
    },
    /// The key has a character outside the allowed set.
    #[error(
        "{} cannot be in a key (allowed are letters A-Z a-z, digits, `-`, `_` and `.`)",
        Quoted(.character.encode_utf8(&mut [0; 4]))
    )]
    Character {
        /// The first such character.
        character: char,
    },
    /// The key would name a directory in a volume.
    #[error("a key cannot be `.` or start with `..`, since keys become file names: rename it")]
    Directory,
}

/// The form of the names that `dataFrom` makes of JSON keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFormat {
    /// As the JSON key is.
    #[default]
    AsIs,
    /// As environment variables are named by custom.
    EnvVar,
}

impl KeyFormat {
    /// The name that a JSON key gets, the prefix included.
    #[must_use]
    pub fn name(self, prefix: &str, key: &str) -> String {
        let chars = prefix.chars().chain(key.chars());
        match self {
            Self::AsIs => chars.collect(),
            Self::EnvVar => {
                let upper = chars.map(|c| c.to_ascii_uppercase());
                upper.map(|c| if matches!(c, 'A'..='Z' | '0'..='9') { c } else { '_' }).collect()
            }
        }
    }
}

impl TargetKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TargetKey {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(character) = text.chars().find(|&c| !allowed(c)) {
            return Err(KeyError::Character { character });
        }
        if text.len() > MAX_KEY_LENGTH {
            return Err(KeyError::TooLong { length: text.len() });
        }
        if text == "." || text.starts_with("..") {
            return Err(KeyError::Directory);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for TargetKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::try_from(text)
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for TargetKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::render::key::{KeyError, KeyFormat, TargetKey};

    #[test]
    fn names_of_environment_variables_have_upper_case_digits_and_underscores_alone() {
        for (prefix, key, name) in [
            ("", "foo-bar", "FOO_BAR"),
            ("db.", "Password", "DB_PASSWORD"),
            ("", "9lives", "9LIVES"),
            ("", "straße é", "STRA_E__"),
            ("", "a\u{200b}b", "A_B"),
            ("", "", ""),
        ] {
            assert_eq!(KeyFormat::EnvVar.name(prefix, key), name, "{prefix:?} {key:?}");
            assert_eq!(KeyFormat::AsIs.name(prefix, key), format!("{prefix}{key}"));
        }
    }

    #[test]
    fn keys_follow_the_rules_of_kubernetes() {
        for good in ["A", "tls.crt", ".dockerconfigjson", "a_b-c.D9", ".a", "-", "...a".trim_start_matches("..")] {
            assert_eq!(TargetKey::try_from(good).unwrap().to_string(), good);
        }
        assert!(TargetKey::try_from("k".repeat(253).as_str()).is_ok());
        let bad: &[(&str, KeyError)] = &[
            ("", KeyError::Empty),
            (".", KeyError::Directory),
            ("..", KeyError::Directory),
            ("..a", KeyError::Directory),
            ("a b", KeyError::Character { character: ' ' }),
            ("a/b", KeyError::Character { character: '/' }),
            ("schlüssel", KeyError::Character { character: 'ü' }),
            ("a\0", KeyError::Character { character: '\0' }),
            ("a\n", KeyError::Character { character: '\n' }),
        ];
        for (text, error) in bad {
            assert_eq!(TargetKey::try_from(*text).as_ref(), Err(error), "{text:?}");
        }
        assert_eq!(TargetKey::try_from("k".repeat(254).as_str()), Err(KeyError::TooLong { length: 254 }));
    }

    #[test]
    fn errors_name_the_character_even_if_it_is_invisible() {
        let error = TargetKey::try_from("a\u{200b}").unwrap_err().to_string();
        assert!(error.starts_with("`\\u{200b}` cannot be in a key"), "{error}");
    }
}
