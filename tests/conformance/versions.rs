//! How versions come to be, and how they are read.

use std::time::Duration;

use aws_sdk_secretsmanager::primitives::Blob;
use aws_smithy_types::body::SdkBody;

use super::subject::{Row, code, text_or_code, verdict};

const TOKEN: &str = "11111111-1111-1111-1111-111111111111";
const OTHER_TOKEN: &str = "22222222-2222-2222-2222-222222222222";

pub const CREATED: &[Row] = &[
    Row {
        name: "a name is created once",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_Errors",
        says: "ResourceExistsException: A resource with the ID you requested already exists.",
        documented: "ResourceExistsException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                code(&subject.aws.create_secret().name(subject.name("app")).secret_string("a").send().await)
            })
        },
    },
    Row {
        name: "CreateSecret once more with the same token and value is ignored",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_RequestSyntax",
        says: "If a version with this value already exists and the values are the same, then the request is ignored.",
        documented: "ok, version as the token",
        run: |subject| {
            Box::pin(async move {
                let create = || {
                    let create = subject.aws.create_secret().name(subject.name("app")).secret_string("a");
                    create.client_request_token(TOKEN).send()
                };
                create().await.unwrap();
                let again = create().await;
                let same = again.as_ref().is_ok_and(|again| again.version_id() == Some(TOKEN));
                format!("{}{}", code(&again), if same { ", version as the token" } else { "" })
            })
        },
    },
    Row {
        name: "CreateSecret once more with the same token and another value fails",
        page: "apireference/API_CreateSecret.html#API_CreateSecret_RequestSyntax",
        says: "If that version's values are different, then the request fails because you cannot modify an existing version.",
        documented: "ResourceExistsException; a stays",
        run: |subject| {
            Box::pin(async move {
                let create = |text: &str| {
                    let create = subject.aws.create_secret().name(subject.name("app")).secret_string(text);
                    create.client_request_token(TOKEN).send()
                };
                create("a").await.unwrap();
                let again = code(&create("b").await);
                format!("{again}; {} stays", subject.current("app").await)
            })
        },
    },
    Row {
        name: "a secret without a value has no version",
        page: "apireference/API_CreateSecret.html",
        says: "If you include SecretString or SecretBinary, then Secrets Manager creates an initial secret version.",
        documented: "version: none; GetSecretValue: ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move {
                let created = subject.aws.create_secret().name(subject.name("app")).send().await.unwrap();
                let version = created.version_id.map_or("none", |_| "one");
                format!("version: {version}; GetSecretValue: {}", subject.current("app").await)
            })
        },
    },
    Row {
        name: "a ClientRequestToken has 32 to 64 characters",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "Length Constraints: Minimum length of 32. Maximum length of 64.",
        documented: "31: refused as invalid; 32: accepted; 64: accepted; 65: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let mut outcome = Vec::new();
                for length in [31, 32, 64, 65] {
                    let put = subject.aws.put_secret_value().secret_id(subject.name("app")).secret_string("b");
                    let put = put.client_request_token("1".repeat(length)).send().await;
                    outcome.push(format!("{length}: {}", verdict(&put)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "a raw call without a ClientRequestToken is refused",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "If you generate a raw HTTP request, then you must generate a ClientRequestToken and include it.",
        documented: "refused as invalid",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let body = serde_json::json!({"SecretId": subject.name("app"), "SecretString": "b"}).to_string();
                // The SDK makes a token up, so its request is replaced.
                let put = subject.aws.put_secret_value().secret_id("x").secret_string("x").customize();
                let put = put.mutate_request(move |request| {
                    request.headers_mut().insert("content-length", body.len().to_string());
                    *request.body_mut() = SdkBody::from(body.as_str());
                });
                verdict(&put.send().await)
            })
        },
    },
    Row {
        name: "a value has 65,536 bytes at most",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "Length Constraints: Minimum length of 1. Maximum length of 65536.",
        documented: "65536: accepted; 65537: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let mut outcome = Vec::new();
                for length in [65_536, 65_537] {
                    let put = subject.aws.put_secret_value().secret_id(subject.name("app"));
                    outcome.push(format!("{length}: {}", verdict(&put.secret_string("x".repeat(length)).send().await)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "a binary value comes back as it was, and not as text",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_ResponseSyntax",
        says: "The decrypted secret value, if the secret value was originally provided as binary data.",
        documented: "the bytes, no text",
        run: |subject| {
            Box::pin(async move {
                let bytes = Blob::new([0_u8, 159, 146, 150]);
                let create = subject.aws.create_secret().name(subject.name("app")).secret_binary(bytes.clone());
                create.send().await.unwrap();
                let read = subject.aws.get_secret_value().secret_id(subject.name("app")).send().await.unwrap();
                let same = if read.secret_binary == Some(bytes) { "the bytes" } else { "other bytes" };
                format!("{same}, {}", if read.secret_string.is_none() { "no text" } else { "and text" })
            })
        },
    },
];

pub const PUT: &[Row] = &[
    Row {
        name: "the ClientRequestToken becomes the version id",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "This value becomes the VersionId of the new version.",
        documented: "the token",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let put = subject.aws.put_secret_value().secret_id(subject.name("app")).secret_string("b");
                let put = put.client_request_token(TOKEN).send().await.unwrap();
                let token = put.version_id() == Some(TOKEN) && subject.version("app").await == TOKEN;
                if token { "the token" } else { "another" }.to_owned()
            })
        },
    },
    Row {
        name: "PutSecretValue once more with the same token and value does nothing, though newer versions exist",
        page: "apireference/API_PutSecretValue.html",
        says: "If you specify the same secret data, the operation succeeds but does nothing.",
        documented: "ok; AWSCURRENT=2 AWSPREVIOUS=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let put = |token: &str, text: &str| {
                    let put = subject.aws.put_secret_value().secret_id(subject.name("app")).secret_string(text);
                    put.client_request_token(token).send()
                };
                put(TOKEN, "b").await.unwrap();
                put(OTHER_TOKEN, "c").await.unwrap();
                let again = code(&put(TOKEN, "b").await);
                format!("{again}; {}", subject.labels("app", &[TOKEN, OTHER_TOKEN]).await)
            })
        },
    },
    Row {
        name: "PutSecretValue once more with the same token and another value fails",
        page: "apireference/API_PutSecretValue.html",
        says: "If the secret data is different, then the operation fails because you can't modify an existing version.",
        documented: "ResourceExistsException; b stays",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let put = |text: &str| {
                    let put = subject.aws.put_secret_value().secret_id(subject.name("app")).secret_string(text);
                    put.client_request_token(TOKEN).send()
                };
                put("b").await.unwrap();
                let again = code(&put("c").await);
                format!("{again}; {} stays", subject.current("app").await)
            })
        },
    },
    Row {
        name: "PutSecretValue without a value is refused",
        page: "apireference/API_PutSecretValue.html#API_PutSecretValue_RequestSyntax",
        says: "You must include SecretBinary or SecretString, but not both.",
        documented: "neither: refused as invalid; both: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let put = || subject.aws.put_secret_value().secret_id(subject.name("app"));
                let neither = verdict(&put().send().await);
                let both = verdict(&put().secret_string("b").secret_binary(Blob::new("c")).send().await);
                format!("neither: {neither}; both: {both}")
            })
        },
    },
    Row {
        name: "UpdateSecret with a value moves AWSCURRENT and AWSPREVIOUS",
        page: "apireference/API_UpdateSecret.html",
        says: "Secrets Manager moves AWSCURRENT to the new version and attaches AWSPREVIOUS to the one it was removed from.",
        documented: "AWSCURRENT=2 AWSPREVIOUS=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let update = subject.aws.update_secret().secret_id(subject.name("app")).secret_string("b");
                let second = update.send().await.unwrap().version_id.unwrap_or_default();
                subject.labels("app", &[&first, &second]).await
            })
        },
    },
    Row {
        name: "UpdateSecret with the token of an existing version fails, even with the same value",
        page: "apireference/API_UpdateSecret.html",
        says: "If you call this operation with a ClientRequestToken that matches an existing version's VersionId, the \
               operation results in an error.",
        documented: "ResourceExistsException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let update = || {
                    let update = subject.aws.update_secret().secret_id(subject.name("app")).secret_string("b");
                    update.client_request_token(TOKEN).send()
                };
                update().await.unwrap();
                code(&update().await)
            })
        },
    },
    Row {
        name: "UpdateSecret without a value makes no version",
        page: "apireference/API_UpdateSecret.html#API_UpdateSecret_ResponseSyntax",
        says: "If Secrets Manager created a new version during this operation, then VersionId contains its identifier.",
        documented: "version: none; AWSCURRENT=1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                let update = subject.aws.update_secret().secret_id(subject.name("app")).description("about");
                let version = update.send().await.unwrap().version_id.map_or("none", |_| "one");
                format!("version: {version}; {}", subject.labels("app", &[&first]).await)
            })
        },
    },
];

