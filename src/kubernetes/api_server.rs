//! The way to the API server: every request of a reconcile goes through an [`ApiServer`], which bounds the number of
//! requests under way.
//!
//! The client itself goes to this layer, to the watches and to the start of the process. A reconcile gets a
//! [`ReadClient`], which can only read, or a [`Permit`], which gives a [`WriteClient`].

use kube::Client;
use tokio::sync::OnceCell;

use crate::kubernetes::places::{RequestPlace, RequestPlaces};

/// The API server, with the bound on requests under way (`--concurrency`).
///
/// Watches, the lease, Events and tokens of ServiceAccounts are not counted: they have no reconcile that could wait.
pub struct ApiServer {
    client: Client,
    requests: RequestPlaces,
    /// Lists have a bound of their own, since anybody can make them large.
    lists: RequestPlaces,
}

/// How many lists are read at once.
const LISTS: usize = 4;

impl ApiServer {
    /// An API server to which at most `concurrency` requests are under way at once, and for one namespace no more than its
    /// share of them.
    #[must_use]
    pub fn new(client: Client, concurrency: usize) -> Self {
        Self { client, requests: RequestPlaces::new(concurrency), lists: RequestPlaces::new(LISTS) }
    }

    /// The client of the watches, which are no requests of a reconcile.
    #[must_use]
    pub const fn watch_client(&self) -> &Client {
        &self.client
    }

    /// A client that reads for a namespace, and holds a permit for each request only. Who holds a [`Permit`] takes
    /// [`Permit::reads`] instead: to wait for a second permit while holding one may wait for ever.
    #[must_use]
    pub const fn reads<'a>(&'a self, namespace: &'a str) -> ReadClient<'a> {
        let of = Some(namespace);
        ReadClient { client: &self.client, requests: Some(&self.requests), lists: &self.lists, of }
    }

    /// A permit that is taken when it is first needed, and held until it is dropped. What is done for no namespace has no
    /// share that bounds it.
    #[must_use]
    pub const fn permit<'a>(&'a self, namespace: Option<&'a str>) -> Permit<'a> {
        Permit { server: self, of: namespace, held: OnceCell::const_new() }
    }

    /// Whether no further request can begin at present.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.requests.are_taken()
    }
}

/// One place among the requests under way. It is taken at the first request and held until the permit is dropped.
pub struct Permit<'a> {
    server: &'a ApiServer,
    of: Option<&'a str>,
    held: OnceCell<Option<RequestPlace<'a>>>,
}

impl Permit<'_> {
    /// Waits for the place, if it is not held yet.
    pub async fn acquire(&self) {
        self.held.get_or_init(|| self.server.requests.take(self.of)).await;
    }

    /// A client that reads under this permit.
    pub async fn reads(&self) -> ReadClient<'_> {
        self.acquire().await;
        ReadClient { client: &self.server.client, requests: None, lists: &self.server.lists, of: self.of }
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
    requests: Option<&'a RequestPlaces>,
    lists: &'a RequestPlaces,
    /// The namespace that it reads for.
    of: Option<&'a str>,
}

impl<'a> ReadClient<'a> {
    /// A client for one request. The permit goes with it.
    pub(super) async fn request(self) -> Request<'a> {
        let permit = match self.requests {
            Some(requests) => requests.take(self.of).await,
            None => None,
        };
        Request { client: self.client, _permit: permit, _list: None }
    }

    /// A client for one list. It waits until few others are read. Nothing waits for a permit while it reads a list.
    pub(super) async fn list(self) -> Request<'a> {
        let request = self.request().await;
        Request { _list: self.lists.take(self.of).await, ..request }
    }
}

/// The client for one request.
pub(super) struct Request<'a> {
    pub(super) client: &'a Client,
    _permit: Option<RequestPlace<'a>>,
    _list: Option<RequestPlace<'a>>,
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
