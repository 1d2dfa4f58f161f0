//! The policies in `deploy/aws/policies`, filled in as an administrator would.

use std::path::{Path, PathBuf};

/// What stands for something else in these files.
pub const PLACEHOLDERS: [&str; 15] = [
    "ACCOUNT_ID",
    "BREAK_GLASS_ROLE",
    "CLUSTER_NAME",
    "KEY_ID",
    "NAMESPACE",
    "OIDC_PROVIDER",
    "OPERATOR_ROLE",
    "QUEUE_NAME",
    "READER_ROLE",
    "REGION",
    "ROTATION_FUNCTION",
    "RULE_NAME",
    "SECRET_NAME",
    "SERVICE_ACCOUNT",
    "USER_NAME",
];

/// The folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/aws/policies")
}

/// The text of a policy, with values in the place of its placeholders.
///
/// # Panics
/// Where there is no such policy, a value is for no placeholder of it, or a placeholder is left.
pub fn shipped(name: &str, values: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (placeholder, value) in values {
        assert!(PLACEHOLDERS.contains(placeholder), "{placeholder} is no placeholder");
        assert!(text.contains(placeholder), "{name} has no placeholder {placeholder}");
        text = text.replace(placeholder, value);
    }
    let left: Vec<_> = PLACEHOLDERS.into_iter().filter(|placeholder| text.contains(placeholder)).collect();
    assert!(left.is_empty(), "{name} is not filled in: {left:?}");
    text
}