pub const READ: &[Row] = &[
    Row {
        name: "a version is read by its id, though it has lost its labels",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_RequestSyntax",
        says: "VersionId: The unique identifier of the version of the secret to retrieve.",
        documented: "a, labels: 0",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                subject.put("app", "b").await;
                subject.put("app", "c").await;
                let read = subject.aws.get_secret_value().secret_id(subject.name("app")).version_id(first).send().await;
                let labels = read.as_ref().map_or(0, |read| read.version_stages().len());
                format!("{}, labels: {labels}", text_or_code(read.map(|read| read.secret_string)))
            })
        },
    },
    Row {
        name: "VersionId and VersionStage must mean the same version",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_RequestSyntax",
        says: "If you include both, the two parameters must refer to the same secret version.",
        documented: "the same: a; another: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                subject.put("app", "b").await;
                let read = |label: &str| {
                    let read = subject.aws.get_secret_value().secret_id(subject.name("app"));
                    read.version_id(&first).version_stage(label).send()
                };
                let same = text_or_code(read("AWSPREVIOUS").await.map(|read| read.secret_string));
                format!("the same: {same}; another: {}", verdict(&read("AWSCURRENT").await))
            })
        },
    },
    Row {
        name: "a label or version id that is not there",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_Errors",
        says: "ResourceNotFoundException: Secrets Manager can't find the resource that you asked for.",
        documented: "label: ResourceNotFoundException; version id: ResourceNotFoundException",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let label = subject.read("app", "none").await;
                let read = subject.aws.get_secret_value().secret_id(subject.name("app")).version_id(TOKEN).send().await;
                format!("label: {label}; version id: {}", code(&read))
            })
        },
    },
    Row {
        name: "GetSecretValue gives the creation date of the version",
        page: "apireference/API_GetSecretValue.html#API_GetSecretValue_ResponseSyntax",
        says: "CreatedDate: The date and time that this version of the secret was created.",
        documented: "the second is later",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                subject.put("app", "b").await;
                let read = |label: &str| {
                    let read = subject.aws.get_secret_value().secret_id(subject.name("app"));
                    read.version_stage(label).send()
                };
                let first = read("AWSPREVIOUS").await.unwrap().created_date.unwrap();
                let second = read("AWSCURRENT").await.unwrap().created_date.unwrap();
                if second > first { "the second is later" } else { "both at one time" }.to_owned()
            })
        },
    },
    Row {
        name: "ListSecretVersionIds gives the creation date of each version",
        page: "apireference/API_SecretVersionsListEntry.html",
        says: "CreatedDate: The date and time this version of the secret was created.",
        documented: "the second is later",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                let first = subject.version("app").await;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                subject.put("app", "b").await;
                let listed = subject.aws.list_secret_version_ids().secret_id(subject.name("app")).send().await.unwrap();
                let (old, new): (Vec<_>, Vec<_>) =
                    listed.versions().iter().partition(|version| version.version_id() == Some(first.as_str()));
                if new[0].created_date() > old[0].created_date() { "the second is later" } else { "both at one time" }
                    .to_owned()
            })
        },
    },
];
