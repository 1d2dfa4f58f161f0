//! The client of the API server. Every request through it has a deadline, whoever makes it, and a connection whose
//! other end is gone is noticed.
//!
//! A request that is never answered would otherwise wait for ever: the client itself sets no time for an answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::retry::RetryLayer;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt as _};

/// A request that is no watch ends within this time, its answer included. The API server itself gives up at this time.
/// Most requests have a shorter deadline of their own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// A watch is silent for no longer. The API server ends it after 290 s, as it is asked to, and sends bookmarks before.
const WATCH_SILENCE: Duration = Duration::from_secs(310);
/// A connection may take this long to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so much silence the kernel asks whether the other end still lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long it waits for each answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// After so many questions without an answer the connection is closed.
const KEEP_ALIVE_PROBES: u32 = 3;

/// A client of the API server that `config` names.
///
/// # Errors
/// Where the configuration cannot be used, such as a certificate that is none, or a proxy.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // The library knows which proxies it can use. It makes the connections then.
        return Ok(ClientBuilder::try_from(config)?.with_layer(&Deadlines).build());
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEP_ALIVE));
    http.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
    http.set_keepalive_retries(Some(KEEP_ALIVE_PROBES));
    let https = config.rustls_https_connector_with_connector(http)?;
    let service = ServiceBuilder::new()
        .layer(Deadlines)
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build(https));
    Ok(ClientBuilder::new(service.boxed(), config.default_namespace).build())
}

/// Gives each request its deadline, the retries within it included.
#[derive(Clone, Copy, Debug)]
struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner }
    }
}

#[derive(Clone, Debug)]
struct WithDeadline<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: HttpBody + Unpin + Send + 'static,
{
    type Response = Response<TimedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let end = Instant::now() + REQUEST_TIMEOUT;
        let silence = is_watch(request.uri()).then_some(WATCH_SILENCE);
        let answer = self.inner.call(request);
        async move {
            let answer = timeout(REQUEST_TIMEOUT, answer).await.map_err(|_| late())?.map_err(Into::into)?;
            let left = silence.unwrap_or(end.saturating_duration_since(Instant::now()));
            Ok(answer.map(|body| TimedBody { body, end: Box::pin(sleep(left)), silence }))
        }
        .boxed()
    }
}

/// Whether a request has an answer without an end.
fn is_watch(uri: &Uri) -> bool {
    uri.query().unwrap_or_default().split('&').any(|parameter| matches!(parameter, "watch=true" | "watch=1"))
}

fn late() -> BoxError {
    io::Error::new(io::ErrorKind::TimedOut, "the API server did not answer in time").into()
}

/// The body of an answer, which fails at its deadline.
struct TimedBody<B> {
    body: B,
    end: Pin<Box<Sleep>>,
    /// For a watch: each part moves the deadline to this time after it.
    silence: Option<Duration>,
}

impl<B: HttpBody + Unpin> HttpBody for TimedBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(silence) = self.silence {
                    self.end.as_mut().reset(Instant::now() + silence);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => self.end.as_mut().poll(cx).map(|()| Some(Err(late()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// How a server falls silent.
    const NOTHING: &str = "";
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    const WATCH: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

    /// A client of a server that says `text` to each request, and nothing more.
    async fn silent_after(text: &'static str) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(text.as_bytes()).await;
                    std::future::pending::<()>().await;
                });
            }
        });
        connect(Config::new(uri)).unwrap()
    }

    async fn within<T>(limit: Duration, waited: impl Future<Output = T>) -> T {
        timeout(limit, waited).await.expect("it would hang for ever")
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_to_an_api_server_that_falls_silent_hangs() {
        let limit = REQUEST_TIMEOUT + Duration::from_secs(1);
        for text in [NOTHING, HEAD] {
            let client = silent_after(text).await;
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), "n");
            within(limit, api.get_opt("x")).await.unwrap_err();
            within(limit, api.list(&ListParams::default())).await.unwrap_err();
            within(limit, crate::kubernetes::service_account::role_arn(&client, "n", "x")).await.unwrap_err();
            within(limit, crate::kubernetes::service_account::request_token(&client, "n", "x")).await.unwrap_err();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_an_api_server_that_falls_silent_ends() {
        let api: Api<ConfigMap> = Api::namespaced(silent_after(NOTHING).await, "n");
        let limit = REQUEST_TIMEOUT + Duration::from_secs(1);
        assert!(within(limit, api.watch(&WatchParams::default(), "1")).await.is_err());

        let api: Api<ConfigMap> = Api::namespaced(silent_after(WATCH).await, "n");
        let mut events = Box::pin(api.watch(&WatchParams::default(), "1").await.unwrap());
        let began = Instant::now();
        let end = within(WATCH_SILENCE + Duration::from_secs(1), events.next()).await;
        assert!(!matches!(end, Some(Ok(_))), "{end:?}");
        assert!(began.elapsed() > Duration::from_secs(290), "a watch may be silent until the server ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_read_of_the_fingerprint_key_is_made_again_until_the_api_server_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 32]);
        tokio::spawn(async move {
            let mut silent = Vec::new();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let body = format!("{{\"metadata\":{{}},\"data\":{{\"key\":\"{key}\"}}}}");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if number >= 3 {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(head.as_bytes()).await;
                }
                silent.push(stream);
            }
        });
        let client = connect(Config::new(uri)).unwrap();
        let key = crate::kubernetes::installation::fingerprint_key(&client, "n", "k");
        assert!(within(Duration::from_secs(60), key).await.is_ok());
    }

    #[test]
    fn a_watch_is_told_by_its_query() {
        let is_watch = |uri: &'static str| is_watch(&Uri::from_static(uri));
        assert!(is_watch("/api/v1/secrets?&watch=true&timeoutSeconds=290"));
        assert!(!is_watch("/api/v1/secrets?&limit=500&labelSelector=watch%3Dtrue") && !is_watch("/api/v1/watch"));
    }
}
