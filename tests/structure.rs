//! Rules of the code that a reader can rely on, checked on its text.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The text of each file without its tests, by its path below `src`.
fn code() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 20, "the sources are found");
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (path.strip_prefix(&root).unwrap().display().to_string(), text)
        })
        .collect()
}

#[test]
fn every_write_to_kubernetes_stands_in_two_files() {
    const WRITES: [&str; 10] = [
        ".patch(",
        "::patch(",
        ".patch_metadata(",
        ".patch_status(",
        ".replace(",
        ".replace_status(",
        ".create(",
        ".delete(",
        ".delete_collection(",
        "PostParams",
    ];
    let mut seen = Vec::new();
    for (file, text) in code() {
        // Opening a file and replacing in a text are other things of the same names.
        let text = text.replace("options.create(true)", "").replace(".replace(\"", "");
        if WRITES.iter().any(|write| text.contains(write)) && text.contains("kube") {
            seen.push(file);
        }
    }
    seen.sort();
    assert_eq!(seen, ["kubernetes/report.rs", "kubernetes/write.rs"]);
}

#[test]
fn the_aws_sdk_stays_in_source_and_the_domain_knows_neither_kubernetes_nor_aws() {
    for (file, text) in code() {
        if ["aws_sdk_secretsmanager::", "aws_sdk_sqs::", "aws_sdk_sts::"].iter().any(|sdk| text.contains(sdk)) {
            assert!(file.starts_with("aws/"), "{file} uses the AWS SDK");
        }
        if file.starts_with("domain/payload") || file.starts_with("domain/render") {
            for foreign in ["kube::", "k8s_openapi", "aws_", "tokio", "std::env", "std::fs", "std::net"] {
                assert!(!text.contains(foreign), "{file} uses {foreign}");
            }
        }
    }
}
