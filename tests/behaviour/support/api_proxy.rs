//! What stands between the operator and the API server: it knows each request, counts those under way and, when told
//! to, holds, cuts or answers them in the API server's place.
//!
//! The operator speaks plain HTTP to it. It passes requests on with the operator's own rights.

mod relay;
mod request;
mod serve;
mod traffic;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use request::{ApiRequest, Verb};
pub use traffic::Exchange;
use traffic::Traffic;

/// What to do in place of passing a request on. Watches under way are struck as well: they fall silent, are late, or end.
#[derive(Clone, Copy, Debug)]
pub enum ApiFault {
    /// Hold it until [`ApiProxy::heal`], then pass it on.
    Stall,
    /// Hold it for this time, then pass it on. Of a watch each event.
    Delay(Duration),
    /// Close the connection; the API server never sees the request.
    Cut,
    /// Pass it on and close the connection in the place of the answer.
    Lose,
    /// Answer with this status, as the API server does.
    Status(u16),
    /// Let each page of a list hold one object, and hold each page but the first for this time.
    Pages(Duration),
    /// Tell a watch of no object any more. Bookmarks go on.
    DropEvents,
    /// Tell a watch of each change twice, and the second time of the change before it too.
    RepeatEvents,
    /// Change each object on its way to the operator.
    Alter(fn(&mut Value)),
}

/// Which requests fail, and how.
struct Rule {
    concerns: Box<dyn Fn(&ApiRequest) -> bool + Send + Sync>,
    fault: ApiFault,
    /// Who is held waits until this is dropped.
    holds: watch::Sender<()>,
}

struct Shared {
    /// The API server, with the rights of the operator.
    upstream: Client,
    traffic: Arc<Traffic>,
    rules: Mutex<Vec<Rule>>,
    /// Tells watches under way that other rules hold.
    changed: watch::Sender<()>,
}

/// A running proxy. It serves until the runtime that it was started in ends.
#[derive(Clone)]
pub struct ApiProxy {
    /// A kubeconfig that names the proxy.
    pub kubeconfig: PathBuf,
    shared: Arc<Shared>,
}

impl ApiProxy {
    /// Starts a proxy in front of the API server that a kubeconfig names, and writes one that names the proxy into
    /// `folder`.
    pub async fn start(kubeconfig: &Path, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut named: Value = serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
        // The proxy adds the token.
        named["clusters"][0]["cluster"] = json!({"server": format!("http://{}", listener.local_addr().unwrap())});
        named["users"][0]["user"] = json!({});
        let path = folder.join("api-proxy.kubeconfig");
        std::fs::write(&path, named.to_string()).unwrap();

        let upstream = Kubeconfig::read_from(kubeconfig).unwrap();
        let mut upstream = Config::from_custom_kubeconfig(upstream, &KubeConfigOptions::default()).await.unwrap();
        // What the API server refuses for a while, the operator is to see.
        upstream.default_retry = false;
        let shared = Arc::new(Shared {
            upstream: Client::try_from(upstream).unwrap(),
            traffic: Arc::default(),
            rules: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        tokio::spawn(serve::serve(listener, shared.clone()));
        Self { kubeconfig: path, shared }
    }

    /// Lets the requests that `concerns` tells meet a fault from now on. Of several faults the last one counts.
    pub fn fail(&self, fault: ApiFault, concerns: impl Fn(&ApiRequest) -> bool + Send + Sync + 'static) {
        let rule = Rule { concerns: Box::new(concerns), fault, holds: watch::Sender::new(()) };
        self.shared.rules.lock().unwrap().push(rule);
        self.shared.changed.send_replace(());
    }

    /// Lets all requests pass again as they are, those that are held included.
    pub fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
        self.shared.changed.send_replace(());
    }

    /// The requests so far that `concerns` tells, in the order in which they came.
    pub fn exchanges(&self, concerns: impl Fn(&ApiRequest) -> bool) -> Vec<Exchange> {
        self.shared.traffic.exchanges(concerns)
    }

    /// How many of the requests that `concerns` tells are under way: their answers are not complete. A watch is under
    /// way until it ends.
    pub fn under_way(&self, concerns: impl Fn(&ApiRequest) -> bool) -> usize {
        self.exchanges(concerns).iter().filter(|exchange| exchange.ended.is_none()).count()
    }

    /// How many of them were under way at once at most.
    pub fn most_under_way(&self, concerns: impl Fn(&ApiRequest) -> bool) -> usize {
        traffic::most_at_once(&self.exchanges(concerns))
    }
}

impl Shared {
    /// The fault that a request meets, and what ends a stall.
    fn fault(&self, request: &ApiRequest) -> Option<(ApiFault, watch::Receiver<()>)> {
        let rules = self.rules.lock().unwrap();
        let rule = rules.iter().rev().find(|rule| (rule.concerns)(request))?;
        Some((rule.fault, rule.holds.subscribe()))
    }
}
