//! What becomes of a Secret whose grant ended and asks for its deletion.

use std::collections::BTreeSet;

/// What becomes of a Secret whose grant ended and asks for its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Withdrawal {
    /// Nothing: there is none, or the grant does not ask for it.
    #[default]
    None,
    /// It is deleted.
    Delete,
    /// It was there before the binding, or others keep keys in it: Bindery takes its own keys and marks away.
    Release,
    /// Nothing proves that Bindery published it, so it is left alone.
    Keep,
}

/// What stands in the place of a value that is taken away, where the type of the Secret demands its key: no credential,
/// and accepted for each of them.
pub const STAND_IN: &str = "{}";

/// The keys that a Secret of a type must have.
#[must_use]
pub fn demanded_keys(type_: &str) -> &'static [&'static str] {
    match type_ {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/basic-auth" => &["username", "password"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

impl Withdrawal {
    /// Decides what becomes of a Secret. `on_record` says whether the binding has it on record, `adopted` whether it was
    /// there before; `keys` are all of its keys, `own` those that Bindery applied.
    #[must_use]
    pub fn of(on_record: bool, adopted: bool, keys: &BTreeSet<String>, own: &BTreeSet<String>) -> Self {
        if own.is_empty() || !on_record {
            Self::Keep
        } else if adopted || !keys.is_subset(own) {
            Self::Release
        } else {
            Self::Delete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_proven_and_wholly_binderys_is_deleted() {
        let set = |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(ToString::to_string).collect() };
        for (on_record, adopted, keys, own, expected) in [
            (true, false, set(&["A"]), set(&["A"]), Withdrawal::Delete),
            (true, true, set(&["A"]), set(&["A"]), Withdrawal::Release),
            (true, false, set(&["A", "B"]), set(&["A"]), Withdrawal::Release),
            (false, false, set(&["A"]), set(&["A"]), Withdrawal::Keep),
            (true, false, set(&["A"]), set(&[]), Withdrawal::Keep),
        ] {
            assert_eq!(Withdrawal::of(on_record, adopted, &keys, &own), expected, "{keys:?} {own:?}");
        }
    }
}
