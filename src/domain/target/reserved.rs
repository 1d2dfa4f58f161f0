//! Names, labels and annotations that give a Secret a power: Kubernetes or another tool finds a Secret by them and believes
//! what stands in it, whatever its type is.

/// The default of `--deny-target-metadata`: metadata keys that users may not put on a target, beyond those of Kubernetes
/// and Bindery. Each turns a Secret into a credential of the cluster or of a tool, or copies it to another namespace.
pub const DENIED_METADATA: &[&str] = &[
    "argocd.argoproj.io/",
    "cert-manager.io/",
    "controller.cert-manager.io/",
    "grafana_",
    "jenkins.io/",
    "konghq.com/",
    "kubed.appscode.com/",
    "reflector.v1.k8s.emberstack.com/",
    "replicator.v1.mittwald.de/",
    "sealedsecrets.bitnami.com/",
    "synator/",
];

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

/// Whether a label or annotation is refused: those of Kubernetes and Bindery, and those that begin with one of `denied`.
#[must_use]
pub fn is_denied(key: &str, denied: &[String]) -> bool {
    if denied.iter().any(|denied| key.starts_with(denied.as_str())) {
        return true;
    }
    let Some((prefix, _)) = key.split_once('/') else { return false };
    prefix == "bindery.dev"
        || prefix.ends_with(".bindery.dev")
        || (prefix.ends_with("kubernetes.io") && prefix != "app.kubernetes.io")
        || prefix.ends_with("k8s.io")
}
