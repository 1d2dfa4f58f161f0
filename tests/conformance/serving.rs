//! What the stand-in does beside what AWS documents: it waits, throttles, fails and counts as it is told.

use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use aws_sdk_secretsmanager::operation::RequestId as _;

use super::standin::{Options, StandIn};
use super::subject::{Subject, code};

async fn start() -> (StandIn, aws_sdk_secretsmanager::Client) {
    let standin = StandIn::start(Options { latency: Duration::ZERO, ..Options::default() }).await;
    let client = Subject::new(&standin.endpoint, 0).aws;
    (standin, client)
}

#[tokio::test]
async fn every_call_is_on_record_with_its_request_id_and_the_values_it_sent() {
    let (standin, aws) = start().await;
    let version = standin.put("a", "1");
    standin.put("b", "2");
    assert!(standin.calls().is_empty(), "what a test puts is no call");
    let read = aws.get_secret_value().secret_id("a").send().await.unwrap();
    assert_eq!((read.version_id(), read.arn()), (Some(version.as_str()), standin.arn("a").as_deref()));
    let batch = aws.batch_get_secret_value().secret_id_list("a").secret_id_list("b").secret_id_list("c").send().await;
    assert_eq!(batch.unwrap().secret_values().len(), 2);
    let failed = aws.describe_secret().secret_id("c").send().await.unwrap_err();

    let calls = standin.calls();
    let ids: Vec<_> = calls.iter().map(|call| call.request_id.as_str()).collect();
    assert_eq!((read.request_id(), failed.request_id()), (Some(ids[0]), Some(ids[2])));
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (call.operation.as_str(), call.secrets.join(" "), call.status, call.code.as_deref(), call.values))
        .collect();
    assert_eq!(
        seen,
        [
            ("GetSecretValue", "a".to_owned(), 200, None, 1),
            ("BatchGetSecretValue", "a b c".to_owned(), 200, None, 2),
            ("DescribeSecret", "c".to_owned(), 400, Some("ResourceNotFoundException"), 0),
        ]
    );
    assert_eq!(standin.values_sent(), 3);
    assert_eq!(standin.counts()["GetSecretValue"], 1);
    standin.reset();
    assert!(standin.calls().is_empty() && standin.counts().is_empty() && standin.values_sent() == 0);
}

#[tokio::test]
async fn beyond_the_rate_calls_are_throttled_as_aws_words_it() {
    let (standin, aws) = start().await;
    standin.put("a", "1");
    // So slow a rate that nothing comes back during the test.
    standin.set_options(|options| options.rate = Some((0.001, 2.0)));
    assert!(aws.get_secret_value().secret_id("a").send().await.is_ok());
    assert!(aws.list_secrets().send().await.is_ok(), "the allowance is of all operations together");
    let throttled = aws.get_secret_value().secret_id("a").send().await.unwrap_err();
    assert_eq!((throttled.code(), throttled.message()), (Some("ThrottlingException"), Some("Rate exceeded")));
    assert_eq!(throttled.raw_response().unwrap().status().as_u16(), 400);
    assert_eq!((standin.throttled(), standin.counts()["GetSecretValue"], standin.values_sent()), (1, 2, 1));
    standin.set_options(|options| options.rate = None);
    assert!(aws.get_secret_value().secret_id("a").send().await.is_ok());
}

#[tokio::test]
async fn a_read_fails_as_it_is_told_until_it_is_healed() {
    let (standin, aws) = start().await;
    standin.put("a", "1");
    let read = || aws.get_secret_value().secret_id("a").send();
    for (fault, status) in [("DecryptionFailure", 400), ("InternalServiceError", 500)] {
        standin.fail("a", fault, "as told");
        let failed = read().await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Some(fault), Some("as told")));
        assert_eq!(failed.raw_response().unwrap().status().as_u16(), status);
    }
    standin.heal("a");
    assert_eq!(code(&read().await), "ok");
}

#[tokio::test]
async fn an_answer_takes_its_time_and_calls_wait_beside_each_other() {
    let (standin, aws) = start().await;
    standin.put("a", "1");
    let latency = Duration::from_millis(200);
    standin.set_options(|options| options.latency = latency);
    let started = Instant::now();
    let reads = (0..20).map(|_| aws.get_secret_value().secret_id("a").send());
    assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));
    let taken = started.elapsed();
    assert!(taken >= latency && taken < latency * 10, "{taken:?}");
}

#[tokio::test]
async fn every_role_is_assumed() {
    let (standin, _) = start().await;
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&standin.endpoint)
        .region(aws_sdk_sts::config::Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("conformance", "conformance", None, None, "test"));
    let sts = aws_sdk_sts::Client::from_conf(config.build());
    assert_eq!(sts.get_caller_identity().send().await.unwrap().account(), Some("123456789012"));
    let role = "arn:aws:iam::123456789012:role/team/app";
    let assumed = sts.assume_role().role_arn(role).role_session_name("one").send().await.unwrap();
    let arn = "arn:aws:sts::123456789012:assumed-role/app/one";
    assert_eq!(assumed.assumed_role_user().unwrap().arn(), arn);
    assert!(assumed.credentials().unwrap().session_token().len() > 1);
    assert_eq!(standin.counts()["AssumeRole"], 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --test conformance -- --ignored --nocapture"]
#[expect(clippy::print_stdout, reason = "the numbers are what the run is for")]
async fn how_many_calls_it_serves() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    const SECRETS: usize = 5000;
    const CALLS: usize = 20_000;
    let (standin, _) = start().await;
    let names: Vec<String> = (0..SECRETS).map(|number| format!("team/app-{number}")).collect();
    let started = Instant::now();
    for name in &names {
        standin.put(name, &"x".repeat(1000));
    }
    println!("put: {:.0}/s", 5000.0 / started.elapsed().as_secs_f64());
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<axum::body::Bytes>>();
    for operation in ["GetSecretValue", "DescribeSecret", "BatchGetSecretValue", "ListSecrets"] {
        let calls = if operation.starts_with(['B', 'L']) { CALLS / 20 } else { CALLS };
        let started = Instant::now();
        let tasks = (0..32).map(|task| {
            let (client, endpoint, names) = (client.clone(), standin.endpoint.clone(), names.clone());
            tokio::spawn(async move {
                for call in (task..calls).step_by(32) {
                    let ids: Vec<&String> = (0..20).map(|number| &names[(call * 20 + number) % SECRETS]).collect();
                    let body = match operation {
                        "BatchGetSecretValue" => serde_json::json!({"SecretIdList": ids}),
                        "ListSecrets" => serde_json::json!({"Filters": [{"Key": "name", "Values": ["team/"]}]}),
                        _ => serde_json::json!({"SecretId": names[call % SECRETS]}),
                    };
                    let request = hyper::Request::post(&endpoint)
                        .header("x-amz-target", format!("secretsmanager.{operation}"))
                        .body(Full::from(body.to_string()));
                    let answer = client.request(request.unwrap()).await.unwrap();
                    assert!(answer.status().is_success());
                    answer.into_body().collect().await.unwrap();
                }
            })
        });
        futures::future::try_join_all(tasks.collect::<Vec<_>>()).await.unwrap();
        let rate = f64::from(u32::try_from(calls).unwrap()) / started.elapsed().as_secs_f64();
        println!("{operation}: {rate:.0}/s");
    }
}
