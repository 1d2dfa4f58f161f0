//! The flags of `bindery run` and `BINDERY_*` variables, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::aws::own_credentials::signs::region_fault;
use crate::aws::rate_limit::Rates;
use crate::domain::duration::Span;
use crate::domain::target::metadata::MetadataPattern;
use crate::settings::{Features, Settings};

/// The flags of `bindery run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// How often secrets are checked for a new version where a binding does not say (such as 5m or 1h; 0s = never by
    /// the clock)
    #[arg(long, env = "BINDERY_REFRESH_INTERVAL", default_value = "5m", value_parser = interval)]
    pub refresh_interval: Duration,

    /// How many requests to the API server are under way at once
    #[arg(long, env = "BINDERY_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,

    /// Watch only this namespace (repeatable; with none, all)
    #[arg(long = "watch-namespace", env = "BINDERY_WATCH_NAMESPACE", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Take events of Secrets Manager from this SQS queue (repeatable; one queue for each installation, region and
    /// account), so that changes are followed within seconds
    #[arg(long = "events-queue-url", env = "BINDERY_EVENTS_QUEUE_URL", value_delimiter = ',', value_parser = queue_url)]
    pub events_queue_urls: Vec<String>,

    /// The AWS region where a grant names none (default: as the AWS SDK finds it)
    #[arg(long, env = "BINDERY_AWS_REGION", value_parser = region)]
    pub aws_region: Option<String>,

    /// How many values are read, or secrets described, a second at most, for each AWS account and region
    #[arg(long, env = "BINDERY_AWS_READ_RATE", default_value_t = 500.0, value_parser = rate)]
    pub aws_read_rate: f64,

    /// The same for batches of up to 20 values (BatchGetSecretValue)
    #[arg(long, env = "BINDERY_AWS_BATCH_RATE", default_value_t = 30.0, value_parser = rate)]
    pub aws_batch_rate: f64,

    /// The same for lists of up to 100 secrets (ListSecrets)
    #[arg(long, env = "BINDERY_AWS_LIST_RATE", default_value_t = 10.0, value_parser = rate)]
    pub aws_list_rate: f64,

    /// The same for writes, which only rotation makes (PutSecretValue, UpdateSecretVersionStage, RotateSecret)
    #[arg(long, env = "BINDERY_AWS_WRITE_RATE", default_value_t = 5.0, value_parser = rate)]
    pub aws_write_rate: f64,

    /// How many of all these calls a second each namespace may cause; it may save those of 100 s
    #[arg(long, env = "BINDERY_AWS_TENANT_RATE", default_value_t = 10.0, value_parser = rate)]
    pub aws_tenant_rate: f64,

    /// How many workloads are restarted at a time, over all bindings; one namespace has a little more than half of them
    /// at most
    #[arg(long, env = "BINDERY_MAX_ROLLOUTS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_rollouts: u16,

    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env = "BINDERY_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Act only while holding the lease, so that several replicas can stand by
    #[arg(long, env = "BINDERY_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,

    /// The format of the log on standard error
    #[arg(long, env = "BINDERY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// The level of the log: error, warn, info, debug or trace
    #[arg(long, env = "BINDERY_LOG_LEVEL", default_value = "info")]
    pub log_level: tracing::Level,

    /// Where reads and writes of secrets are recorded: stdout, or the path of a file to append to
    #[arg(long, env = "BINDERY_AUDIT_LOG", default_value = "stdout")]
    pub audit_log: AuditTarget,

    /// The prefix of the operator's own objects: its lease and the Secret of its fingerprint key
    #[arg(long, env = "BINDERY_NAME", default_value = "bindery")]
    pub name: String,

    /// Let bindings put this label or annotation on their Secrets, besides app.kubernetes.io/* (repeatable; a whole key,
    /// or a prefix that ends in *)
    #[arg(long, env = "BINDERY_ALLOW_TARGET_METADATA", value_delimiter = ',', value_parser = metadata)]
    pub allow_target_metadata: Vec<String>,

    /// What it may do besides publishing.
    #[command(flatten)]
    pub features: FeatureArgs,

    /// Whether admission policies fence in the operator's ServiceAccount: expected = test them, and say where one does
    /// not hold; none = there are none on purpose
    #[arg(long, env = "BINDERY_FENCE", value_enum, default_value_t = Fence::Expected)]
    pub fence: Fence,
}

/// The flags that turn on what needs further rights in Kubernetes.
#[derive(Args, Clone, Copy, Debug)]
pub struct FeatureArgs {
    /// Run Jobs from CronJobs that rotation rules name. Needs the verbs get on cronjobs, get and create on jobs
    #[arg(long, env = "BINDERY_ENABLE_JOBS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_jobs: bool,

