//! What a row is tried on, and how its outcome is put into words.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use futures::future::BoxFuture;

/// One behaviour.
pub struct Row {
    /// What is claimed.
    pub name: &'static str,
    /// The page of AWS's documentation that it rests on, below [`GUIDE`].
    pub page: &'static str,
    /// What that page says, in short.
    pub says: &'static str,
    /// The outcome that follows from it.
    pub documented: &'static str,
    /// Brings it about.
    pub run: fn(Subject) -> BoxFuture<'static, String>,
}

/// Where AWS documents Secrets Manager.
pub const GUIDE: &str = "https://docs.aws.amazon.com/secretsmanager/latest/";

/// A Secrets Manager, and the names that one row has in it.
#[derive(Clone)]
pub struct Subject {
    pub aws: Client,
    prefix: String,
}

impl Subject {
    pub fn new(endpoint: &str, row: usize) -> Self {
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("conformance", "conformance", None, None, "test"))
            // A row sees what was answered, not what came after.
            .retry_config(RetryConfig::disabled());
        let prefix = format!("conformance-{:06x}/{row}", fastrand::u32(..0x0100_0000));
        Self { aws: Client::from_conf(config.build()), prefix }
    }

    /// The full name of this row's secret `name`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Creates a secret; answers its ARN.
    pub async fn create(&self, name: &str, text: &str) -> String {
        let created = self.aws.create_secret().name(self.name(name)).secret_string(text).send().await.unwrap();
        created.arn.unwrap()
    }

    /// Creates a secret without a value.
    pub async fn create_empty(&self, name: &str) {
        self.aws.create_secret().name(self.name(name)).send().await.unwrap();
    }

    /// Puts a new version; answers its id.
    pub async fn put(&self, name: &str, text: &str) -> String {
        let put = self.aws.put_secret_value().secret_id(self.name(name)).secret_string(text).send().await.unwrap();
        put.version_id.unwrap()
    }

    /// Puts a new version with labels of its own; answers its id.
    pub async fn put_with(&self, name: &str, text: &str, labels: &[&str]) -> String {
        let mut put = self.aws.put_secret_value().secret_id(self.name(name)).secret_string(text);
        for label in labels {
            put = put.version_stages(*label);
        }
        put.send().await.unwrap().version_id.unwrap()
    }

    /// The current version of a secret.
    pub async fn version(&self, name: &str) -> String {
        let read = self.aws.get_secret_value().secret_id(self.name(name)).send().await.unwrap();
        read.version_id.unwrap()
    }

    /// The text under a label, or the error.
    pub async fn read(&self, name: &str, label: &str) -> String {
        let read = self.aws.get_secret_value().secret_id(self.name(name)).version_stage(label).send().await;
        text_or_code(read.map(|read| read.secret_string))
    }

    /// The text that a plain read gives, or the error.
    pub async fn current(&self, name: &str) -> String {
        let read = self.aws.get_secret_value().secret_id(self.name(name)).send().await;
        text_or_code(read.map(|read| read.secret_string))
    }

    /// Moves a label and says how that ended.
    pub async fn move_label(&self, name: &str, label: &str, to: Option<&str>, from: Option<&str>) -> String {
        let moved = self
            .aws
            .update_secret_version_stage()
            .secret_id(self.name(name))
            .version_stage(label)
            .set_move_to_version_id(to.map(str::to_owned))
            .set_remove_from_version_id(from.map(str::to_owned))
            .send()
            .await;
        verdict(&moved)
    }

    /// Where the labels are, by the place of their version among `versions`: `AWSCURRENT=2 AWSPREVIOUS=1`.
    pub async fn labels(&self, name: &str, versions: &[&str]) -> String {
        let described = self.aws.describe_secret().secret_id(self.name(name)).send().await.unwrap();
        let mut labels = BTreeMap::new();
        for (version, stages) in described.version_ids_to_stages.unwrap_or_default() {
            let place = versions.iter().position(|known| *known == version).map_or(0, |place| place + 1);
            for stage in stages {
                let places = labels.entry(stage).or_insert_with(Vec::new);
                places.push(place.to_string());
                places.sort();
            }
        }
        let labels: Vec<String> =
            labels.iter().map(|(label, places)| format!("{label}={}", places.join("+"))).collect();
        labels.join(" ")
    }

    /// Asks for the deletion of a secret.
    pub async fn delete(&self, name: &str) {
        self.aws.delete_secret().secret_id(self.name(name)).recovery_window_in_days(7).send().await.unwrap();
    }
}

/// How a call ended: `ok`, or the code of the error.
pub fn code<T, E>(result: &Result<T, SdkError<E, HttpResponse>>) -> String
where
    SdkError<E, HttpResponse>: ProvideErrorMetadata,
{
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => match (error.code(), error.raw_response()) {
            (Some(code), _) => code.to_owned(),
            (None, Some(response)) => format!("HTTP {}", response.status()),
            (None, None) => "no answer".to_owned(),
        },
    }
}

/// How a call ended where the documentation leaves open which of the codes for an invalid call is answered.
pub fn verdict<T, E>(result: &Result<T, SdkError<E, HttpResponse>>) -> String
where
    SdkError<E, HttpResponse>: ProvideErrorMetadata,
{
    const INVALID: [&str; 3] = ["InvalidParameterException", "InvalidRequestException", "ValidationException"];
    match code(result) {
        code if code == "ok" => "accepted".to_owned(),
        code if INVALID.contains(&code.as_str()) => "refused as invalid".to_owned(),
        code => code,
    }
}

/// A text, or the code of the error.
pub fn text_or_code<E>(result: Result<Option<String>, SdkError<E, HttpResponse>>) -> String
where
    SdkError<E, HttpResponse>: ProvideErrorMetadata,
{
    let code = code(&result);
    result.map_or(code, |text| text.unwrap_or_else(|| "no text".to_owned()))
}
