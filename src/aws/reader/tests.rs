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
        let fake = FakeSecretsManager::default();
        fake.add_text("app", r#"{"A":"b"}"#);
        let log = std::env::temp_dir().join(format!("bindery-reader-{:016x}.jsonl", fastrand::u64(..)));
        let limits = Arc::new(RateLimits::new(Rates { tenant: 0.1, ..Rates::default() }));
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
        let source = Source { secret: "app".parse().unwrap(), version: VersionSelector::default() };
        let request = ReadRequest {
            binding: BindingName::new(namespace, binding),
            grant: "g".to_owned(),
            reason: ReadReason::Changed,
            version_id: version.map(str::to_owned),
            check,
        };
        let answer = self.reader.read(&Identity::default(), &source, request).await;
        answer.map(|version| version.version_id.clone()).map_err(|error| error.kind)
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
    let later = timeout(Duration::from_secs(60), at.read("later", Some("v0"), allows())).await;
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
