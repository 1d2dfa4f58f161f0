//! Deleting and restoring.

use std::time::{Duration, SystemTime};

use super::subject::{Row, code, verdict};

pub const ROWS: &[Row] = &[
    Row {
        name: "a secret that waits for its deletion is not read",
        page: "apireference/API_DeleteSecret.html",
        says: "When a secret is scheduled for deletion, you cannot retrieve the secret value.",
        documented: "InvalidRequestException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.delete("app").await;
                subject.current("app").await
            })
        },
    },
    Row {
        name: "a secret that waits for its deletion is not written",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_Errors",
        says: "InvalidRequestException: The secret is scheduled for deletion.",
        documented: "PutSecretValue: InvalidRequestException; UpdateSecret: InvalidRequestException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.delete("app").await;
                let put = subject.aws.put_secret_value().secret_id(subject.name("app")).secret_string("b").send().await;
                let update = subject.aws.update_secret().secret_id(subject.name("app")).secret_string("b").send().await;
                format!("PutSecretValue: {}; UpdateSecret: {}", code(&put), code(&update))
            })
        },
    },
    Row {
        name: "labels of a secret that waits for its deletion are not moved",
        page: "apireference/API_UpdateSecretVersionStage.html#API_UpdateSecretVersionStage_Errors",
        says: "InvalidRequestException: The secret is scheduled for deletion.",
        documented: "InvalidRequestException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                subject.delete("app").await;
                let update = subject.aws.update_secret_version_stage().secret_id(subject.name("app"));
                code(&update.version_stage("mine").move_to_version_id(first).send().await)
            })
        },
    },
    Row {
        name: "the name of a secret that waits for its deletion is taken",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_Errors",
        says: "InvalidRequestException: The secret is scheduled for deletion.",
        documented: "InvalidRequestException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.delete("app").await;
                code(&subject.aws.create_secret().name(subject.name("app")).secret_string("b").send().await)
            })
        },
    },
    Row {
        name: "a secret that waits for its deletion is described, with the date",
        page: "apireference/API_DescribeSecret.html#API_DescribeSecret_ResponseSyntax",
        says: "DeletedDate: The date the secret is scheduled for deletion.",
        documented: "before: none; after: a date",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let date = || async {
                    let described = subject.aws.describe_secret().secret_id(subject.name("app")).send().await;
                    described.unwrap().deleted_date.map_or("none", |_| "a date")
                };
                let before = date().await;
                subject.delete("app").await;
                format!("before: {before}; after: {}", date().await)
            })
        },
    },
    Row {
        name: "a restored secret is as it was",
        page: "apireference/API_RestoreSecret.html",
        says: "You can access a secret again after it has been restored.",
        documented: "a",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.delete("app").await;
                subject.aws.restore_secret().secret_id(subject.name("app")).send().await.unwrap();
                subject.current("app").await
            })
        },
    },
    Row {
        name: "the window is 30 days unless said, and 7 to 30",
        page: "apireference/API_DeleteSecret.html#API_DeleteSecret_RequestSyntax",
        says: "The number of days from 7 to 30. If you don't use either, by default a 30 day recovery window is used.",
        documented: "6: refused as invalid; 31: refused as invalid; unsaid: 30 days",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let delete = || subject.aws.delete_secret().secret_id(subject.name("app"));
                let short = verdict(&delete().recovery_window_in_days(6).send().await);
                let long = verdict(&delete().recovery_window_in_days(31).send().await);
                let ends = SystemTime::try_from(delete().send().await.unwrap().deletion_date.unwrap()).unwrap();
                let window = ends.duration_since(SystemTime::now()).unwrap() + Duration::from_secs(60);
                format!("6: {short}; 31: {long}; unsaid: {} days", window.as_secs() / 86_400)
            })
        },
    },
    Row {
        name: "by force or with a window, not both",
        page: "apireference/API_DeleteSecret.html#API_DeleteSecret_RequestSyntax",
        says: "You can't use both this parameter and ForceDeleteWithoutRecovery in the same call.",
        documented: "refused as invalid",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let delete = subject.aws.delete_secret().secret_id(subject.name("app"));
                verdict(&delete.recovery_window_in_days(7).force_delete_without_recovery(true).send().await)
            })
        },
    },
    Row {
        name: "what is deleted by force is gone, and its name is free",
        page: "apireference/API_DeleteSecret.html#API_DeleteSecret_RequestSyntax",
        says: "Specifies whether to delete the secret without any recovery window.",
        documented: "ResourceNotFoundException; then b",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let delete = subject.aws.delete_secret().secret_id(subject.name("app"));
                delete.force_delete_without_recovery(true).send().await.unwrap();
                let gone = subject.current("app").await;
                subject.create("app", "b").await;
                format!("{gone}; then {}", subject.current("app").await)
            })
        },
    },
    Row {
        name: "to delete by force what is not there is no error",
        page: "apireference/API_DeleteSecret.html#API_DeleteSecret_RequestSyntax",
        says: "If you forcibly delete a nonexistent secret, the operation does not return ResourceNotFoundException.",
        documented: "by force: ok; with a window: ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move {
                let delete = || subject.aws.delete_secret().secret_id(subject.name("none"));
                let force = code(&delete().force_delete_without_recovery(true).send().await);
                format!("by force: {force}; with a window: {}", code(&delete().send().await))
            })
        },
    },
];
