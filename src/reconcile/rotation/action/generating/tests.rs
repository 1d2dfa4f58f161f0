use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;

use super::*;
use crate::api::GenerateEncoding;
use crate::aws::api::{Batch, Page, SecretsApi};
use crate::aws::audit::AuditLog;
use crate::aws::rate_limit::RateLimits;
use crate::aws::versions::Versions;
use crate::domain::name::BindingName;
use crate::domain::payload::Payload;
use crate::domain::secret::description::Description;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::version::SecretVersion;

const OLD: &str = "{ \"OTHER\" : 0,\n\"KEY\": \"old\",\"deep\":{\"KEY\":\"stays\"} }";

#[derive(Clone, Default)]
struct Secret {
    /// The texts by version id.
    versions: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    promotions: u32,
    edits: u32,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Secret>,
    calls: usize,
    writes: Vec<String>,
    /// The operator ends at this call: before AWS has it, or after, so that the answer is lost.
    dies_at: Option<(usize, bool)>,
    /// Somebody edits another key just before these calls.
    edits: Vec<(usize, String)>,
    /// Somebody sets the ruled key just before this call.
    overtakes_at: Option<usize>,
    denied: Option<SourceErrorKind>,
}

/// Secrets Manager in memory, by its documented effects.
#[derive(Clone, Default)]
struct Aws {
    state: Arc<Mutex<State>>,
    died: Arc<Notify>,
}

impl Aws {
    fn with(secrets: &[&str]) -> Self {
        let aws = Self::default();
        for name in secrets {
            let secret = Secret {
                versions: BTreeMap::from([("v0".to_owned(), OLD.to_owned())]),
                labels: BTreeMap::from([(AWSCURRENT.to_owned(), "v0".to_owned())]),
                ..Secret::default()
            };
            aws.state().secrets.insert((*name).to_owned(), secret);
        }
        aws
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does a call, and ends the operator around it where that is due.
    async fn call<T>(&self, act: impl FnOnce(&mut State) -> Result<T, SourceError> + Send) -> Result<T, SourceError> {
        let dies = {
            let mut state = self.state();
            let call = state.calls;
            state.calls += 1;
            let edited: Vec<String> =
                state.edits.iter().filter(|(at, _)| *at == call).map(|(_, name)| name.clone()).collect();
            for name in edited {
                state.secrets.get_mut(&name).unwrap().edit("\"OTHER\" : ", "\"OTHER\" : 1", 1);
            }
            if state.overtakes_at == Some(call) {
                let secret = state.secrets.values_mut().next().unwrap();
                let current = secret.current().to_owned();
                let key = current.split("\"KEY\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
                secret.edit(&format!("\"KEY\": \"{key}\""), "\"KEY\": \"by hand\"", 0);
            }
            state.dies_at.filter(|(at, _)| *at == call)
        };
        if dies.is_some_and(|(_, after)| !after) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        let result = act(&mut self.state());
        if dies.is_some() {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        result
    }

    fn key(&self, name: &str) -> String {
        let state = self.state();
        let json: serde_json::Value = serde_json::from_str(state.secrets[name].current()).unwrap();
        json["KEY"].as_str().unwrap().to_owned()
    }
}

impl Secret {
    fn current(&self) -> &str {
        &self.versions[&self.labels[AWSCURRENT]]
    }

    fn edit(&mut self, from: &str, to: &str, counts: u32) {
        self.edits += counts;
        let id = format!("edit-{}", self.versions.len());
        let text = self.current().replace(from, to);
        self.versions.insert(id.clone(), text);
        self.move_current(&id);
    }

    fn move_current(&mut self, to: &str) {
        let from = self.labels.insert(AWSCURRENT.to_owned(), to.to_owned());
        self.labels.extend(from.map(|from| ("AWSPREVIOUS".to_owned(), from)));
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf")
}

fn name_of(secret: &SecretId) -> String {
    match secret {
        SecretId::Name(name) => name.clone(),
        SecretId::Arn(arn) => arn.resource.trim_end_matches("-AbCdEf").to_owned(),
    }
}

impl SecretsApi for Aws {
    fn list_versions<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: Option<String>,
    ) -> BoxFuture<'a, Result<crate::aws::api::VersionPage, SourceError>> {
        unreachable!("nobody asks")
    }

    fn describe<'a>(&'a self, _: &'a Identity, _: &'a SecretId) -> BoxFuture<'a, Result<Description, SourceError>> {
        unreachable!("nobody asks")
    }

