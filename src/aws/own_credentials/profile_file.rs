//! Profile files: what can be told of one that gave no credentials.

use crate::aws::own_credentials::signs::foreign_sign;

/// What is wrong with a profile file that gave no credentials for a profile.
#[must_use]
pub fn profile_fault(path: &str, profile: &str) -> String {
    if let Some(sign) = foreign_sign(path).filter(|sign| *sign != "a space") {
        return format!("has {sign} in its name; correct the variable and restart the operator");
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return format!("cannot be read ({}); mount it, or correct the variable", error.kind()),
    };
    let names: Vec<&str> = text.lines().filter_map(section).collect();
    if names.is_empty() {
        return "holds no profile; write it as [name] with aws_access_key_id and aws_secret_access_key".to_owned();
    }
    if !names.contains(&profile) {
        return format!(
            "holds no profile {profile:?}, which the variable AWS_PROFILE names, or by which it is meant without that"
        );
    }
    format!(
        "gives no credentials by its profile {profile:?}; it needs aws_access_key_id and aws_secret_access_key, or a role_arn with a source_profile that is there"
    )
}

/// The name of the profile that a line begins.
fn section(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix('[')?.split(']').next()?.trim();
    Some(name.strip_prefix("profile ").unwrap_or(name).trim())
}
