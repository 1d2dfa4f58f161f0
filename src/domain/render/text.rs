//! Whether a value can be the value of an environment variable.

use crate::domain::render::key::TargetKey;
use crate::domain::value::Value;

/// Why a container cannot take a value as environment. Kubernetes publishes and mounts such a value, but a pod with it
/// in `env` or `envFrom` does not start: the runtime takes only UTF-8, and the kernel ends a variable at NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// It holds a NUL.
    #[error("it holds a NUL byte")]
    Nul,
}

/// Why a container cannot take a value as environment; `None` if it can.
#[must_use]
pub fn text_fault(value: &Value) -> Option<TextFault> {
    match std::str::from_utf8(value.expose()) {
        Err(_) => Some(TextFault::NotUtf8),
        Ok(text) => text.contains('\0').then_some(TextFault::Nul),
    }
}

/// The keys whose values a container cannot take as environment.
pub fn binary_keys<'a>(data: impl IntoIterator<Item = (&'a TargetKey, &'a Value)>) -> Vec<String> {
    let found = data.into_iter().filter(|(_, value)| text_fault(value).is_some());
    found.map(|(key, _)| key.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_cannot_take_as_environment_is_nul_and_what_is_not_utf_8() {
        for (value, fault) in [
            (&b""[..], None),
            ("line 1\nlin\u{e9} 2\t\u{1}".as_bytes(), None),
            (b"a\0b", Some(TextFault::Nul)),
            (b"\xfe\xed", Some(TextFault::NotUtf8)),
            (b"\xfe\0", Some(TextFault::NotUtf8)),
        ] {
            assert_eq!(text_fault(&Value::from(value)), fault, "{value:?}");
        }
    }
}
