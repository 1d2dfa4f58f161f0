//! The policies in `deploy/aws/policies`, filled in as an administrator would.

use std::path::Path;

/// The text of a policy, with values in the place of its placeholders.
///
/// # Panics
/// Where there is no such policy, or a value is for no placeholder of it.
pub fn shipped(name: &str, values: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/aws/policies").join(name);
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (placeholder, value) in values {
        assert!(text.contains(placeholder), "{name} has no placeholder {placeholder}");
        text = text.replace(placeholder, value);
    }
    text
}