    fn read<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
        version: &'a VersionSelector,
    ) -> BoxFuture<'a, Result<SecretVersion, SourceError>> {
        self.call(move |state| {
            let name = name_of(secret);
            let found = &state.secrets[&name];
            let id = match version {
                VersionSelector::Stage(stage) => found.labels.get(stage),
                VersionSelector::Id(id) => Some(id),
            };
            let text = id.and_then(|id| Some((id, found.versions.get(id)?)));
            let Some((id, text)) = text else {
                return Err(SourceError::new(SourceErrorKind::VersionNotFound, name));
            };
            Ok(SecretVersion {
                arn: arn(&name),
                name,
                version_id: id.clone(),
                created: None,
                payload: Payload::text(text.clone()),
                request_id: None,
                lost_attempts: 0,
            })
        })
        .boxed()
    }

    fn read_batch<'a>(&'a self, _: &'a Identity, _: &'a [SecretId]) -> BoxFuture<'a, Result<Batch, SourceError>> {
        unreachable!("batches hold the current versions of several secrets")
    }

    fn list<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a [String],
        _: Option<String>,
    ) -> BoxFuture<'a, Result<Page, SourceError>> {
        unreachable!("nobody asks")
    }

    fn put<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
        text: &'a Value,
        stages: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        self.call(move |state| {
            if let Some(kind) = state.denied {
                return Err(SourceError::new(kind, "s"));
            }
            let text = String::from_utf8(text.expose().to_vec()).unwrap();
            state.writes.push(format!("put {stages:?}"));
            let found = state.secrets.get_mut(&name_of(secret)).unwrap();
            if found.versions.get(token).is_some_and(|known| *known != text) {
                return Err(SourceError::new(SourceErrorKind::TokenTaken, "s"));
            }
            found.versions.insert(token.to_owned(), text);
            for stage in stages {
                found.labels.insert((*stage).to_owned(), token.to_owned());
            }
            Ok(None)
        })
        .boxed()
    }

    fn label<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
        stage: &'a str,
        from: Option<&'a str>,
        to: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        self.call(move |state| {
            state.writes.push(format!("label {stage}"));
            let found = state.secrets.get_mut(&name_of(secret)).unwrap();
            if found.labels.get(stage).map(String::as_str) != from {
                return Err(SourceError::new(SourceErrorKind::StageMoved, "s"));
            }
            match to {
                Some(to) if stage == AWSCURRENT => {
                    found.promotions += 1;
                    found.move_current(to);
                }
                Some(to) => {
                    found.labels.insert(stage.to_owned(), to.to_owned());
                }
                None => {
                    found.labels.remove(stage);
                }
            }
            Ok(None)
        })
        .boxed()
    }

    fn rotate<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        unreachable!("nobody asks")
    }

    fn account<'a>(&'a self, _: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>> {
        unreachable!("nobody asks")
    }
}

struct Bench {
    aws: Aws,
    audit: PathBuf,
    _folder: tempfile::TempDir,
    places: Vec<Place>,
    draws: u8,
}

impl Bench {
    fn new(secrets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &&str| Place {
            secret: name.parse().unwrap(),
            mandate: WriteAuthorization {
                binding: BindingName::new("n", "worker"),
                rule: "key".to_owned(),
                due: Timestamp::UNIX_EPOCH,
                grant: "g".to_owned(),
                identity: Identity { region: Some("eu-west-1".to_owned()), ..Identity::default() },
                arn: arn(name),
                keys: vec!["KEY".to_owned()],
            },
            slots: vec![0],
            judge: Arc::new(|_| Ok(Selection::default())),
        };
        Self {
            aws: Aws::with(secrets),
            audit: folder.path().join("audit.log"),
            _folder: folder,
            places: secrets.iter().map(place).collect(),
            draws: 0,
        }
    }

    /// One life of the operator; `None` where it was ended.
    async fn live(&mut self) -> Option<Result<End, GenerateError>> {
        let api: Arc<dyn SecretsApi> = Arc::new(self.aws.clone());
        let (audit, quotas) = (Arc::new(AuditLog::file(self.audit.clone()).unwrap()), Arc::new(RateLimits::default()));
        let (versions, _changes) = Versions::new(api.clone(), quotas.clone(), None);
        let writer = Writer::new(api.clone(), audit.clone(), quotas.clone());
        let reader = Reader::new(api, audit, quotas, Arc::new(versions));
        // Each life draws other bytes, as chance would.
        self.draws += 1;
        let byte = self.draws;
        let mut random = move |bytes: &mut [u8]| {
            bytes.fill(byte);
            Ok(())
        };
        let recipe = Recipe { bytes: 16, encoding: GenerateEncoding::Hex };
        let hands = Hands { reader: &reader, writer: &writer, recipe, random: &mut random };
        let is_due = |_: usize, _: &str, value: &Value| value.expose() == b"old";
        tokio::select! {
            end = generate(&self.places, &is_due, hands) => Some(end),
            () = self.aws.died.notified() => None,
        }
    }

    fn records(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|r: &serde_json::Value| r["kind"] == "write")
            .collect()
    }

    fn check(&self, case: &str) {
        let state = self.aws.state();
        let mut values = BTreeSet::new();
        for (name, secret) in &state.secrets {
            let text = secret.current();
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            let key = json["KEY"].as_str().unwrap();
            values.insert(key.to_owned());
            assert_eq!(key.len(), 32, "{case}: {name} is rotated");
            assert_eq!(secret.promotions, 1, "{case}: {name} once");
            assert!(!secret.labels.contains_key(PENDING), "{case}: {name} keeps no label");
            let ones = "1".repeat(secret.edits as usize);
            assert_eq!(text, OLD.replace("old", key).replace(": 0", &format!(": {ones}0")), "{case}: {name}");
        }
        assert_eq!(values.len(), 1, "{case}: one value");
    }
}

