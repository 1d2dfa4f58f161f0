use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::config::{BehaviorVersion, IdentityCache, Region};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::aws::classify::from_sdk;
use crate::aws::own_credentials::token_file::AUDIENCE;
use crate::domain::secret::error::{SourceError, SourceErrorKind};

const SECRET: &str = "canary-7f3a";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const ARN: &str = "arn:aws:iam::123456789012:role/reader";
const POD: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const POD_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// A link that gives these credentials, or fails.
#[derive(Debug, Clone)]
struct Chain(Link, std::result::Result<Credentials, bool>);

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.1.clone().map_err(|failed| {
            if failed { CredentialsError::provider_error("refused") } else { CredentialsError::not_loaded("none") }
        }))
    }
}

fn given(link: Link, id: &str, key: &str, token: Option<&str>) -> Chain {
    Chain(link, Ok(Credentials::new(id, key, token.map(str::to_owned), None, "test")))
}

fn own(chain: Chain, variables: &[(&str, &str)]) -> OwnCredentials {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let build: Build = Arc::new(move || {
        let chain = chain.clone();
        async move { vec![(chain.0, SharedCredentialsProvider::new(chain))] }.boxed()
    });
    OwnCredentials::of(build, Variables::new(move |name| variables.get(name).cloned()), "eu-west-1".to_owned())
}

/// What a binding says whose secret is read with these credentials.
async fn read_with(credentials: OwnCredentials) -> SourceError {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .endpoint_url("http://127.0.0.1:9")
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .identity_cache(IdentityCache::no_cache())
        .build();
    let client = aws_sdk_secretsmanager::Client::from_conf(config);
    let error = client.get_secret_value().secret_id("app").send().await.unwrap_err();
    from_sdk("app", &error)
}

async fn is_named(credentials: OwnCredentials, names: &[&str]) {
    let error = read_with(credentials).await;
    let text = error.to_string();
    assert_eq!(error.kind, SourceErrorKind::CredentialsFailed, "{text}");
    for name in names {
        assert!(text.contains(name), "{name:?} is missing in {text:?}");
    }
    assert!(!text.contains(SECRET) && !text.contains("passes by itself"), "{text}");
}

const SIGNS: [(&str, &str); 7] = [
    ("\n", "a line end"),
    ("\r\n", "a line end"),
    (" ", "a space"),
    ("\t", "a tab"),
    ("\"", "a quotation mark"),
    ("\u{1}", "a control character"),
    ("\u{a0}", "a sign outside ASCII"),
];

#[tokio::test]
async fn a_line_end_in_a_key_is_named_with_its_variable_and_never_called_passing() {
    for (sign, said) in SIGNS {
        let broken = format!("{SECRET}{sign}");
        for name in [KEY_ID, SECRET_KEY] {
            let mut variables = BTreeMap::from([(KEY_ID, "AKIA"), (SECRET_KEY, "key")]);
            variables.insert(name, &broken);
            let (id, key) = (variables[KEY_ID].to_owned(), variables[SECRET_KEY].to_owned());
            let variables: Vec<(&str, &str)> = variables.into_iter().collect();
            is_named(
                own(given(Link::Variables, &id, &key, None), &variables),
                &[&format!("the variable {name}"), said],
            )
            .await;
        }
        let inside = format!("{SECRET}{sign}{SECRET}");
        let variables = [(KEY_ID, "AKIA"), (SECRET_KEY, "key"), (SESSION_TOKEN, inside.as_str())];
        let chain = given(Link::Variables, "AKIA", "key", Some(&inside));
        is_named(own(chain, &variables), &["the variable AWS_SESSION_TOKEN", said, "restart the operator"]).await;
    }
}

#[tokio::test]
async fn a_broken_key_of_any_other_link_is_named_with_its_link() {
    type Given = &'static [(&'static str, &'static str)];
    let links: [(Link, Given, &str); 4] = [
        (
            Link::Profile,
            &[("AWS_SHARED_CREDENTIALS_FILE", "/aws/credentials")],
            "the profile file \"/aws/credentials\"",
        ),
        (Link::WebIdentity, &[], TOKEN_FILE),
        (Link::Container, &[(POD, "http://169.254.170.23")], "EKS Pod Identity"),
        (Link::Instance, &[], "the instance metadata"),
    ];
    for (link, variables, named) in links {
        for (sign, said) in SIGNS {
            let broken = format!("{SECRET}{sign}");
            let chain = |id: &str, key: &str, token| own(given(link, id, key, token), variables);
            is_named(chain(&broken, "key", None), &["access key id", named, said]).await;
            is_named(chain("AKIA", &broken, None), &["secret access key", named, said]).await;
            is_named(chain("AKIA", "key", Some(&broken)), &["session token", named, said]).await;
        }
    }
}

