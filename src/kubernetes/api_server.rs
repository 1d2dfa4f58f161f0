//! The way to the API server: every request of a reconcile goes through an [`ApiServer`], which bounds the number of
//! requests under way.
//!
//! The client itself goes to this layer, to the watches and to the start of the process. A reconcile gets a
//! [`ReadClient`], which can only read, or a [`Permit`], which gives a [`WriteClient`].

use kube::Client;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

/// The API server, with the bound on requests under way (`--concurrency`).
///
/// Watches, the lease, Events and tokens of ServiceAccounts are not counted: they have no reconcile that could wait.
pub struct ApiServer {
    client: Client,
    requests: Semaphore,
    /// Lists have a bound of their own, since anybody can make them large.
    lists: Semaphore,
}

/// How many lists are read at once.
const LISTS: usize = 4;

impl ApiServer {
    /// An API server to which at most `concurrency` requests are under way at once.
    #[must_use]
    pub fn new(client: Client, concurrency: usize) -> Self {
        Self { client, requests: Semaphore::new(concurrency), lists: Semaphore::new(LISTS) }
    }

    /// The client of the watches, which are no requests of a reconcile.
    #[must_use]
    pub const fn watch_client(&self) -> &Client {
        &self.client
    }

    /// A client that reads, and holds a permit for each request only. Who holds a [`Permit`] takes [`Permit::reads`]
    /// instead: to wait for a second permit while holding one may wait for ever.
    #[must_use]
    pub const fn reads(&self) -> ReadClient<'_> {
        ReadClient { client: &self.client, requests: Some(&self.requests), lists: &self.lists }
    }

    /// A permit that is taken when it is first needed, and held until it is dropped.
    #[must_use]
    pub const fn permit(&self) -> Permit<'_> {
        Permit { server: self, held: OnceCell::const_new() }
    }

    /// Whether no further request can begin at present.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.requests.available_permits() == 0
    }
}

/// One place among the requests under way. It is taken at the first request and held until the permit is dropped.
pub struct Permit<'a> {
    server: &'a ApiServer,
    held: OnceCell<Option<SemaphorePermit<'a>>>,
}

impl Permit<'_> {
    /// Waits for the place, if it is not held yet.
    pub async fn acquire(&self) {
        // The semaphore is never closed.
        let acquire = || async { self.server.requests.acquire().await.ok() };
        self.held.get_or_init(acquire).await;
    }

    /// A client that reads under this permit.
    pub async fn reads(&self) -> ReadClient<'_> {
        self.acquire().await;
        ReadClient { client: &self.server.client, requests: None, lists: &self.server.lists }
    }

    /// A client that writes under this permit.
    pub async fn writes(&self) -> WriteClient<'_> {
        self.acquire().await;
        WriteClient { client: &self.server.client }
    }
}

/// A client that only reads. No function that writes takes it:
///
/// ```compile_fail,E0308
/// use bindery::domain::target::Desired;
/// use bindery::kubernetes::api_server::ReadClient;
/// use bindery::kubernetes::write::apply_secret;
///
/// async fn observes(client: ReadClient<'_>, desired: &Desired) {
///     let _ = apply_secret(client, desired, None).await;
/// }
/// ```
///
/// The same with a client that writes:
///
/// ```
/// use bindery::domain::target::Desired;
/// use bindery::kubernetes::api_server::WriteClient;
/// use bindery::kubernetes::write::apply_secret;
///
/// async fn applies(client: WriteClient<'_>, desired: &Desired) {
///     let _ = apply_secret(client, desired, None).await;
/// }
/// ```
///
/// Nor does it give the client of the API server, by which anything could be written:
///
/// ```compile_fail,E0624
/// use bindery::kubernetes::api_server::ReadClient;
///
/// async fn observes(client: ReadClient<'_>) {
///     client.request().await;
/// }
/// ```
#[derive(Clone, Copy)]
pub struct ReadClient<'a> {
    client: &'a Client,
    /// Where the permit of each request comes from; `None` where a [`Permit`] is held.
    requests: Option<&'a Semaphore>,
    lists: &'a Semaphore,
}

impl<'a> ReadClient<'a> {
    /// A client for one request. The permit goes with it.
    pub(super) async fn request(self) -> Request<'a> {
        let permit = match self.requests {
            Some(requests) => requests.acquire().await.ok(),
            None => None,
        };
        Request { client: self.client, _permit: permit, _list: None }
    }

    /// A client for one list. It waits until few others are read. Nothing waits for a permit while it reads a list.
    pub(super) async fn list(self) -> Request<'a> {
        let request = self.request().await;
        Request { _list: self.lists.acquire().await.ok(), ..request }
    }
}

/// The client for one request.
pub(super) struct Request<'a> {
    pub(super) client: &'a Client,
    _permit: Option<SemaphorePermit<'a>>,
    _list: Option<SemaphorePermit<'a>>,
}

/// A client that writes. It is given by a [`Permit`] only.
#[derive(Clone, Copy)]
pub struct WriteClient<'a> {
    client: &'a Client,
}

impl<'a> WriteClient<'a> {
    /// The client for one request.
    pub(super) const fn request(self) -> &'a Client {
        self.client
    }
}