#[tokio::test(start_paused = true)]
async fn one_value_comes_into_all_secrets_and_every_write_is_recorded_twice() {
    let mut bench = Bench::new(&["app", "worker"]);
    assert_eq!(bench.live().await.unwrap(), Ok(End::Done));
    bench.check("undisturbed");
    let writes = bench.aws.state().writes.clone();
    assert_eq!(writes.len(), 6, "{writes:?}");
    let records = bench.records();
    assert_eq!(records.len(), 12);
    for pair in records.chunks(2) {
        assert_eq!((pair[0]["outcome"].as_str(), pair[1]["outcome"].as_str()), (Some("intended"), Some("written")));
        for field in
            ["operation", "secret", "versionStages", "keys", "namespace", "binding", "rule", "grant", "due", "identity"]
        {
            assert_eq!(pair[0][field], pair[1][field]);
            assert!(!pair[0][field].is_null(), "{field}");
        }
    }
    assert!(!std::fs::read_to_string(&bench.audit).unwrap().contains(&bench.aws.key("app")));
    assert_eq!(bench.live().await.unwrap(), Ok(End::Done), "a second run finds nothing to do");
    assert_eq!(bench.aws.state().writes.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn ended_at_any_call_it_goes_on_with_the_same_value() {
    for secrets in [&["app"][..], &["app", "worker"], &["a", "b", "c"]] {
        let mut undisturbed = Bench::new(secrets);
        undisturbed.live().await;
        let calls = undisturbed.aws.state().calls;
        for first in 0..calls {
            for second in [None, Some(1), Some(4)] {
                for after in [false, true] {
                    let mut bench = Bench::new(secrets);
                    bench.aws.state().dies_at = Some((first, after));
                    assert!(bench.live().await.is_none());
                    bench.aws.state().dies_at = second.map(|second| (first + second, after));
                    if bench.live().await.is_none() {
                        bench.aws.state().dies_at = None;
                        assert_eq!(bench.live().await.unwrap(), Ok(End::Done));
                    }
                    bench.check(&format!("{secrets:?} {first} {second:?} {after}"));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edits_of_other_keys_are_kept_whenever_they_come() {
    for secrets in [&["app"][..], &["app", "worker"]] {
        for edited in secrets {
            for at in 0..16 {
                for again in [None, Some(1), Some(3)] {
                    for dies in [None, Some((5, false)), Some((7, true)), Some((9, true))] {
                        let mut bench = Bench::new(secrets);
                        let edits = [Some(at), again.map(|again| at + again)];
                        let edits = edits.into_iter().flatten().map(|at| (at, (*edited).to_owned())).collect();
                        bench.aws.state().edits = edits;
                        bench.aws.state().dies_at = dies;
                        while bench.live().await.is_none() {
                            bench.aws.state().dies_at = None;
                        }
                        bench.check(&format!("{secrets:?} {edited} {at} {again:?} {dies:?}"));
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_somebody_sets_meanwhile_is_left_to_them() {
    for at in 1..5 {
        let mut bench = Bench::new(&["app"]);
        bench.aws.state().overtakes_at = Some(at);
        let end = bench.live().await.unwrap().unwrap();
        let overtaken = End::Overtaken { secret: "app".to_owned(), key: "KEY".to_owned() };
        assert!(end == overtaken || (at == 4 && end == End::Done), "{at}: {end:?}");
        assert_eq!(bench.aws.key("app"), "by hand", "{at}");
        assert!(!bench.aws.state().secrets["app"].labels.contains_key(PENDING), "{at}");
    }
    let mut bench = Bench::new(&["app"]);
    bench.aws.state().overtakes_at = Some(0);
    assert_eq!(bench.live().await.unwrap(), Ok(End::NotDue));
    assert!(bench.aws.state().writes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_it_cannot_be_recorded_or_is_refused() {
    let mut bench = Bench::new(&["app"]);
    bench.aws.state().denied = Some(SourceErrorKind::WriteDenied);
    let error = bench.live().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("secretsmanager:PutSecretValue"), "{error}");
    let outcomes: Vec<_> = bench.records().iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["intended", "refused"]);

    let bench = Bench::new(&["app"]);
    let api: Arc<dyn SecretsApi> = Arc::new(bench.aws.clone());
    let audit = Arc::new(AuditLog::file(PathBuf::from("/dev/full")).unwrap());
    let writer = Writer::new(api, audit, Arc::default());
    let refused = writer.put(&bench.places[0].mandate, &"t".repeat(64), &Value::from("x"), &[PENDING]).await;
    assert_eq!(refused.unwrap_err().kind, SourceErrorKind::AuditFailed);
    assert_eq!(bench.aws.state().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_fit_is_named_without_its_content() {
    let mut bench = Bench::new(&["app"]);
    let text = r#"{"KEY": 7, "x": "hunter2"}"#.to_owned();
    bench.aws.state().secrets.get_mut("app").unwrap().versions.insert("v0".to_owned(), text);
    let error = bench.live().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("\"app\"") && error.contains("KEY") && !error.contains("hunter2"), "{error}");
}
