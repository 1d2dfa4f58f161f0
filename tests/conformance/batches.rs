//! Reading many at once.

use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};

use super::subject::{Row, Subject, code, verdict};

/// What a batch answers: the texts and the errors, in alphabetical order.
async fn read(subject: &Subject, names: &[&str]) -> String {
    let ids = names.iter().map(|name| subject.name(name)).collect();
    let read = subject.aws.batch_get_secret_value().set_secret_id_list(Some(ids)).send().await;
    let Ok(answer) = &read else { return code(&read) };
    let mut values: Vec<&str> = answer.secret_values().iter().filter_map(|value| value.secret_string()).collect();
    values.sort_unstable();
    let mut errors: Vec<String> = answer
        .errors()
        .iter()
        .map(|error| {
            let name = error.secret_id().and_then(|id| id.rsplit('/').next()).unwrap_or_default();
            format!("{name}: {}", error.error_code().unwrap_or("no code"))
        })
        .collect();
    errors.sort_unstable();
    format!("values: {}; errors: {}", values.join(", "), errors.join(", "))
}

fn by_prefix(prefix: &str) -> Filter {
    Filter::builder().key(FilterNameStringType::Name).values(prefix).build()
}

pub const ROWS: &[Row] = &[
    Row {
        name: "a batch has 20 ids at most",
        page: "apireference/API_BatchGetSecretValue.html#API_BatchGetSecretValue_RequestSyntax",
        says: "Array Members: Minimum number of 1 item. Maximum number of 20 items.",
        documented: "20: accepted; 21: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let mut outcome = Vec::new();
                for count in [20, 21] {
                    let ids = (0..count).map(|number| subject.name(&format!("app-{number}"))).collect();
                    let read = subject.aws.batch_get_secret_value().set_secret_id_list(Some(ids)).send().await;
                    outcome.push(format!("{count}: {}", verdict(&read)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "a batch names what it does not find, and answers the rest",
        page: "apireference/API_BatchGetSecretValue.html",
        says: "If Secrets Manager encounters errors while retrieving any of the secrets, you can see them in Errors.",
        documented: "values: a, b; errors: none: ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move {
                subject.create("one", "a").await;
                subject.create("two", "b").await;
                read(&subject, &["one", "none", "two"]).await
            })
        },
    },
    Row {
        name: "a secret without a value does not fail the batch",
        page: "apireference/API_BatchGetSecretValue.html",
        says: "If Secrets Manager encounters errors while retrieving any of the secrets, you can see them in Errors.",
        documented: "values: a; errors: empty: ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move {
                subject.create("one", "a").await;
                subject.create_empty("empty").await;
                read(&subject, &["one", "empty"]).await
            })
        },
    },
    Row {
        name: "a secret that waits for its deletion does not fail the batch",
        page: "apireference/API_APIErrorType.html",
        says: "ErrorCode: for example ResourceNotFoundException, InvalidParameterException, InvalidRequestException.",
        documented: "values: a; errors: gone: InvalidRequestException",
        run: |subject| {
            Box::pin(async move {
                subject.create("one", "a").await;
                subject.create("gone", "b").await;
                subject.delete("gone").await;
                read(&subject, &["one", "gone"]).await
            })
        },
    },
    Row {
        name: "a batch gives the current values",
        page: "apireference/API_SecretValueEntry.html",
        says: "A structure that contains the secret value and other details for a secret.",
        documented: "values: b; errors: ",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.put("app", "b").await;
                subject.put_with("app", "c", &["mine"]).await;
                read(&subject, &["app"]).await
            })
        },
    },
    Row {
        name: "a batch needs ids or filters, and not both",
        page: "apireference/API_BatchGetSecretValue.html#API_BatchGetSecretValue_RequestSyntax",
        says: "You must include Filters or SecretIdList, but not both.",
        documented: "neither: refused as invalid; both: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let batch = || subject.aws.batch_get_secret_value();
                let neither = verdict(&batch().send().await);
                let both = batch().secret_id_list(subject.name("app")).filters(by_prefix(&subject.name("")));
                format!("neither: {neither}; both: {}", verdict(&both.send().await))
            })
        },
    },
    Row {
        name: "MaxResults of a batch needs filters",
        page: "apireference/API_BatchGetSecretValue.html#API_BatchGetSecretValue_RequestSyntax",
        says: "To use this parameter, you must also use the Filters parameter.",
        documented: "refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let batch = subject.aws.batch_get_secret_value().secret_id_list(subject.name("app"));
                verdict(&batch.max_results(5).send().await)
            })
        },
    },
    Row {
        name: "a batch by filters comes in pages",
        page: "apireference/API_BatchGetSecretValue.html#API_BatchGetSecretValue_ResponseSyntax",
        says: "Secrets Manager includes NextToken if there's more output available.",
        documented: "2, then 1",
        run: |subject| {
            Box::pin(async move {
                for name in ["a", "b", "c"] {
                    subject.create(name, name).await;
                }
                let batch = |token: Option<String>| {
                    let batch = subject.aws.batch_get_secret_value().filters(by_prefix(&subject.name("")));
                    batch.max_results(2).set_next_token(token).send()
                };
                let first = batch(None).await;
                let Ok(first) = &first else { return code(&first) };
                let second = batch(first.next_token.clone()).await.unwrap();
                format!("{}, then {}", first.secret_values().len(), second.secret_values().len())
            })
        },
    },
    Row {
        name: "a secret without a value does not fail a batch by filters",
        page: "apireference/API_BatchGetSecretValue.html",
        says: "If Secrets Manager encounters errors while retrieving any of the secrets, you can see them in Errors.",
        documented: "values: 1; errors: 1",
        run: |subject| {
            Box::pin(async move {
                subject.create("a", "a").await;
                subject.create_empty("b").await;
                let read = subject.aws.batch_get_secret_value().filters(by_prefix(&subject.name(""))).send().await;
                let Ok(answer) = &read else { return code(&read) };
                format!("values: {}; errors: {}", answer.secret_values().len(), answer.errors().len())
            })
        },
    },
];
