//! What labels do when values are written and when they are moved.

use std::time::Duration;

use super::subject::{Row, code};

pub const WRITTEN: &[Row] = &[
    Row {
        name: "PutSecretValue moves AWSCURRENT and AWSPREVIOUS",
        page: "apireference/API_PutSecretValue.html",
        says: "Secrets Manager also automatically moves AWSPREVIOUS to the version that AWSCURRENT was removed from.",
        documented: "AWSCURRENT=3 AWSPREVIOUS=2",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put("app", "b").await;
                let third = subject.put("app", "c").await;
                // The first has no label left, so that AWS does not name it.
                subject.labels("app", &[&first, &second, &third]).await
            })
        },
    },
    Row {
        name: "PutSecretValue with labels of its own does not move AWSCURRENT",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "If you don't include VersionStages, then Secrets Manager automatically moves AWSCURRENT to this version.",
        documented: "AWSCURRENT=1 mine=2; current: a; mine: b",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put_with("app", "b", &["mine"]).await;
                let labels = subject.labels("app", &[&first, &second]).await;
                let (current, mine) = (subject.current("app").await, subject.read("app", "mine").await);
                format!("{labels}; current: {current}; mine: {mine}")
            })
        },
    },
    Row {
        name: "PutSecretValue takes its labels off other versions",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "If the label is already associated with a different version, then Secrets Manager removes it from there.",
        documented: "AWSCURRENT=1 mine=3",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put_with("app", "b", &["mine"]).await;
                let third = subject.put_with("app", "c", &["mine"]).await;
                subject.labels("app", &[&first, &second, &third]).await
            })
        },
    },
    Row {
        name: "the first version of a secret gets AWSCURRENT, whatever its labels",
        page: "apireference/API_PutSecretValue.html",
        says: "If this operation creates the first version, then Secrets Manager automatically attaches AWSCURRENT to it.",
        documented: "AWSCURRENT=1 mine=1",
        run: |subject| {
            Box::pin(async move {
                subject.create_empty("app").await;
                let first = subject.put_with("app", "a", &["mine"]).await;
                subject.labels("app", &[&first]).await
            })
        },
    },
    Row {
        name: "a label of one's own stays on its version when AWSCURRENT moves on",
        page: "userguide/whats-in-a-secret.html#term_version",
        says: "Secrets Manager never removes labeled versions. (What a write moves is AWSCURRENT and AWSPREVIOUS.)",
        documented: "AWSCURRENT=3 AWSPREVIOUS=2 mine=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                subject.move_label("app", "mine", Some(&first), None).await;
                let second = subject.put("app", "b").await;
                let third = subject.put("app", "c").await;
                subject.labels("app", &[&first, &second, &third]).await
            })
        },
    },
    Row {
        name: "a secret has 20 labels at most",
        page: "userguide/reference_limits.html",
        says: "Staging labels attached across all versions of a secret: 20",
        documented: "20: ok; 21: LimitExceededException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let put = |text: &str, labels: std::ops::Range<u32>| {
                    let labels = labels.map(|number| format!("label-{number}")).collect();
                    let put = subject.aws.put_secret_value().secret_id(subject.name("app")).secret_string(text);
                    put.set_version_stages(Some(labels)).send()
                };
                let twenty = code(&put("b", 1..20).await);
                format!("20: {twenty}; 21: {}", code(&put("c", 20..21).await))
            })
        },
    },
];

