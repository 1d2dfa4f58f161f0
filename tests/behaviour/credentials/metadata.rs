//! What gives credentials inside a cluster besides STS: the agent of EKS Pod Identity and the metadata of an instance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;

/// Where a key pair is given: by Pod Identity, and by the metadata for the role `node`.
pub const POD: &str = "/v1/credentials";
/// Where the metadata names the role.
pub const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// Where the metadata gives its keys.
pub const NODE: &str = "/latest/meta-data/iam/security-credentials/node";

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status and a body.
    Now(u16, String),
    /// Nothing, for a minute.
    Never,
}

/// A running server. What nobody has told it is not found.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Where it listens.
    pub endpoint: String,
    answers: Answers,
}

type Answers = Arc<Mutex<BTreeMap<&'static str, Answer>>>;

/// Keys that end in this many seconds.
pub fn keys(id: &str, ends_in: i64) -> String {
    use k8s_openapi::jiff::Timestamp;
    let end = Timestamp::from_second(Timestamp::now().as_second() + ends_in).unwrap();
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id, "SecretAccessKey": "canary-7f3a-key",
        "Token": "canary-7f3a-token", "Expiration": end.to_string(), "LastUpdated": "2026-01-01T00:00:00Z",
    })
    .to_string()
}

impl Metadata {
    /// Starts one that gives good keys.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answers: Answers = Arc::default();
        let served = Self { endpoint, answers: answers.clone() };
        served.answer("/latest/api/token", Answer::Now(200, "metadata".to_owned()));
        served.answer(ROLES, Answer::Now(200, "node".to_owned()));
        for path in [POD, NODE] {
            served.answer(path, Answer::Now(200, keys("ASIAGOOD", 3600)));
        }
        let app = Router::new().fallback(respond).with_state(answers);
        tokio::spawn(async move { axum::serve(listener, app).await });
        served
    }

    /// Says what it answers from now on.
    pub fn answer(&self, path: &'static str, answer: Answer) {
        self.answers.lock().unwrap().insert(path, answer);
    }
}

async fn respond(State(answers): State<Answers>, request: Request) -> Response {
    let answer = answers.lock().unwrap().get(request.uri().path()).cloned();
    let (status, body) = match answer {
        Some(Answer::Now(status, body)) => (status, body),
        Some(Answer::Never) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            (503, String::new())
        }
        None => (404, String::new()),
    };
    let answer = Response::builder().status(status).header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    answer.body(Body::from(body)).unwrap()
}
