use std::collections::BTreeSet;

use super::*;
use crate::aws::audit::ReadReason;
use crate::aws::fake::FakeSecretsManager;
use crate::aws::rate_limit::Rates;
use crate::aws::read_request::{AnswerCheck, Selection};
use crate::domain::name::BindingName;
use crate::domain::secret::reference::VersionSelector;

/// A reader, and the audit log that it writes.
struct Reading {
    fake: FakeSecretsManager,
    reader: Reader,
    log: std::path::PathBuf,
}

impl Reading {
    fn new() -> Self {
        Self::at_rate(0.1)
    }

    fn at_rate(tenant: f64) -> Self {
        let fake = FakeSecretsManager::default();
        fake.add_text("app", r#"{"A":"b"}"#);
        let log = std::env::temp_dir().join(format!("bindery-reader-{:016x}.jsonl", fastrand::u64(..)));
        let limits = Arc::new(RateLimits::new(Rates { tenant, ..Rates::default() }));
        let audit = Arc::new(AuditLog::file(log.clone()).unwrap());
        let (versions, _) = Versions::new(Arc::new(fake.clone()), limits.clone(), None);
        let reader = Reader::new(Arc::new(fake.clone()), audit, limits, Arc::new(versions));
        Self { fake, reader, log }
    }

    async fn read(&self, binding: &str, version: Option<&str>, check: AnswerCheck) -> Result<String, SourceErrorKind> {
        self.read_in("n", binding, version, check).await
    }

    async fn read_in(
        &self,
        namespace: &str,
        binding: &str,
        version: Option<&str>,
        check: AnswerCheck,
    ) -> Result<String, SourceErrorKind> {
        let answer = self.value_of("app", BindingName::new(namespace, binding), version, check).await;
        answer.map(|version| version.version_id.clone()).map_err(|error| error.kind)
    }

    async fn value_of(
        &self,
        secret: &str,
        binding: BindingName,
        version: Option<&str>,
        check: AnswerCheck,
    ) -> ReadAnswer {
        let source = Source { secret: secret.parse().unwrap(), version: VersionSelector::default() };
        let (grant, version_id) = ("g".to_owned(), version.map(str::to_owned));
        let request = ReadRequest { binding, grant, reason: ReadReason::Changed, version_id, check };
        self.reader.read(&Identity::default(), &source, request).await
    }

    fn served(&self) -> BTreeSet<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let records = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let served = records.flat_map(|record| record["served"].as_array().unwrap().clone());
        let name = |one: serde_json::Value| format!("{} {}", one["binding"].as_str().unwrap(), one["denied"]);
        served.map(name).collect()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

fn allows() -> AnswerCheck {
    Arc::new(|_: &SecretVersion| Ok(Selection::default()))
}

#[tokio::test(start_paused = true)]
async fn a_read_that_panics_is_answered_and_later_requests_are_served() {
    let at = Reading::new();
    at.fake.edit_before(0, |_| panic!("a value"));
    let (first, joined) = tokio::join!(at.read("first", None, allows()), async {
        sleep(Duration::from_millis(25)).await;
        at.read("joined", Some("v0"), allows()).await
    });
    assert_eq!(first, Err(SourceErrorKind::Unavailable));
    // It joined the read that panicked, or came after it.
    assert!(matches!(joined.as_deref(), Ok("v0") | Err(SourceErrorKind::Unavailable)), "{joined:?}");
    let later = tokio::time::timeout(Duration::from_secs(60), at.read("later", Some("v0"), allows())).await;
    assert_eq!(later.expect("an answer"), Ok("v0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_panic_over_one_binding_keeps_neither_the_value_from_the_others_nor_the_read_from_the_record() {
    let at = Reading::new();
    let panics: AnswerCheck = Arc::new(|_: &SecretVersion| panic!("a value"));
    let (bad, good) = tokio::join!(at.read("bad", None, panics), at.read("good", None, allows()));
    assert_eq!((bad, good), (Err(SourceErrorKind::Unavailable), Ok("v0".to_owned())));
    assert_eq!(at.served(), BTreeSet::from(["bad true".to_owned(), "good null".to_owned()]));
    assert_eq!(at.fake.take_requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_reads_again_and_again_runs_out_and_shares_what_another_reads() {
    let at = Reading::new();
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(at.read_in("noisy", "b", None, allows()).await);
    }
    let read = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((10..=11).contains(&read), "{read}");
    assert_eq!(answers.last(), Some(&Err(SourceErrorKind::TenantLimit)));
    assert_eq!(at.fake.take_requests().len(), read);
    let (quiet, noisy) =
        tokio::join!(at.read_in("quiet", "q", None, allows()), at.read_in("noisy", "b", None, allows()));
    assert_eq!((quiet, noisy), (Ok("v0".to_owned()), Ok("v0".to_owned())));
    assert_eq!(at.fake.take_requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_holds_its_values_leaves_memory_for_those_of_others() {
    let at = Reading::at_rate(10.0);
    let large = format!(r#"{{"A":"{}"}}"#, "x".repeat(65_000));
    let mut held = Vec::new();
    for number in 0..770 {
        let name = format!("s{number}");
        at.fake.add_text(&name, &large);
        held.push(at.value_of(&name, BindingName::new("noisy", &name), None, allows()).await);
    }
    assert_eq!(held.iter().filter(|answer| answer.is_ok()).count(), 768);
    let refused = held.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert_eq!((refused.kind, refused.code.as_deref()), (SourceErrorKind::Unavailable, Some("MemoryLimit")));

    let began = Instant::now();
    assert_eq!(at.read_in("quiet", "q", None, allows()).await, Ok("v0".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // What is let go is there for the next.
    drop(held);
    assert!(at.value_of("s769", BindingName::new("noisy", "again"), None, allows()).await.is_ok());
}