pub const MOVED: &[Row] = &[
    Row {
        name: "a read after AWSCURRENT was moved gives the other value",
        page: "apireference/API_UpdateSecretVersionStage.html",
        says: "You can move the AWSCURRENT staging label to this version by including it in this call.",
        documented: "accepted; plain: b; by label: b",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put_with("app", "b", &["next"]).await;
                let moved = subject.move_label("app", "AWSCURRENT", Some(&second), Some(&first)).await;
                let (plain, label) = (subject.current("app").await, subject.read("app", "AWSCURRENT").await);
                format!("{moved}; plain: {plain}; by label: {label}")
            })
        },
    },
    Row {
        name: "moving AWSCURRENT puts AWSPREVIOUS on the version that had it",
        page: "apireference/API_UpdateSecretVersionStage.html",
        says: "Whenever you move AWSCURRENT, AWSPREVIOUS moves to the version that AWSCURRENT was removed from.",
        documented: "AWSCURRENT=3 AWSPREVIOUS=2 next=3",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put("app", "b").await;
                let third = subject.put_with("app", "c", &["next"]).await;
                subject.move_label("app", "AWSCURRENT", Some(&third), Some(&second)).await;
                subject.labels("app", &[&first, &second, &third]).await
            })
        },
    },
    Row {
        name: "going back to the previous version exchanges the two labels",
        page: "apireference/API_GetSecretValue.html",
        says: "To revert to the previous version of a secret, call UpdateSecretVersionStage.",
        documented: "AWSCURRENT=1 AWSPREVIOUS=2; previous: b",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put("app", "b").await;
                subject.move_label("app", "AWSCURRENT", Some(&first), Some(&second)).await;
                let labels = subject.labels("app", &[&first, &second]).await;
                format!("{labels}; previous: {}", subject.read("app", "AWSPREVIOUS").await)
            })
        },
    },
    Row {
        name: "a move fails if the label is not on the version that it is to be removed from",
        page: "apireference/API_UpdateSecretVersionStage.html#API_UpdateSecretVersionStage_RequestSyntax",
        says: "If the label is attached and the version ID does not match, then the operation fails.",
        documented: "refused as invalid; AWSCURRENT=2 AWSPREVIOUS=1 next=3",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put("app", "b").await;
                let third = subject.put_with("app", "c", &["next"]).await;
                let moved = subject.move_label("app", "AWSCURRENT", Some(&third), Some(&first)).await;
                format!("{moved}; {}", subject.labels("app", &[&first, &second, &third]).await)
            })
        },
    },
    Row {
        name: "AWSCURRENT is not moved without naming the version that has it",
        page: "apireference/API_UpdateSecretVersionStage.html#API_UpdateSecretVersionStage_RequestSyntax",
        says: "If the label is attached and you do not specify this parameter, then the operation fails.",
        documented: "refused as invalid; AWSCURRENT=2 AWSPREVIOUS=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put("app", "b").await;
                let moved = subject.move_label("app", "AWSCURRENT", Some(&first), None).await;
                format!("{moved}; {}", subject.labels("app", &[&first, &second]).await)
            })
        },
    },
    Row {
        name: "nor is any other label",
        page: "apireference/API_UpdateSecretVersionStage.html#API_UpdateSecretVersionStage_RequestSyntax",
        says: "If the label is attached and you do not specify this parameter, then the operation fails.",
        documented: "refused as invalid; AWSCURRENT=1 mine=2",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let second = subject.put_with("app", "b", &["mine"]).await;
                let moved = subject.move_label("app", "mine", Some(&first), None).await;
                format!("{moved}; {}", subject.labels("app", &[&first, &second]).await)
            })
        },
    },
    Row {
        name: "a new label is attached without further ado",
        page: "apireference/API_UpdateSecretVersionStage.html",
        says: "The labels in VersionStage are added to the existing list of staging labels for the version.",
        documented: "accepted; AWSCURRENT=1 hold=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let moved = subject.move_label("app", "hold", Some(&first), None).await;
                format!("{moved}; {}", subject.labels("app", &[&first]).await)
            })
        },
    },
    Row {
        name: "AWSCURRENT is not taken off without a version to move it to",
        page: "userguide/whats-in-a-secret.html#term_version",
        says: "A secret always has a version labeled AWSCURRENT.",
        documented: "refused as invalid; AWSCURRENT=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let moved = subject.move_label("app", "AWSCURRENT", None, Some(&first)).await;
                format!("{moved}; {}", subject.labels("app", &[&first]).await)
            })
        },
    },
    Row {
        name: "a version that loses its last label is deprecated: listed only where asked for",
        page: "apireference/API_ListSecretVersionIds.html#API_ListSecretVersionIds_RequestSyntax",
        says: "By default, versions without staging labels aren't included.",
        documented: "before: 2; after: 1; with IncludeDeprecated: 2",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let second = subject.put_with("app", "b", &["mine"]).await;
                let list = |deprecated: bool| {
                    let list = subject.aws.list_secret_version_ids().secret_id(subject.name("app"));
                    list.include_deprecated(deprecated).send()
                };
                let before = list(false).await.unwrap().versions().len();
                subject.move_label("app", "mine", None, Some(&second)).await;
                let (after, all) = (list(false).await.unwrap(), list(true).await.unwrap());
                let (after, all) = (after.versions().len(), all.versions().len());
                format!("before: {before}; after: {after}; with IncludeDeprecated: {all}")
            })
        },
    },
    Row {
        name: "LastChangedDate moves with a label too",
        page: "apireference/API_DescribeSecret.html#API_DescribeSecret_ResponseSyntax",
        says: "LastChangedDate: The last date and time that this secret was modified in any way.",
        documented: "later",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let changed = || async {
                    let described = subject.aws.describe_secret().secret_id(subject.name("app")).send().await;
                    described.unwrap().last_changed_date.unwrap()
                };
                let before = changed().await;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                subject.move_label("app", "mine", Some(&first), None).await;
                if changed().await > before { "later" } else { "as it was" }.to_owned()
            })
        },
    },
];