fn token(claims: &serde_json::Value) -> String {
    format!("e30.{}.{SECRET}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn a_token_file_that_gives_no_token_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let good = serde_json::json!({"aud": [AUDIENCE], "exp": now + 600});
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    let cases = [
        (missing.clone(), "cannot be read"),
        (folder.path().to_str().unwrap().to_owned(), "cannot be read"),
        (write("empty", "\n"), "is empty"),
        (write("garbage", SECRET), "holds no token"),
        (write("expired", &token(&serde_json::json!({"aud": AUDIENCE, "exp": now - 600}))), "ended at"),
        (
            write("clock", &token(&serde_json::json!({"aud": AUDIENCE, "exp": now + 900, "nbf": now + 600}))),
            "the clock",
        ),
        (write("audience", &token(&serde_json::json!({"aud": ["vault"], "exp": now + 600}))), "another audience"),
        (format!("{missing}\n"), "a line end"),
    ];
    for (path, said) in cases {
        let names = [path.trim(), TOKEN_FILE, said];
        is_named(own(Chain(Link::WebIdentity, Err(true)), &[(TOKEN_FILE, &path), (ROLE, ARN)]), &names).await;
    }
    let path = write("good", &token(&good));
    is_named(own(Chain(Link::WebIdentity, Err(false)), &[(TOKEN_FILE, &path)]), &[ROLE, "is missing"]).await;
    let pod = own(Chain(Link::Container, Err(true)), &[(POD, "http://localhost"), (POD_TOKEN_FILE, &missing)]);
    is_named(pod, &[POD_TOKEN_FILE, "cannot be read"]).await;
    // A token with nothing wrong in it: STS is what is at fault.
    let refused = own(Chain(Link::WebIdentity, Err(true)), &[(TOKEN_FILE, &path), (ROLE, ARN)]);
    is_named(refused, &[TOKEN_FILE, ARN, "STS cannot be reached"]).await;
}

#[tokio::test]
async fn half_a_key_and_no_link_at_all_are_named() {
    is_named(
        own(Chain(Link::Variables, Err(false)), &[(KEY_ID, SECRET)]),
        &["AWS_SECRET_ACCESS_KEY is missing", KEY_ID],
    )
    .await;
    is_named(
        own(Chain(Link::Variables, Err(false)), &[(SECRET_KEY, SECRET)]),
        &["AWS_ACCESS_KEY_ID is missing", SECRET_KEY],
    )
    .await;
    is_named(own(Chain(Link::Variables, Err(false)), &[]), &["no link of the credential chain", "instance metadata"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_aws_refuses_is_read_again_and_what_it_takes_is_read_once_in_five_minutes() {
    let built = Arc::new(AtomicUsize::new(0));
    let counted = built.clone();
    let build: Build = Arc::new(move || {
        let id = format!("AKIA{}", counted.fetch_add(1, Ordering::SeqCst));
        let chain = given(Link::Profile, &id, "key", None);
        async move { vec![(chain.0, SharedCredentialsProvider::new(chain))] }.boxed()
    });
    let own = OwnCredentials::of(build, Variables::new(|_| None), "eu-west-1".to_owned());
    let all = futures::future::join_all((0..40).map(|_| own.credentials())).await;
    assert!(all.into_iter().all(|given| given.unwrap().access_key_id() == "AKIA0"), "all who ask share one read");
    own.forget();
    assert_eq!(own.credentials().await.unwrap().access_key_id(), "AKIA0", "it has only just been read");
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(own.credentials().await.unwrap().access_key_id(), "AKIA0");
    own.forget();
    assert_eq!(own.credentials().await.unwrap().access_key_id(), "AKIA1", "AWS refused it");
    tokio::time::advance(Duration::from_secs(301)).await;
    assert_eq!(own.credentials().await.unwrap().access_key_id(), "AKIA2", "the file may have changed");
    assert_eq!(built.load(Ordering::SeqCst), 3);
}
