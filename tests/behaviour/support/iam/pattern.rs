//! The texts of policies: what stands for itself, wildcards, and variables.

use super::context::{Context, Key};
use super::policy::PolicyError;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    One(char),
    /// `?`: any one character.
    Any,
    /// `*`: any number of characters, none among them.
    Many,
    /// `${key}` or `${key, 'default'}`.
    Variable(Key, Option<String>),
}

/// A text of a policy that request values are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

/// Whether `*` and `?` mean themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Live,
    Literal,
}

impl Pattern {
    /// A text in which `*` and `?` are wildcards.
    ///
    /// # Errors
    /// For a variable that is not closed or not known.
    pub fn wildcard(text: &str) -> Result<Self, PolicyError> {
        parse(text, Wildcards::Live).map(Self)
    }

    /// A text in which `*` and `?` stand for themselves. Variables are still replaced.
    ///
    /// # Errors
    /// For a variable that is not closed or not known.
    pub fn literal(text: &str) -> Result<Self, PolicyError> {
        parse(text, Wildcards::Literal).map(Self)
    }

    /// Whether it depends on the request.
    pub fn has_variables(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Variable(..)))
    }

    /// Whether the whole of `text` is as described. A variable without a value matches nothing, not even nothing.
    pub fn matches(&self, context: &Context, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.resolve(context).is_some_and(|parts| glob(&parts, &text))
    }

    /// Puts values in the place of variables. They are taken as they are: a `*` in a value is no wildcard.
    fn resolve(&self, context: &Context) -> Option<Vec<Part>> {
        let mut parts = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            match part {
                Part::Variable(key, default) => {
                    let value = match (context.get(key), default) {
                        ([value], _) => value,
                        ([], Some(default)) => default,
                        _ => return None,
                    };
                    parts.extend(value.chars().map(Part::One));
                }
                part => parts.push(part.clone()),
            }
        }
        Some(parts)
    }
}

fn parse(text: &str, wildcards: Wildcards) -> Result<Vec<Part>, PolicyError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("${") {
            let Some((inside, after)) = after.split_once('}') else {
                return Err(PolicyError::new(format!("{text:?} has a variable that is not closed")));
            };
            parts.push(variable(inside)?);
            rest = after;
            continue;
        }
        parts.push(match next {
            '*' if wildcards == Wildcards::Live => Part::Many,
            '?' if wildcards == Wildcards::Live => Part::Any,
            other => Part::One(other),
        });
        rest = &rest[next.len_utf8()..];
    }
    Ok(parts)
}

fn variable(inside: &str) -> Result<Part, PolicyError> {
    if let "*" | "?" | "$" = inside {
        return Ok(inside.chars().next().map_or(Part::Many, Part::One));
    }
    let (key, default) = match inside.split_once(',') {
        Some((key, default)) => {
            let text = default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            let text =
                text.ok_or_else(|| PolicyError::new(format!("the default in ${{{inside}}} is not in quotes")))?;
            (key, Some(text.to_owned()))
        }
        None => (inside, None),
    };
    let key = Key::parse(key)?;
    if key.is_many() {
        return Err(PolicyError::new(format!("{key} may have several values and cannot be a variable")));
    }
    Ok(Part::Variable(key, default))
}

/// Compares from the left; after a mismatch the last `*` takes one character more.
fn glob(parts: &[Part], text: &[char]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut last_many = None;
    while at < text.len() {
        match parts.get(part) {
            Some(Part::Many) => {
                last_many = Some((part, at));
                part += 1;
            }
            Some(Part::Any) => {
                part += 1;
                at += 1;
            }
            Some(Part::One(expected)) if *expected == text[at] => {
                part += 1;
                at += 1;
            }
            _ => {
                let Some((many, from)) = last_many else {
                    return false;
                };
                last_many = Some((many, from + 1));
                part = many + 1;
                at = from + 1;
            }
        }
    }
    parts[part..].iter().all(|part| *part == Part::Many)
}

/// An ARN of a policy. Its six parts are compared one by one, so that a `*` does not reach from one into the next; the
/// last part takes all further colons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArnPattern {
    /// `*`: everything.
    Everything,
    /// Six parts.
    Parts(Vec<Pattern>),
}

impl ArnPattern {
    /// Reads `*` or an ARN.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        let parts = arn_parts(text).filter(|parts| parts[0] == "arn");
        let parts =
            parts.ok_or_else(|| PolicyError::new(format!("{text:?} is neither `*` nor an ARN of six parts")))?;
        if parts[2].contains(['*', '?']) {
            return Err(PolicyError::new(format!("{text:?} has a wildcard for the service, which AWS refuses")));
        }
        Ok(Self::Parts(parts.into_iter().map(Pattern::wildcard).collect::<Result<_, _>>()?))
    }

    /// Whether an ARN is as described.
    pub fn matches(&self, context: &Context, arn: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Parts(patterns) => arn_parts(arn)
                .is_some_and(|parts| patterns.iter().zip(parts).all(|(pattern, part)| pattern.matches(context, part))),
        }
    }
}

/// The six parts of an ARN. Colons within a variable do not part.
pub fn arn_parts(arn: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::with_capacity(6);
    let mut rest = arn;
    for _ in 0..5 {
        let mut depth = 0;
        let colon = rest.char_indices().find(|(_, next)| {
            match next {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            *next == ':' && depth == 0
        });
        let (colon, _) = colon?;
        parts.push(&rest[..colon]);
        rest = &rest[colon + 1..];
    }
    parts.push(rest);
    Some(parts)
}
