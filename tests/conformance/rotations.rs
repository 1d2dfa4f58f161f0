//! Rotation by Secrets Manager.

use std::time::{Duration, Instant};

use super::subject::{Row, Subject, code};

const LAMBDA: &str = "arn:aws:lambda:eu-west-1:123456789012:function:conformance";

/// Starts a rotation and says how that ended.
async fn rotate(subject: &Subject, name: &str) -> String {
    let rotate = subject.aws.rotate_secret().secret_id(subject.name(name)).rotation_lambda_arn(LAMBDA);
    code(&rotate.send().await)
}

pub const ROWS: &[Row] = &[
    Row {
        name: "a rotation needs a function",
        page: "apireference/API_RotateSecret.html#API_RotateSecret_Errors",
        says: "InvalidRequestException: You tried to enable rotation on a secret that doesn't already have a Lambda \
               function ARN configured and you didn't include such an ARN.",
        documented: "InvalidRequestException; current: a",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let rotated = code(&subject.aws.rotate_secret().secret_id(subject.name("app")).send().await);
                format!("{rotated}; current: {}", subject.current("app").await)
            })
        },
    },
    Row {
        name: "a rotation begins with a version that is pending and empty; the current one stays until it ends",
        page: "apireference/API_RotateSecret.html",
        says: "Configures and starts the asynchronous process of rotating the secret.",
        documented: "ok; AWSCURRENT=1 AWSPENDING=0; pending: ResourceNotFoundException; listed: 1; at last another value",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let rotated = rotate(&subject, "app").await;
                if rotated != "ok" {
                    return rotated;
                }
                let labels = subject.labels("app", &[&first]).await;
                let pending = subject.read("app", "AWSPENDING").await;
                let listed = subject.aws.list_secret_version_ids().secret_id(subject.name("app")).send().await.unwrap();
                let listed = listed.versions().len();
                let started = Instant::now();
                while subject.current("app").await == "a" && started.elapsed() < Duration::from_secs(10) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let last = if subject.current("app").await == "a" { "the same value" } else { "another value" };
                format!("{rotated}; {labels}; pending: {pending}; listed: {listed}; at last {last}")
            })
        },
    },
    Row {
        name: "a second rotation is refused while the first is under way",
        page: "apireference/API_RotateSecret.html",
        says: "If AWSPENDING is not attached to the same version as AWSCURRENT, then RotateSecret returns an error.",
        documented: "InvalidRequestException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.put_with("app", "b", &["AWSPENDING"]).await;
                rotate(&subject, "app").await
            })
        },
    },
];
