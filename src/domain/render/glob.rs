//! Globs over JSON keys and secret names.

use std::fmt;
use std::str::FromStr;

use crate::domain::quoted::Quoted;

/// The longest pattern, in characters.
pub const MAX_PATTERN_LENGTH: usize = 512;

/// A pattern that must match a whole text: `*` matches any run of characters (`/` included, also none), `?`
/// exactly one character, everything else itself. There is no escape character.
///
/// These are the wildcards of `Resource` and `StringLike` in IAM policies, so that a grant and the policy behind
/// it read alike (AWS IAM User Guide, "IAM JSON policy elements: Resource").
///
/// Matching takes time proportional to pattern times text at worst and needs no recursion.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(Box<str>);

/// Why a text is no [`Glob`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// The pattern has no characters and would match only the empty text.
    #[error("a pattern cannot be empty: write `*` to match everything")]
    Empty,
    /// The pattern is longer than [`MAX_PATTERN_LENGTH`].
    #[error("the pattern {} has {length} characters, at most {MAX_PATTERN_LENGTH} are allowed: shorten it", Quoted(.pattern))]
    TooLong {
        /// The pattern.
        pattern: String,
        /// Its number of characters.
        length: usize,
    },
}

impl Glob {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.matches_within(text, &mut { u64::MAX }).unwrap_or_default()
    }

    /// The same in at most as many steps as are left, each of which looks at one character. `None` where they do not
    /// suffice.
    #[must_use]
    pub fn matches_within(&self, text: &str, steps: &mut u64) -> Option<bool> {
        let (mut pattern, mut rest) = (&*self.0, text);
        // Only the last `*` seen ever needs to take more: what stood before it is matched as early as possible,
        // so giving an earlier `*` more text cannot help.
        let mut last_star: Option<(&str, &str)> = None;
        loop {
            *steps = steps.checked_sub(1)?;
            let mut pattern_chars = pattern.chars();
            let mut rest_chars = rest.chars();
            match (pattern_chars.next(), rest_chars.next()) {
                (Some('*'), _) => {
                    pattern = pattern_chars.as_str();
                    last_star = Some((pattern, rest));
                    continue;
                }
                (None, None) => return Some(true),
                (Some('?'), Some(_)) => {
                    (pattern, rest) = (pattern_chars.as_str(), rest_chars.as_str());
                    continue;
                }
                (Some(expected), Some(found)) if expected == found => {
                    (pattern, rest) = (pattern_chars.as_str(), rest_chars.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((after_star, run_start)) = last_star else { return Some(false) };
            let mut run = run_start.chars();
            if run.next().is_none() {
                return Some(false);
            }
            (pattern, rest) = (after_star, run.as_str());
            last_star = Some((after_star, rest));
        }
    }

    /// The text that everything matched starts with: the pattern up to its first wildcard. Secrets Manager's
    /// `ListSecrets` filters names by prefix, so this is what a pattern can be narrowed to there.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        self.0.split(['*', '?']).next().unwrap_or_default()
    }

    /// Whether the pattern has no wildcard and so matches one text only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.literal_prefix().len() == self.0.len()
    }
}

impl TryFrom<&str> for Glob {
    type Error = GlobError;

    fn try_from(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        let length = pattern.chars().count();
        if length > MAX_PATTERN_LENGTH {
            return Err(GlobError::TooLong { pattern: pattern.chars().take(100).collect(), length });
        }
        Ok(Self(pattern.into()))
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(pattern: &str) -> Result<Self, GlobError> {
        Self::try_from(pattern)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use crate::domain::render::glob::{Glob, GlobError};

    fn glob(pattern: &str) -> Glob {
        Glob::try_from(pattern).unwrap()
    }

    #[test]
    fn wildcards() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("*", &["", "a", "a/b", "é"], &[]),
            ("?", &["a", "é", "/"], &["", "ab"]),
            ("SUPABASE_*", &["SUPABASE_", "SUPABASE_URL"], &["SUPABASE", "XSUPABASE_URL", "supabase_url"]),
            ("*_URL", &["_URL", "A_URL", "_URL_URL"], &["A_URL_", "URL"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["abcb", "ac", "bc"]),
            (
                "autorepost/production/*",
                &["autorepost/production/app", "autorepost/production/a/b"],
                &["autorepost/staging/app"],
            ),
            ("a.b", &["a.b"], &["axb"]),
            ("[a]{b}\\*", &["[a]{b}\\", "[a]{b}\\x"], &["a", "[a]{b}*"]),
            ("**a**", &["a", "bab"], &["b", ""]),
            ("x-??????", &["x-AbC123"], &["x-AbC12", "x-AbC1234", "y-AbC123"]),
        ];
        for (pattern, matching, others) in cases {
            for text in *matching {
                assert!(glob(pattern).matches(text), "{pattern} should match {text:?}");
            }
            for text in *others {
                assert!(!glob(pattern).matches(text), "{pattern} should not match {text:?}");
            }
        }
    }

    #[test]
    fn literal_prefixes() {
        for (pattern, prefix) in [("a/b/*", "a/b/"), ("a?b", "a"), ("*", ""), ("plain", "plain")] {
            assert_eq!(glob(pattern).literal_prefix(), prefix);
            assert_eq!(glob(pattern).is_literal(), prefix == pattern);
        }
    }

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(Glob::try_from(""), Err(GlobError::Empty));
        assert!(Glob::try_from("é".repeat(512).as_str()).is_ok());
        let error = Glob::try_from("é".repeat(513).as_str()).unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
    }

    /// The patterns that make backtracking matchers take exponential time.
    #[test]
    fn no_pattern_is_slow() {
        let text = "a".repeat(65_536);
        for pattern in [format!("{}b", "a*".repeat(255)), format!("{}b", "*".repeat(511)), "*a?".repeat(170) + "b"] {
            let started = Instant::now();
            assert!(!glob(&pattern).matches(&text));
            assert!(started.elapsed() < Duration::from_secs(5), "{pattern} took {:?}", started.elapsed());
        }
    }

    /// The definition of a glob, written down without any thought of speed.
    fn matches_by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((&'*', rest)) => (0..=text.len()).any(|run| matches_by_definition(rest, &text[run..])),
            Some((&c, rest)) => {
                text.split_first().is_some_and(|(&t, text)| (c == '?' || c == t) && matches_by_definition(rest, text))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?é/]{1,8}", text in "[abé/]{0,12}") {
            let by_definition = matches_by_definition(
                &pattern.chars().collect::<Vec<_>>(),
                &text.chars().collect::<Vec<_>>(),
            );
            prop_assert_eq!(glob(&pattern).matches(&text), by_definition);
            prop_assert_eq!(glob(&pattern).to_string(), pattern);
        }
    }
}
