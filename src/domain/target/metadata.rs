//! The labels and annotations that a binding may put on its Secret: those that an administrator allows. Tools find Secrets
//! by labels and annotations, believe what stands in them, and copy them to other namespaces; no list of such tools is
//! complete.

/// The prefix that needs no entry in a list.
const BY_DEFAULT: &str = "app.kubernetes.io/";

/// The keys under it that need one: Argo CD tracks an object by the first, Helm adopts it by the second.
const BY_FLAG_ALONE: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];

/// The longest key that Kubernetes takes: a prefix, a slash and a name.
const LONGEST: usize = 253 + 1 + 63;

/// One entry of a list of allowed keys: a whole key, or with `*` at its end all keys that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPattern(String);

/// Why a text is no entry of such a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataPatternError {
    /// It is no key.
    #[error("{0:?} is no key of a label or annotation, nor a prefix of one that ends in *, such as example.com/*")]
    Malformed(String),
    /// It allows what nobody can allow.
    #[error("{0:?} belongs to Kubernetes or Bindery and cannot be allowed; remove it")]
    Never(String),
}

impl TryFrom<&str> for MetadataPattern {
    type Error = MetadataPatternError;

    fn try_from(text: &str) -> Result<Self, MetadataPatternError> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let of_keys = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if text.is_empty() || text.len() > LONGEST || name.matches('/').count() > 1 || !name.chars().all(of_keys) {
            return Err(MetadataPatternError::Malformed(text.to_owned()));
        }
        if is_never(name) { Err(MetadataPatternError::Never(text.to_owned())) } else { Ok(Self(text.to_owned())) }
    }
}

impl MetadataPattern {
    fn matches(&self, key: &str) -> bool {
        self.0.strip_suffix('*').map_or_else(|| self.0 == key, |prefix| key.starts_with(prefix))
    }
}

/// Why a binding may not set a label or annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRefusal {
    /// It belongs to Kubernetes or Bindery.
    Never,
    /// Only the operator's flag can allow it, by its whole key.
    NeedsFlag,
    /// Neither the flag nor the grant allows it.
    NotListed,
}

/// Whether a binding may set a label or annotation, by the lists of the operator's flag and of the grant.
///
/// # Errors
/// Why it may not.
pub fn judge_metadata(key: &str, flag: &[MetadataPattern], grant: &[MetadataPattern]) -> Result<(), MetadataRefusal> {
    if is_never(key) {
        return Err(MetadataRefusal::Never);
    }
    if BY_FLAG_ALONE.contains(&key) {
        let named = flag.iter().any(|pattern| pattern.0 == key);
        return if named { Ok(()) } else { Err(MetadataRefusal::NeedsFlag) };
    }
    let listed = key.starts_with(BY_DEFAULT) || flag.iter().chain(grant).any(|pattern| pattern.matches(key));
    if listed { Ok(()) } else { Err(MetadataRefusal::NotListed) }
}

/// Whether a key is Bindery's or Kubernetes' own, so that nobody can allow it.
#[must_use]
pub fn is_never(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    prefix == "bindery.dev"
        || prefix.ends_with(".bindery.dev")
        || (prefix.ends_with("kubernetes.io") && prefix != "app.kubernetes.io")
        || prefix.ends_with("k8s.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<MetadataPattern> {
        texts.iter().map(|text| MetadataPattern::try_from(*text).unwrap()).collect()
    }

    #[test]
    fn only_what_is_listed_may_be_set_and_some_keys_never() {
        let flag = patterns(&["team", "example.com/*", "app.kubernetes.io/managed-by", "cost-*"]);
        let grant = patterns(&["argocd.argoproj.io/secret-type", "app.kubernetes.io/instance", "app.kubernetes.io/*"]);
        for (key, expected) in [
            ("app.kubernetes.io/name", Ok(())),
            ("app.kubernetes.io/managed-by", Ok(())),
            ("team", Ok(())),
            ("cost-centre", Ok(())),
            ("example.com/bindery.dev", Ok(())),
            ("argocd.argoproj.io/secret-type", Ok(())),
            ("app.kubernetes.io/instance", Err(MetadataRefusal::NeedsFlag)),
            ("argocd.argoproj.io/refresh", Err(MetadataRefusal::NotListed)),
            ("teams", Err(MetadataRefusal::NotListed)),
            ("notbindery.dev/x", Err(MetadataRefusal::NotListed)),
            ("replicator.v1.mittwald.de/replicate-to", Err(MetadataRefusal::NotListed)),
            ("synator/sync", Err(MetadataRefusal::NotListed)),
            ("grafana_dashboard", Err(MetadataRefusal::NotListed)),
            ("bindery.dev/managed", Err(MetadataRefusal::Never)),
            ("x.bindery.dev/y", Err(MetadataRefusal::Never)),
            ("kubernetes.io/metadata.name", Err(MetadataRefusal::Never)),
            ("node.kubernetes.io/x", Err(MetadataRefusal::Never)),
            ("sub.app.kubernetes.io/x", Err(MetadataRefusal::Never)),
            ("cluster.x-k8s.io/cluster-name", Err(MetadataRefusal::Never)),
        ] {
            assert_eq!(judge_metadata(key, &flag, &grant), expected, "{key}");
        }
        assert_eq!(judge_metadata("x.k8s.io/y", &patterns(&["*"]), &[]), Err(MetadataRefusal::Never));
        assert_eq!(judge_metadata("anything", &patterns(&["*"]), &[]), Ok(()));
        for key in BY_FLAG_ALONE {
            let wide = patterns(&["*", "app.kubernetes.io/*"]);
            assert_eq!(judge_metadata(key, &wide, &wide), Err(MetadataRefusal::NeedsFlag), "{key}");
        }
    }

    #[test]
    fn a_list_holds_keys_and_prefixes_and_none_that_nobody_can_allow() {
        for text in ["", "a b", "a/b/c", "a*b", "**", "a/*x", "x=y", &"a".repeat(318)] {
            assert!(matches!(MetadataPattern::try_from(text), Err(MetadataPatternError::Malformed(_))), "{text}");
        }
        for text in ["bindery.dev/*", "bindery.dev/managed", "kubernetes.io/*", "x.k8s.io/y"] {
            assert!(matches!(MetadataPattern::try_from(text), Err(MetadataPatternError::Never(_))), "{text}");
        }
    }
}
