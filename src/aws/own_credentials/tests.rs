use std::collections::BTreeMap;

use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};

use super::*;
use crate::aws::classify::from_sdk;
use crate::domain::secret::error::{SourceError, SourceErrorKind};

const SECRET: &str = "canary-7f3a";

/// A chain that gives these credentials, or says that it has none.
#[derive(Debug)]
struct Chain(Option<Credentials>);

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none = || CredentialsError::not_loaded("none");
        future::ProvideCredentials::ready(self.0.clone().ok_or_else(none))
    }
}

fn given(id: &str, key: &str, token: Option<&str>) -> Chain {
    Chain(Some(Credentials::new(id, key, token.map(str::to_owned), None, "test")))
}

fn own(chain: Chain, variables: &[(&str, &str)]) -> OwnCredentials {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let variables: Variables = Arc::new(move |name| variables.get(name).cloned());
    OwnCredentials { chain: SharedCredentialsProvider::new(chain), variables }
}

/// What a binding says whose secret is read with these credentials.
async fn read_with(credentials: OwnCredentials) -> SourceError {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .endpoint_url("http://127.0.0.1:9")
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
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
            is_named(own(given(&id, &key, None), &variables), &[&format!("the variable {name}"), said]).await;
        }
        let inside = format!("{SECRET}{sign}{SECRET}");
        let variables = [(KEY_ID, "AKIA"), (SECRET_KEY, "key"), (SESSION_TOKEN, inside.as_str())];
        is_named(own(given("AKIA", "key", Some(&inside)), &variables), &["the variable AWS_SESSION_TOKEN", said]).await;
    }
}

#[tokio::test]
async fn a_broken_key_of_any_other_link_is_named_with_its_link() {
    let links: [(&[(&str, &str)], &str); 4] = [
        (&[("AWS_SHARED_CREDENTIALS_FILE", "/aws/credentials")], "the profile file \"/aws/credentials\""),
        (&[(TOKEN_FILE, "/token"), (ROLE, "arn")], TOKEN_FILE),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23")], "EKS Pod Identity"),
        (&[], "a profile file or the instance metadata"),
    ];
    for (variables, link) in links {
        for (sign, said) in SIGNS {
            let broken = format!("{SECRET}{sign}");
            is_named(own(given(&broken, "key", None), variables), &["access key id", link, said]).await;
            is_named(own(given("AKIA", &broken, None), variables), &["secret access key", link, said]).await;
            is_named(own(given("AKIA", "key", Some(&broken)), variables), &["session token", link, said]).await;
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
        is_named(own(Chain(None), &[(TOKEN_FILE, &path), (ROLE, "arn")]), &names).await;
    }
    let path = write("good", &token(&good));
    is_named(own(Chain(None), &[(TOKEN_FILE, &path)]), &[ROLE, "is missing"]).await;
    is_named(own(Chain(None), &[(POD_TOKEN_FILE, &missing)]), &[POD_TOKEN_FILE, "cannot be read"]).await;
    assert_eq!(token_file_fault(&path, true), None);
}

#[tokio::test]
async fn half_a_key_and_no_link_at_all_are_named() {
    is_named(own(Chain(None), &[(KEY_ID, SECRET)]), &["AWS_SECRET_ACCESS_KEY is missing", KEY_ID]).await;
    is_named(own(Chain(None), &[(SECRET_KEY, SECRET)]), &["AWS_ACCESS_KEY_ID is missing", SECRET_KEY]).await;
    is_named(own(Chain(None), &[]), &["no link of the credential chain", "instance metadata"]).await;
}
