//! Files that are generated from the code are as the code says. `make generate` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use kube::ResourceExt as _;

/// Where the CRDs stand: for `kubectl apply -f crds/`, and for the chart, which cannot reach outside its folder.
const FOLDERS: [&str; 2] = ["crds", "charts/bindery/files/crds"];

#[test]
fn the_crds_are_as_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for crd in bindery::api::crds() {
        let text = serde_saphyr::to_string(&crd).unwrap();
        for folder in FOLDERS {
            let path = root.join(folder).join(format!("{}.yaml", crd.name_any()));
            if std::env::var_os("BINDERY_GENERATE").is_some() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &text).unwrap();
            }
            let stored = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(stored, text, "{} is out of date: run `make generate` and commit it", path.display());
        }
    }
}

#[test]
fn every_field_of_the_api_is_explained_and_bounded_and_has_no_default() {
    fn walk(path: &str, schema: &serde_json::Value, faults: &mut Vec<String>) {
        let type_ = schema["type"].as_str().unwrap_or_default();
        if schema.get("default").is_some() {
            faults.push(format!("{path} has a default, which Argo CD would show as drift"));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().unwrap_or_default().is_empty() {
                faults.push(format!("{path} has no description"));
            }
            walk(&path, property, faults);
        }
        let bounded = match type_ {
            "string" => ["maxLength", "enum", "format"].iter().any(|bound| schema.get(bound).is_some()),
            "array" => schema.get("maxItems").is_some(),
            "object" if schema.get("additionalProperties").is_some() => schema.get("maxProperties").is_some(),
            _ => true,
        };
        if !bounded {
            faults.push(format!("{path} has no bound"));
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                walk(&format!("{path}[]"), &schema[inner], faults);
            }
        }
    }
    let mut faults = Vec::new();
    for crd in bindery::api::crds() {
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        walk(&crd.spec.names.kind, &schema["properties"]["spec"], &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
