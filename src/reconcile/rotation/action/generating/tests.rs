use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::api::GenerateEncoding;
use crate::aws::api::SecretsApi;
use crate::aws::audit::AuditLog;
use crate::aws::fake::{FakeSecretsManager, FakeState, StopPoint, arn};
use crate::aws::rate_limit::RateLimits;
use crate::aws::versions::Versions;
use crate::domain::name::BindingName;
use crate::domain::secret::identity::Identity;

const OLD: &str = "{ \"OTHER\" : 0,\n\"KEY\": \"old\",\"deep\":{\"KEY\":\"stays\"} }";

/// The value of `KEY` at AWSCURRENT.
fn key(aws: &FakeSecretsManager, name: &str) -> String {
    let state = aws.state();
    let json: serde_json::Value = serde_json::from_str(state.secrets[name].current()).unwrap();
    json["KEY"].as_str().unwrap().to_owned()
}

/// Somebody sets the ruled key.
fn set_key(state: &mut FakeState) {
    let secret = state.secrets.values_mut().next().unwrap();
    let key = secret.current().split("\"KEY\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    secret.edit(&format!("\"KEY\": \"{key}\""), "\"KEY\": \"by hand\"");
}

struct Bench {
    aws: FakeSecretsManager,
    /// How often somebody edited another key of a secret.
    edits: BTreeMap<String, Arc<AtomicUsize>>,
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
        let aws = FakeSecretsManager::default();
        for name in secrets {
            aws.add_text(name, OLD);
        }
        Self {
            aws,
            edits: secrets.iter().map(|name| ((*name).to_owned(), Arc::default())).collect(),
            audit: folder.path().join("audit.log"),
            _folder: folder,
            places: secrets.iter().map(place).collect(),
            draws: 0,
        }
    }

    /// Somebody edits another key of this secret right before the request with this number.
    fn edit_before(&self, request: usize, name: &str) {
        let (name, edits) = (name.to_owned(), self.edits[name].clone());
        self.aws.edit_before(request, move |state| {
            edits.fetch_add(1, Ordering::Relaxed);
            state.secrets.get_mut(&name).unwrap().edit("\"OTHER\" : ", "\"OTHER\" : 1");
        });
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
            () = self.aws.stopped() => None,
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
            assert!(!secret.stages.contains_key(PENDING), "{case}: {name} keeps no label");
            let ones = "1".repeat(self.edits[name].load(Ordering::Relaxed));
            assert_eq!(text, OLD.replace("old", key).replace(": 0", &format!(": {ones}0")), "{case}: {name}");
        }
        assert_eq!(values.len(), 1, "{case}: one value");
        let expected = |request: &String| ["read ", "put ", "move "].iter().any(|kind| request.starts_with(kind));
        assert!(state.requests.iter().all(expected), "{case}: {:?}", state.requests);
    }
}

#[tokio::test(start_paused = true)]
async fn one_value_comes_into_all_secrets_and_every_write_is_recorded_twice() {
    let mut bench = Bench::new(&["app", "worker"]);
    assert_eq!(bench.live().await.unwrap(), Ok(End::Done));
    bench.check("undisturbed");
    let writes = bench.aws.state().writes();
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
    assert!(!std::fs::read_to_string(&bench.audit).unwrap().contains(&key(&bench.aws, "app")));
    assert_eq!(bench.live().await.unwrap(), Ok(End::Done), "a second run finds nothing to do");
    assert_eq!(bench.aws.state().writes().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn ended_at_any_call_it_goes_on_with_the_same_value() {
    for secrets in [&["app"][..], &["app", "worker"], &["a", "b", "c"]] {
        let mut undisturbed = Bench::new(secrets);
        undisturbed.live().await;
        let calls = undisturbed.aws.state().requests.len();
        for first in 0..calls {
            for second in [None, Some(1), Some(4)] {
                for after in [false, true] {
                    let mut bench = Bench::new(secrets);
                    bench.aws.state().stop = Some(StopPoint { request: first, applied: after });
                    assert!(bench.live().await.is_none());
                    let stop = second.map(|second| StopPoint { request: first + second, applied: after });
                    bench.aws.state().stop = stop;
                    if bench.live().await.is_none() {
                        bench.aws.state().stop = None;
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
                        for at in [Some(at), again.map(|again| at + again)].into_iter().flatten() {
                            bench.edit_before(at, edited);
                        }
                        bench.aws.state().stop = dies.map(|(request, applied)| StopPoint { request, applied });
                        while bench.live().await.is_none() {
                            bench.aws.state().stop = None;
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
        bench.aws.edit_before(at, set_key);
        let end = bench.live().await.unwrap().unwrap();
        let overtaken = End::Overtaken { secret: "app".to_owned(), key: "KEY".to_owned() };
        assert!(end == overtaken || (at == 4 && end == End::Done), "{at}: {end:?}");
        assert_eq!(key(&bench.aws, "app"), "by hand", "{at}");
        assert!(!bench.aws.state().secrets["app"].stages.contains_key(PENDING), "{at}");
    }
    let mut bench = Bench::new(&["app"]);
    bench.aws.edit_before(0, set_key);
    assert_eq!(bench.live().await.unwrap(), Ok(End::NotDue));
    assert!(bench.aws.state().writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_it_cannot_be_recorded_or_is_refused() {
    let mut bench = Bench::new(&["app"]);
    bench.aws.state().put_error = Some(SourceErrorKind::WriteDenied);
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
    assert!(bench.aws.state().requests.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_fit_is_named_without_its_content() {
    let mut bench = Bench::new(&["app"]);
    let text = r#"{"KEY": 7, "x": "hunter2"}"#.to_owned();
    bench.aws.state().secrets.get_mut("app").unwrap().versions.insert("v0".to_owned(), text);
    let error = bench.live().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("\"app\"") && error.contains("KEY") && !error.contains("hunter2"), "{error}");
}
