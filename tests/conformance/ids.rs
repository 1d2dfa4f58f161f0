//! How secrets are named and found, and what every answer has.

use aws_sdk_secretsmanager::operation::RequestId as _;

use super::subject::{Row, code, verdict};

pub const ROWS: &[Row] = &[
    Row {
        name: "a secret is found by name, by ARN, and by ARN without its suffix",
        page: "userguide/troubleshoot.html#ARN_secretnamehyphen",
        says: "Secrets Manager can usually find a secret from part of an ARN rather than the full ARN.",
        documented: "name, ARN, partial ARN",
        run: |subject| {
            Box::pin(async move {
                let arn = subject.create("app", "a").await;
                let partial = arn.rsplit_once('-').unwrap().0.to_owned();
                let mut found = Vec::new();
                for (form, id) in [("name", subject.name("app")), ("ARN", arn), ("partial ARN", partial)] {
                    let read = subject.aws.get_secret_value().secret_id(id).send().await;
                    found.extend(read.is_ok().then_some(form));
                }
                found.join(", ")
            })
        },
    },
    Row {
        name: "an ARN ends in the name, a hyphen and six characters",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_ResponseSyntax",
        says: "The ARN includes the name of the secret followed by six random characters.",
        documented: "6 characters after the name",
        run: |subject| {
            Box::pin(async move {
                let arn = subject.create("app", "a").await;
                let end = arn.split_once(&format!(":secret:{}-", subject.name("app"))).map(|(_, end)| end.len());
                end.map_or_else(|| "another form".to_owned(), |length| format!("{length} characters after the name"))
            })
        },
    },
    Row {
        name: "a secret made anew under its name is not found by the old ARN",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_ResponseSyntax",
        says: "Users with access to the old secret don't get access to the new one because the ARNs are different.",
        documented: "another ARN; by the old one: ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move {
                let old = subject.create("app", "a").await;
                let name = subject.name("app");
                subject.aws.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await.unwrap();
                let new = subject.create("app", "b").await;
                let read = subject.aws.get_secret_value().secret_id(&old).send().await;
                let same = if old == new { "the same ARN" } else { "another ARN" };
                format!("{same}; by the old one: {}", code(&read))
            })
        },
    },
    Row {
        name: "a name has 512 characters at most",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_RequestSyntax",
        says: "Length Constraints: Minimum length of 1. Maximum length of 512.",
        documented: "512: accepted; 513: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let mut outcome = Vec::new();
                for length in [512, 513] {
                    let name = format!("{:x<length$}", subject.name("app"));
                    let created = subject.aws.create_secret().name(name).secret_string("a").send().await;
                    outcome.push(format!("{length}: {}", verdict(&created)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "a name holds ASCII letters, numbers and /_+=.@-",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_RequestSyntax",
        says: "The secret name can contain ASCII letters, numbers, and the following characters: /_+=.@-",
        documented: "those: accepted; a space: refused as invalid; ü: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let mut outcome = Vec::new();
                for (what, name) in [("those", "aZ0/_+=.@-"), ("a space", "a b"), ("ü", "ü")] {
                    let created = subject.aws.create_secret().name(subject.name(name)).secret_string("a").send().await;
                    outcome.push(format!("{what}: {}", verdict(&created)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "a secret that is not there",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_Errors",
        says: "ResourceNotFoundException: Secrets Manager can't find the resource that you asked for.",
        documented: "ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move { code(&subject.aws.get_secret_value().secret_id(subject.name("none")).send().await) })
        },
    },
    Row {
        name: "the error that nothing was found has a status",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_Errors",
        says: "ResourceNotFoundException: HTTP Status Code: 400",
        documented: "400",
        run: |subject| {
            Box::pin(async move {
                let read = subject.aws.get_secret_value().secret_id(subject.name("none")).send().await;
                read.unwrap_err().raw_response().unwrap().status().to_string()
            })
        },
    },
    Row {
        name: "each answer and each error has a request id of its own",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_Examples",
        says: "The answers of the examples have the header x-amzn-RequestId.",
        documented: "on both, different",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let read = subject.aws.get_secret_value().secret_id(subject.name("app")).send().await.unwrap();
                let failed = subject.aws.get_secret_value().secret_id(subject.name("none")).send().await.unwrap_err();
                match (read.request_id(), failed.request_id()) {
                    (Some(one), Some(other)) if one != other => "on both, different".to_owned(),
                    (Some(_), Some(_)) => "on both, the same".to_owned(),
                    (one, other) => format!("answer: {}, error: {}", one.is_some(), other.is_some()),
                }
            })
        },
    },
];