    /// Read as the ServiceAccounts that grants name. Needs the verbs get on serviceaccounts, create on
    /// serviceaccounts/token
    #[arg(long, env = "BINDERY_ENABLE_SERVICE_ACCOUNT_TOKENS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_service_account_tokens: bool,

    /// Restart workloads that use a Secret that changed. Needs the verb patch on workloads
    #[arg(long, env = "BINDERY_ENABLE_RESTARTS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_restarts: bool,
}

impl FeatureArgs {
    const fn features(self) -> Features {
        Features {
            jobs: self.enable_jobs,
            service_account_tokens: self.enable_service_account_tokens,
            restarts: self.enable_restarts,
        }
    }
}

/// Whether admission policies are to fence in the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fence {
    /// They are tested.
    Expected,
    /// There are none.
    None,
}

impl RunArgs {
    /// How often AWS may be called.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        Rates {
            read: self.aws_read_rate,
            batch: self.aws_batch_rate,
            list: self.aws_list_rate,
            write: self.aws_write_rate,
            tenant: self.aws_tenant_rate,
        }
    }

    /// The region of the flag, unless it is empty.
    #[must_use]
    pub fn region(&self) -> Option<String> {
        self.aws_region.clone().filter(|region| !region.is_empty())
    }

    /// The settings that the flags give, with what only the environment tells.
    #[must_use]
    pub fn settings(&self, region: Option<String>, identity: String) -> Settings {
        Settings {
            refresh_interval: self.refresh_interval,
            concurrency: usize::from(self.concurrency),
            max_rollouts: usize::from(self.max_rollouts),
            watch_namespaces: self.watch_namespaces.clone(),
            region,
            allowed_metadata: self.allow_target_metadata.clone(),
            features: self.features.features(),
            fence: self.fence == Fence::Expected,
            identity,
        }
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Where reads are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl FromStr for AuditTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("give stdout or the path of a file".to_owned()),
            "stdout" => Ok(Self::Stdout),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

/// A region as the CRD of grants takes it, or none.
fn region(text: &str) -> Result<String, String> {
    if text.is_empty() || region_fault(text).is_none() {
        Ok(text.to_owned())
    } else {
        Err("give the region as AWS writes it, such as eu-west-1".to_owned())
    }
}

fn namespace(text: &str) -> Result<String, String> {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let valid = !text.is_empty() && text.len() <= 63 && text.bytes().all(is_part);
    if valid && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of a namespace; separate several by a comma alone"))
    }
}

fn queue_url(text: &str) -> Result<String, String> {
    let valid = (text.starts_with("https://") || text.starts_with("http://")) && text.matches('/').count() >= 4;
    if valid {
        Ok(text.to_owned())
    } else {
        Err("give the URL of an SQS queue, such as https://sqs.eu-west-1.amazonaws.com/123456789012/bindery".to_owned())
    }
}

fn metadata(text: &str) -> Result<String, String> {
    MetadataPattern::try_from(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "give a number of calls a second".to_owned())?;
    if (0.1..=10_000.0).contains(&rate) { Ok(rate) } else { Err("must be between 0.1 and 10000".to_owned()) }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = Span::try_from(text).map_err(|error| error.to_string())?.get();
    if !interval.is_zero() && interval < Duration::from_secs(10) {
        return Err("must be 0s (never by the clock) or at least 10s".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn parsed(flag: &str) -> Result<RunArgs, String> {
        Line::try_parse_from(["bindery", flag]).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_region_that_cannot_be_is_refused_and_an_empty_one_is_none() {
        assert_eq!(parsed("--aws-region=eu-west-1").unwrap().region().as_deref(), Some("eu-west-1"));
        assert_eq!(parsed("--aws-region=us-gov-east-1").unwrap().region().as_deref(), Some("us-gov-east-1"));
        assert_eq!(parsed("--aws-region=").unwrap().region(), None);
        for wrong in ["eu-west1", "eu-west-1a", "EU-WEST-1", "eu-west-1\n", "Ireland"] {
            let refusal = parsed(&format!("--aws-region={wrong}")).unwrap_err();
            assert!(refusal.contains("give the region as AWS writes it, such as eu-west-1"), "{refusal}");
        }
    }

    #[test]
    fn a_name_that_no_namespace_has_is_refused() {
        assert_eq!(parsed("--watch-namespace=a,b-1").unwrap().watch_namespaces, ["a", "b-1"]);
        for wrong in ["My_NS", "a, b", "a,", "-a"] {
            let refusal = parsed(&format!("--watch-namespace={wrong}")).unwrap_err();
            assert!(refusal.contains("is no name of a namespace"), "{refusal}");
        }
    }
}
