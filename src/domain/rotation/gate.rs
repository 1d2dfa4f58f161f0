//! The gate of a phase: whether every pod that can see the key was created after the phase was published.

use k8s_openapi::jiff::Timestamp;

use crate::domain::rollout::consumers::{Uses, uses};
use crate::domain::rollout::pod::PodManifest;
use crate::domain::rotation::overlap::Gate;

/// Kinds whose pods are replaced when their workload is restarted, or end by themselves.
const REPLACED: [&str; 4] = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"];

/// The names under which a key and its old and new value are published.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The Secret.
    pub target: &'a str,
    /// The key.
    pub key: &'a str,
    /// Beside it, the new value.
    pub next: &'a str,
    /// Beside it, the old value.
    pub previous: &'a str,
}

/// Looks at the pods of a namespace. `since` is when the phase was published, in whole seconds as Kubernetes records
/// it: a pod that was created within the same second may have been started with what was there before.
#[must_use]
pub fn look(pods: &[PodManifest], names: Names<'_>, since: Timestamp) -> Gate {
    let mut gate = Gate { seen: true, ..Gate::default() };
    for pod in pods {
        if pod.has_ended() {
            continue;
        }
        let Some(spec) = pod.spec() else { continue };
        let name = pod.name().to_owned();
        match uses(spec, names.target) {
            Uses::Nothing => continue,
            Uses::Whole => {}
            Uses::Keys(keys) => {
                if ![names.key, names.next, names.previous].iter().any(|key| keys.contains_key(*key)) {
                    continue;
                }
                let lacks: Vec<&str> =
                    [names.next, names.previous].into_iter().filter(|key| keys.get(*key) != Some(&true)).collect();
                if keys.contains_key(names.key) && !lacks.is_empty() {
                    gate.blocked.push(format!(
                        "the pod {name} takes the key {} of the Secret {} by its name, so its template must also take {} \
                         with optional: true",
                        names.key,
                        names.target,
                        lacks.join(" and ")
                    ));
                    continue;
                }
            }
        }
        if pod.created().is_some_and(|created| created > since) {
            continue;
        }
        match pod.controller() {
            Some(owner) if REPLACED.contains(&owner.kind.as_str()) => gate.older.push(name),
            _ => gate.blocked.push(format!(
                "the pod {name} was created before and no workload replaces it: delete it, and make it anew where it is needed"
            )),
        }
    }
    gate.older.sort();
    gate.blocked.sort();
    gate.blocked.truncate(5);
    gate
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NAMES: Names<'_> = Names { target: "app", key: "K", next: "K_NEXT", previous: "K_PREVIOUS" };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn pod(name: &str, created: i64, owner: Option<&str>, phase: &str, spec: &Value) -> PodManifest {
        let owners: Vec<Value> = owner
            .map(|kind| json!({"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}))
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": at(created).to_string(), "ownerReferences": owners},
            "spec": spec, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn whole() -> Value {
        json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "app"}}]}]})
    }

    fn named(keys: &[(&str, bool)]) -> Value {
        let env: Vec<Value> = keys
            .iter()
            .map(|(key, optional)| {
                json!({"name": key, "valueFrom": {"secretKeyRef": {"name": "app", "key": key, "optional": optional}}})
            })
            .collect();
        json!({"containers": [{"name": "c", "env": env}]})
    }

    #[test]
    fn pods_that_see_the_key_must_be_newer_than_the_phase_by_a_whole_second() {
        let rs = Some("ReplicaSet");
        let all = named(&[("K", false), ("K_NEXT", true), ("K_PREVIOUS", true)]);
        for (pod, older) in vec![
            (pod("a", 11, rs, "Running", &whole()), false),
            (pod("a", 10, rs, "Running", &whole()), true),
            (pod("a", 9, rs, "Pending", &whole()), true),
            (pod("a", 9, rs, "Succeeded", &whole()), false),
            (pod("a", 9, rs, "Failed", &whole()), false),
            (pod("a", 9, Some("Job"), "Running", &all), true),
            (pod("a", 9, Some("StatefulSet"), "Running", &named(&[("K_NEXT", false)])), true),
            (pod("a", 9, rs, "Running", &named(&[("DATABASE_URL", false)])), false),
            (pod("a", 9, rs, "Running", &json!({"containers": [{"name": "c"}]})), false),
        ] {
            let gate = look(std::slice::from_ref(&pod), NAMES, at(10));
            assert_eq!(gate.older, if older { vec!["a".to_owned()] } else { vec![] }, "{pod:?}");
            assert_eq!(gate.blocked, Vec::<String>::new());
        }
    }

    #[test]
    fn what_no_restart_cures_is_named() {
        let rs = Some("ReplicaSet");
        for (pod, says) in [
            (pod("lone", 9, None, "Running", &whole()), "the pod lone was created before and no workload replaces it"),
            (pod("odd", 9, Some("Thing"), "Running", &whole()), "the pod odd was created before"),
            (
                pod("a", 11, rs, "Running", &named(&[("K", false)])),
                "must also take K_NEXT and K_PREVIOUS with optional",
            ),
            (
                pod("a", 11, rs, "Running", &named(&[("K", false), ("K_NEXT", true), ("K_PREVIOUS", false)])),
                "must also take K_PREVIOUS with optional",
            ),
        ] {
            let gate = look(std::slice::from_ref(&pod), NAMES, at(10));
            assert!(gate.blocked.len() == 1 && gate.blocked[0].contains(says), "{gate:?}");
        }
    }
}
