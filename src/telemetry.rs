//! The log, on standard error, so that audit records stand alone on standard output.

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::flags::LogFormat;

/// Libraries that would log bodies of requests or answers below these levels are held there whatever level is asked
/// for: `kube_client::client` logs answers it cannot parse at WARN, the SDK and its HTTP stack log at DEBUG and TRACE.
const CAPS: &[(&str, LevelFilter)] = &[
    ("kube_client::client", LevelFilter::ERROR),
    ("aws", LevelFilter::INFO),
    ("aws_config", LevelFilter::INFO),
    ("aws_runtime", LevelFilter::INFO),
    ("aws_sdk_secretsmanager", LevelFilter::INFO),
    ("aws_sdk_sqs", LevelFilter::INFO),
    ("aws_sdk_sts", LevelFilter::INFO),
    ("aws_smithy_http_client", LevelFilter::INFO),
    ("aws_smithy_runtime", LevelFilter::INFO),
    ("aws_smithy_runtime_api", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
];

/// Starts the log.
pub fn start(format: LogFormat, level: Level) {
    std::panic::set_hook(Box::new(|panic| {
        // What a panic says may hold a piece of what it stumbled over.
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%location, "a fault of Bindery; please report this place of the program");
    }));
    let level = LevelFilter::from_level(level);
    let filter =
        Targets::new().with_default(level).with_targets(CAPS.iter().map(|(target, cap)| (*target, level.min(*cap))));
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => {
            tracing_subscriber::registry().with(layer.json().flatten_event(true).with_filter(filter)).init();
        }
        LogFormat::Text => tracing_subscriber::registry().with(layer.with_filter(filter)).init(),
    }
}
