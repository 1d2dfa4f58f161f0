//! What a request asks of the API server.

use hyper::Method;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects, or a page of them.
    List,
    /// The changes of objects.
    Watch,
    /// A new object.
    Create,
    /// An object in the place of another.
    Update,
    /// A change of an object, as a merge or as JSON steps.
    Patch,
    /// A change of an object by server-side apply.
    Apply,
    /// The end of an object.
    Delete,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// What is asked for.
    pub verb: Verb,
    /// The resource, with the subresource if there is one: `secrets`, `secretbindings/status`.
    pub resource: String,
    /// The namespace, where the request names one.
    pub namespace: Option<String>,
    /// The object, where the request names one.
    pub name: Option<String>,
    /// What stands behind the question mark.
    pub query: String,
}

impl ApiRequest {
    /// Reads it from the head of the request.
    pub fn of(head: &Parts) -> Self {
        let query = head.uri.query().unwrap_or_default().to_owned();
        let (resource, namespace, name) = read_path(head.uri.path());
        let has = |pair: &str| query.split('&').any(|one| one == pair);
        let applies =
            head.headers.get(CONTENT_TYPE).is_some_and(|type_| type_.as_bytes().starts_with(b"application/apply"));
        let verb = match head.method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH if applies => Verb::Apply,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ if has("watch=true") || has("watch=1") => Verb::Watch,
            _ if name.is_none() => Verb::List,
            _ => Verb::Get,
        };
        Self { verb, resource, namespace, name, query }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// Whether it is about this resource, its subresources included.
    pub fn is_of(&self, resource: &str) -> bool {
        self.resource.split('/').next() == Some(resource)
    }

    /// Whether a reconcile asks it, or who writes the status of grants. The others are the watches with the lists that
    /// they begin with, the lease, Events, ServiceAccounts as identities, and what is asked once at the start.
    pub fn is_of_a_reconcile(&self) -> bool {
        let watched = ["secretbindings", "secretgrants", "namespaces"].contains(&self.resource.as_str());
        let listed = self.verb == Verb::List && (watched || self.query.contains("labelSelector="));
        let key = self.name.as_deref().is_some_and(|name| name.ends_with("-fingerprint-key"));
        // A creation does not name its object; Secrets are otherwise applied.
        let makes_key = self.verb == Verb::Create && self.resource == "secrets";
        let beside = ["leases", "events", "serviceaccounts"].iter().any(|resource| self.is_of(resource));
        // By dry runs the operator tests its fence.
        let tests = self.query.contains("dryRun=");
        !(self.verb == Verb::Watch || listed || key || makes_key || beside || tests)
    }
}

/// Resource, namespace and name of a path such as `/apis/apps/v1/namespaces/default/deployments/app/status`.
fn read_path(path: &str) -> (String, Option<String>, Option<String>) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let object = match parts.as_slice() {
        ["api", _, object @ ..] | ["apis", _, _, object @ ..] => object,
        other => return (other.join("/"), None, None),
    };
    let (namespace, object) = match object {
        ["namespaces", namespace, object @ ..] if !matches!(object, [] | ["status" | "finalize"]) => {
            (Some(*namespace), object)
        }
        object => (None, object),
    };
    let name = object.get(1).map(ToString::to_string);
    let resource: Vec<&str> =
        object.first().into_iter().chain(object.get(2..).into_iter().flatten()).copied().collect();
    (resource.join("/"), namespace.map(str::to_owned), name)
}
