//! `bindery run`: what is started, in which order, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::aws::api::SecretsApi;
use crate::aws::audit::AuditLog;
use crate::aws::events::consumer::EventConsumer;
use crate::aws::events::dispatch::dispatch;
use crate::aws::rate_limit::RateLimits;
use crate::aws::reader::Reader;
use crate::aws::sdk::SecretsManager;
use crate::aws::versions::Versions;
use crate::aws::writer::Writer;
use crate::controller::prepare::{AwsClients, Surroundings, prepare};
use crate::flags::{AuditTarget, RunArgs};
use crate::http::Readiness;
use crate::kubernetes::client::connect;
use crate::kubernetes::installation::{FingerprintKeyError, fingerprint_key, wait_for_kinds};
use crate::kubernetes::lease::Candidate;
use crate::metrics::Metrics;
use crate::{controller, http, telemetry};

/// How long work under way may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The runtime.
    #[error("the runtime could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// The variable by which the SDK logs values.
    #[error("LOG_SENSITIVE_BODIES is set, which makes the AWS SDK log secret values; unset it")]
    SensitiveBodies,
    /// The audit log.
    #[error("the audit log cannot be opened: {0}; correct --audit-log or the permissions of its folder")]
    Audit(#[source] std::io::Error),
    /// The port.
    #[error("cannot listen on {0}: {1}; choose another address with --listen")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// No way to the API server.
    #[error("no access to a Kubernetes API server: {0}; run in a cluster or set KUBECONFIG")]
    Kubernetes(String),
    /// The fingerprint key.
    #[error(transparent)]
    FingerprintKey(#[from] FingerprintKeyError),
    /// The lease is another's now.
    #[error("the lease was lost, so this process ends; another replica goes on")]
    LeaseLost,
    /// What the API server holds is not seen any more.
    #[error("{0}, so this process ends before it serves what was revoked; another one begins anew")]
    Blind(String),
    /// The controller ended though nobody asked it to.
    #[error("the controller ended unexpectedly")]
    Ended,
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// Where it cannot start, or has to end.
pub fn run(args: &RunArgs) -> Result<(), RunError> {
    if std::env::var_os("LOG_SENSITIVE_BODIES").is_some() {
        return Err(RunError::SensitiveBodies);
    }
    telemetry::start(args.log_format, args.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(operate(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn operate(args: &RunArgs) -> Result<(), RunError> {
    let process = Process::start(args).await?;
    // Whether this process has led, so that work may be under way.
    let led = AtomicBool::new(false);
    let mut work = std::pin::pin!(work(args, &process, &led));
    let ended = tokio::select! {
        ended = &mut work => Some(ended),
        () = process.shutdown() => None,
    };
    match ended {
        // The controller ends by itself only when it is asked to.
        Some(Ok(())) if process.shutdown().now_or_never().is_none() => Err(RunError::Ended),
        Some(ended) => ended,
        None if !led.load(Ordering::Relaxed) => Ok(()),
        None => {
            tracing::info!("asked to end; lets the work under way end");
            tokio::time::timeout(DRAIN, work).await.unwrap_or_else(|_| {
                tracing::warn!("work under way did not end in time and is dropped; it is taken up at the next start");
                Ok(())
            })
        }
    }
}

/// What runs from the start to the end of the process.
struct Process {
    audit: Arc<AuditLog>,
    client: Client,
    /// The namespace of the operator's own objects.
    home: String,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stopped: watch::Receiver<bool>,
}

impl Process {
    /// Opens the audit log and the port, and connects to the API server.
    async fn start(args: &RunArgs) -> Result<Self, RunError> {
        let audit = Arc::new(match &args.audit_log {
            AuditTarget::Stdout => AuditLog::stdout().map_err(RunError::Audit)?,
            AuditTarget::File(path) => AuditLog::file(path.clone()).map_err(RunError::Audit)?,
        });
        let listener = http::bind(args.listen).await.map_err(|error| RunError::Listen(args.listen, error))?;
        let config = Config::infer().await.map_err(|error| RunError::Kubernetes(error.to_string()))?;
        let home = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| config.default_namespace.clone());
        let client = connect(config).map_err(|error| RunError::Kubernetes(error.to_string()))?;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(wait_for_signals(stop, audit.clone()));
        let (metrics, readiness) = (Arc::new(Metrics::default()), Arc::new(Readiness::default()));
        let process = Self { audit, client, home, metrics, readiness, stopped };
        let (metrics, readiness) = (process.metrics.clone(), process.readiness.clone());
        tokio::spawn(http::serve(listener, metrics, readiness, process.shutdown()));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = %process.home, listen = %args.listen, "bindery starts");
        Ok(process)
    }

    /// Waits until the process is asked to end.
    fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            // A sender that is gone ends the wait as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    }
}

/// Puts the operator together, watches, and leads while it holds the lease.
async fn work(args: &RunArgs, process: &Process, led: &AtomicBool) -> Result<(), RunError> {
    let Process { audit, client, home, metrics, readiness, .. } = process;
    wait_for_kinds(client, &args.watch_namespaces, |problem| readiness.waits_for(problem)).await;
    readiness.kinds_are_served();
    let key = fingerprint_key(client, home, &format!("{}-fingerprint-key", args.name)).await?;
    let aws = SecretsManager::from_environment(args.region(), client.clone(), metrics.clone()).await;
    let (identity, region) = (identity(), aws.default_region().map(str::to_owned));
    let settings = Arc::new(args.settings(region.clone(), identity.clone()));
    let queues = args.events_queue_urls.iter().map(|url| aws.event_consumer(url, readiness.queues.clone()));
    let queues: Vec<EventConsumer> = queues.collect();
    let aws = Arc::new(aws);
    tokio::spawn(name_principal(aws.clone(), audit.clone()));
    let aws: Arc<dyn SecretsApi> = aws;
    let limits = Arc::new(RateLimits::new(args.rates()));
    let (versions, changes) = Versions::new(aws.clone(), limits.clone(), region);
    let versions = Arc::new(versions);
    let clients = AwsClients {
        writer: Writer::new(aws.clone(), audit.clone(), limits.clone()),
        reader: Reader::new(aws, audit.clone(), limits, versions.clone()),
    };
    let surroundings = Surroundings { settings, metrics: metrics.clone(), key, health: readiness.watches.clone() };
    let (context, watches, triggers) = prepare(client.clone(), clients, surroundings);
    let lead = || {
        led.store(true, Ordering::Relaxed);
        metrics.leader(true);
        let consuming = dispatch(queues, versions, metrics.clone());
        let leading = controller::run_loop::lead(context.clone(), triggers, changes, process.shutdown());
        async move {
            tokio::select! {
                () = consuming => Ok(()),
                () = leading => Ok(()),
                unseen = readiness.watches.until_blind() => {
                    tracing::error!("{unseen}; gives up the lead, since what was revoked may be served");
                    Err(RunError::Blind(unseen))
                }
            }
        }
    };
    let leading = async {
        if !args.leader_elect {
            return Box::pin(lead()).await;
        }
        let watches = readiness.watches.clone();
        let candidate =
            Candidate::new(client.clone(), home, &args.name, identity).only_while(move || watches.blind().is_none());
        let ended = Box::pin(candidate.lead(lead)).await;
        metrics.leader(false);
        ended.unwrap_or(Err(RunError::LeaseLost))
    };
    // A replica that stands by watches as well, so that it has seen all when it takes over.
    tokio::select! {
        () = controller::fence::keep_testing(client, home, &context.settings, &readiness.fence, metrics) => {
            Err(RunError::Ended)
        }
        () = controller::watch::watch(context.clone(), watches) => Err(RunError::Ended),
        ended = leading => ended,
    }
}

/// Says once, in the log and from then on in the audit log, as whom AWS knows the operator.
async fn name_principal(aws: Arc<SecretsManager>, audit: Arc<AuditLog>) {
    match aws.principal().await {
        Ok(principal) => {
            tracing::info!(%principal, region = aws.default_region(), "AWS knows the operator's own identity");
            audit.name_principal(principal);
        }
        Err(error) => {
            tracing::info!(%error, "AWS does not tell the operator's own identity");
        }
    }
}

/// SIGTERM and SIGINT end the process, a second one at once; SIGHUP opens the audit log anew.
async fn wait_for_signals(stop: watch::Sender<bool>, audit: Arc<AuditLog>) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("signals cannot be received");
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {
                if let Err(error) = audit.reopen() {
                    tracing::error!(%error, "the audit log cannot be opened anew; records go on to the old file");
                }
                continue;
            }
        }
        if *stop.borrow() {
            tracing::warn!("asked twice to end; ends at once");
            std::process::exit(1);
        }
        stop.send_replace(true);
    }
}

/// The name of this process among its replicas. A pod's name is unique among live pods, and a container that is
/// started again in the same pod may go on with its lease at once.
fn identity() -> String {
    std::env::var("POD_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "bindery".to_owned());
        format!("{host}-{:08x}", fastrand::u32(..))
    })
}
