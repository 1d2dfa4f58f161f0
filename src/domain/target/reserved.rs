//! Names and labels that give a Secret a power: Kubernetes or another tool finds a Secret by them and believes
//! what stands in it, whatever its type is.

/// The tool that takes a Secret of this name for its own state.
#[must_use]
pub fn tool_of_name(name: &str) -> Option<&'static str> {
    [
        ("sh.helm.release.", "Helm takes it for a release, and a rollback installs what stands in it"),
        ("tfstate-", "Terraform takes it for its state, and applies changes by what stands in it"),
    ]
    .into_iter()
    .find_map(|(prefix, tool)| name.starts_with(prefix).then_some(tool))
}

/// The tool that takes a Secret with this label for its own state.
#[must_use]
pub fn tool_of_label(name: &str, value: &str) -> Option<&'static str> {
    match (name, value) {
        ("owner", "helm") => Some("Helm takes it for a release, and a rollback installs what stands in it"),
        ("tfstate", _) => Some("Terraform takes it for its state, and applies changes by what stands in it"),
        _ => None,
    }
}
