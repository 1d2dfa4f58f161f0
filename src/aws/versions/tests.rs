use std::collections::BTreeMap;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::*;
use crate::aws::api::{Batch, Page, SecretsApi, VersionPage};
use crate::aws::events::message::NamedSecret;
use crate::domain::payload::Payload;
use crate::domain::secret::description::RotationDates;
use crate::domain::secret::reference::VersionSelector;
use crate::domain::secret::version::ListedVersion;
use crate::domain::value::Value;

const FRESH: Duration = Duration::from_secs(270);

/// What AWS says at present: of each secret the versions, and what a list shows of them.
#[derive(Default)]
struct World {
    described: BTreeMap<String, Result<Description, SourceErrorKind>>,
    listed: BTreeMap<String, Description>,
    list_error: Option<SourceErrorKind>,
    history: Vec<Vec<ListedVersion>>,
    calls: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// A secret has these versions from now on, for descriptions and for lists.
    fn put(&self, name: &str, versions: &[(&str, &str)]) {
        self.describe_as(name, versions);
        self.list_as(name, versions);
    }

    fn describe_as(&self, name: &str, versions: &[(&str, &str)]) {
        self.world().described.insert(name.to_owned(), Ok(description(name, versions)));
    }

    fn list_as(&self, name: &str, versions: &[(&str, &str)]) {
        self.world().listed.insert(name.to_owned(), description(name, versions));
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.world().calls)
    }
}

fn description(name: &str, versions: &[(&str, &str)]) -> Description {
    let mut labelled: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (version, stage) in versions {
        labelled.entry((*version).to_owned()).or_default().insert((*stage).to_owned());
    }
    Description {
        arn: format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"),
        name: name.to_owned(),
        versions: labelled,
        pending_deletion: false,
        created: None,
        rotation: RotationDates::default(),
    }
}

impl SecretsApi for Fake {
    fn describe<'a>(
        &'a self,
        _: &'a Identity,
        secret: &'a SecretId,
    ) -> BoxFuture<'a, Result<Description, SourceError>> {
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let name = secret.to_string();
            self.world().calls.push(format!("describe {name}"));
            let found = self.world().described.get(&name).cloned().unwrap_or(Err(SourceErrorKind::SecretNotFound));
            found.map_err(|kind| SourceError::new(kind, name))
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: &'a VersionSelector,
    ) -> BoxFuture<'a, Result<SecretVersion, SourceError>> {
        unreachable!("no value is read here")
    }

    fn read_batch<'a>(&'a self, _: &'a Identity, _: &'a [SecretId]) -> BoxFuture<'a, Result<Batch, SourceError>> {
        unreachable!("no value is read here")
    }

    fn list<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a [String],
        _: Option<String>,
    ) -> BoxFuture<'a, Result<Page, SourceError>> {
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.world().calls.push("list".to_owned());
            let error = self.world().list_error;
            match error {
                Some(kind) => Err(SourceError::new(kind, "all")),
                None => Ok(Page { secrets: self.world().listed.values().cloned().collect(), next: None }),
            }
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: &'a str,
        _: &'a Value,
        _: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        unreachable!("nothing is written here")
    }

    fn label<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: &'a str,
        _: Option<&'a str>,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        unreachable!("nothing is written here")
    }

    fn rotate<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>> {
        unreachable!("nothing is written here")
    }

    fn list_versions<'a>(
        &'a self,
        _: &'a Identity,
        _: &'a SecretId,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<VersionPage, SourceError>> {
        async move {
            let number = page.map_or(0, |page| page.parse().unwrap());
            self.world().calls.push(format!("versions {number}"));
            let versions = self.world().history[number].clone();
            let next = (number + 1 < self.world().history.len()).then(|| (number + 1).to_string());
            Ok(VersionPage { versions, next })
        }
        .boxed()
    }

    fn account<'a>(&'a self, _: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>> {
        unreachable!("nobody asks")
    }
}

fn versions(fake: &Fake) -> (Arc<Versions>, mpsc::UnboundedReceiver<BindingName>) {
    let (versions, changes) = Versions::new(Arc::new(fake.clone()), Arc::default(), Some("eu-west-1".to_owned()));
    (Arc::new(versions), changes)
}

fn name(index: usize) -> String {
    format!("team/s{index}")
}

/// Two bindings for each of `count` secrets, at version `v1`.
fn interested(versions: &Versions, fake: &Fake, count: usize) {
    for index in 0..count {
        fake.put(&name(index), &[("v1", "AWSCURRENT")]);
        for binding in ["a", "b"] {
            let secrets = BTreeSet::from([name(index).parse().unwrap()]);
            let binding = BindingName::new("n", &format!("{binding}{index}"));
            versions.register(&binding, &Identity::default(), secrets, FRESH);
        }
    }
}

async fn look(versions: &Arc<Versions>, index: usize, confirmed: bool) -> Result<Option<String>, SourceErrorKind> {
    let stage = VersionSelector::default();
    let want = SnapshotRequest { max_age: FRESH, max_failure_age: Duration::ZERO, confirmed, versions: &[&stage] };
    let seen = versions.snapshot(&Identity::default(), &name(index).parse().unwrap(), &want).await;
    let version = |seen: Snapshot| seen.description.version_id(&stage).unwrap_or_default().to_owned();
    seen.map(|seen| seen.map(version)).map_err(|error| error.kind)
}

async fn look_at_all(versions: &Arc<Versions>, count: usize) -> Vec<String> {
    let looks = (0..count).map(|index| look(versions, index, false));
    futures::future::join_all(looks).await.into_iter().map(|seen| seen.unwrap().unwrap()).collect()
}

fn told(changes: &mut mpsc::UnboundedReceiver<BindingName>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(binding) = changes.try_recv() {
        told.push(binding.name.to_string());
    }
    told.sort();
    told
}

fn read(index: usize, version: &str) -> SecretVersion {
    let described = description(&name(index), &[]);
    SecretVersion {
        arn: described.arn,
        name: described.name,
        version_id: version.to_owned(),
        created: None,
        payload: Payload::text("{}".to_owned()),
        request_id: None,
        lost_attempts: 0,
    }
}

fn event(index: usize, time: Timestamp) -> SecretEvent {
    SecretEvent {
        account: "123456789012".to_owned(),
        region: "eu-west-1".to_owned(),
        secret: NamedSecret { ids: vec![name(index)] },
        action: "PutSecretValue".to_owned(),
        time: Some(time),
        version_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn one_list_answers_for_all_secrets_and_serves_until_it_is_too_old() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 50);
    assert_eq!(look_at_all(&versions, 50).await, vec!["v1"; 50]);
    assert_eq!(fake.calls(), ["list"]);
    tokio::time::advance(Duration::from_secs(269)).await;
    look_at_all(&versions, 50).await;
    assert!(fake.calls().is_empty());
    tokio::time::advance(Duration::from_secs(1)).await;
    look_at_all(&versions, 50).await;
    assert_eq!(fake.calls(), ["list"]);
    assert!(told(&mut changes).is_empty(), "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn what_a_list_shows_otherwise_is_confirmed_in_either_direction_before_anybody_is_told() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 10);
    look_at_all(&versions, 10).await;
    fake.calls();

    // A description knows of version 2; the list lags behind it for a while.
    fake.describe_as(&name(3), &[("v2", "AWSCURRENT"), ("v1", "AWSPREVIOUS")]);
    assert_eq!(look(&versions, 3, true).await, Ok(Some("v2".to_owned())));
    assert_eq!(told(&mut changes), ["a3", "b3"]);
    tokio::time::advance(FRESH).await;
    assert_eq!(look(&versions, 0, false).await, Ok(Some("v1".to_owned())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(look(&versions, 3, false).await, Ok(Some("v2".to_owned())), "the older version of the list is no news");
    assert!(told(&mut changes).is_empty());
    assert_eq!(fake.calls(), ["describe team/s3", "list", "describe team/s3"]);

    // A rollback is an older version too, and is followed.
    fake.put(&name(3), &[("v1", "AWSCURRENT"), ("v2", "AWSPREVIOUS")]);
    tokio::time::advance(FRESH).await;
    look(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&mut changes), ["a3", "b3"]);
    assert_eq!(look(&versions, 3, false).await, Ok(Some("v1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn absence_from_a_list_is_a_hint_and_never_the_end_of_a_secret() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 5);
    look_at_all(&versions, 5).await;
    fake.world().listed.remove(&name(1));
    tokio::time::advance(FRESH).await;
    look(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(look(&versions, 1, false).await, Ok(Some("v1".to_owned())), "AWS still describes it");
    assert!(told(&mut changes).is_empty());

    fake.world().described.remove(&name(1));
    tokio::time::advance(FRESH).await;
    look(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&mut changes), ["a1", "b1"], "now it is gone, and all who use it look");
    assert_eq!(look(&versions, 1, false).await, Err(SourceErrorKind::SecretNotFound));
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_list_each_is_described_and_without_that_only_reading_tells() {
    let fake = Fake::default();
    let (versions, _changes) = versions(&fake);
    interested(&versions, &fake, 3);
    fake.world().list_error = Some(SourceErrorKind::AccessDenied);
    look_at_all(&versions, 3).await;
    assert_eq!(fake.calls(), ["list", "describe team/s0", "describe team/s1", "describe team/s2"]);
    fake.world().described.insert(name(0), Err(SourceErrorKind::AccessDenied));
    tokio::time::advance(FRESH).await;
    assert_eq!(look(&versions, 0, false).await, Ok(None));
    assert_eq!(look(&versions, 0, false).await, Ok(None));
    assert_eq!(fake.calls(), ["describe team/s0"], "what IAM refused is remembered");

    // What reads tell serves the others until it is too old.
    let source = Source { secret: name(0).parse().unwrap(), version: VersionSelector::default() };
    versions.record_read(&Identity::default(), &source, &read(0, "v1"));
    assert_eq!(look(&versions, 0, false).await, Ok(Some("v1".to_owned())));
    tokio::time::advance(PROBE_AGAIN).await;
    fake.world().list_error = None;
    look_at_all(&versions, 3).await;
    assert_eq!(fake.calls(), ["list"], "after an hour it is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_longer_than_the_descriptions_is_not_gone_through() {
    let fake = Fake::default();
    let (versions, _changes) = versions(&fake);
    interested(&versions, &fake, 1);
    look_at_all(&versions, 1).await;
    assert_eq!(fake.calls(), ["describe team/s0"], "one secret is described");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_by_those_who_asked_before_it_and_passes() {
    let fake = Fake::default();
    let (versions, _changes) = versions(&fake);
    interested(&versions, &fake, 10);
    fake.world().list_error = Some(SourceErrorKind::Unavailable);
    let looks = (0..10).map(|index| look(&versions, index, false));
    let seen = futures::future::join_all(looks).await;
    assert!(seen.iter().all(|seen| *seen == Err(SourceErrorKind::Unavailable)));
    assert_eq!(fake.calls(), ["list"]);
    fake.world().list_error = None;
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(look(&versions, 0, false).await, Ok(Some("v1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_read_teaches_what_it_read_and_tells_the_others_of_a_change() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 2);
    let source = Source { secret: name(0).parse().unwrap(), version: VersionSelector::default() };
    versions.record_read(&Identity::default(), &source, &read(0, "v1"));
    assert!(told(&mut changes).is_empty(), "the first thing that is known is no change");
    assert_eq!(look(&versions, 0, true).await, Ok(Some("v1".to_owned())));
    assert!(fake.calls().is_empty());
    // Another stage may be there though it was not read.
    let previous = VersionSelector::stage("AWSPREVIOUS").unwrap();
    let want =
        SnapshotRequest { max_age: FRESH, max_failure_age: Duration::ZERO, confirmed: false, versions: &[&previous] };
    versions.snapshot(&Identity::default(), &name(0).parse().unwrap(), &want).await.unwrap();
    assert_eq!(fake.calls().len(), 1);
    versions.record_read(&Identity::default(), &source, &read(0, "v2"));
    assert_eq!(told(&mut changes), ["a0", "b0"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_event_acts_at_once_and_a_burst_costs_one_more_description() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 10);
    look_at_all(&versions, 10).await;
    fake.calls();
    fake.put(&name(4), &[("v2", "AWSCURRENT")]);
    let started = Instant::now();
    assert_eq!(versions.handle_event(&event(4, Timestamp::now())).await, EventOutcome::Known);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(told(&mut changes), ["a4", "b4"]);
    assert_eq!(fake.calls(), ["describe team/s4"]);

    fake.put(&name(4), &[("v3", "AWSCURRENT")]);
    let again = event(4, Timestamp::now());
    let burst = (0..1000).map(|_| versions.handle_event(&again));
    let burst = futures::future::join_all(burst).await;
    assert!(burst.iter().all(|noticed| *noticed == EventOutcome::Known));
    assert_eq!(fake.calls(), ["describe team/s4"]);
    assert_eq!(told(&mut changes), ["a4", "b4"]);

    // What is told again long after it was looked at costs nothing.
    let old = event(4, Timestamp::now() - SignedDuration::from_secs(60));
    assert_eq!(versions.handle_event(&old).await, EventOutcome::Known);
    assert!(fake.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_of_what_nobody_asks_about_cost_no_call() {
    let fake = Fake::default();
    let (versions, _changes) = versions(&fake);
    interested(&versions, &fake, 3);
    look_at_all(&versions, 3).await;
    fake.calls();
    let now = Timestamp::now();
    let foreign_account = SecretEvent { account: "999999999999".to_owned(), ..event(1, now) };
    let foreign_region = SecretEvent { region: "us-east-1".to_owned(), ..event(1, now) };
    for event in [event(77, now), foreign_account, foreign_region] {
        assert_eq!(versions.handle_event(&event).await, EventOutcome::Unregistered, "{event:?}");
    }
    assert!(fake.calls().is_empty());
    fake.world().described.insert(name(1), Err(SourceErrorKind::Unavailable));
    assert_eq!(versions.handle_event(&event(1, now)).await, EventOutcome::Unknown, "it must be told again");
}

#[tokio::test(start_paused = true)]
async fn a_secret_made_anew_under_its_old_name_is_followed_by_its_event() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 3);
    look_at_all(&versions, 3).await;
    fake.calls();
    let mut anew = description(&name(2), &[("v9", "AWSCURRENT")]);
    anew.arn = anew.arn.replace("AbCdEf", "GhIjKl");
    let ids = vec![name(2), anew.arn.clone()];
    fake.world().described.insert(name(2), Ok(anew));
    let created =
        SecretEvent { action: "CreateSecret".to_owned(), secret: NamedSecret { ids }, ..event(2, Timestamp::now()) };
    assert_eq!(versions.handle_event(&created).await, EventOutcome::Known);
    assert_eq!(told(&mut changes), ["a2", "b2"]);
    let elsewhere = SecretEvent { account: "999999999999".to_owned(), ..created };
    assert_eq!(versions.handle_event(&elsewhere).await, EventOutcome::Unregistered);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_secret_that_only_reading_tells_of_lets_the_bindings_read() {
    let fake = Fake::default();
    let (versions, mut changes) = versions(&fake);
    interested(&versions, &fake, 1);
    fake.world().described.insert(name(0), Err(SourceErrorKind::AccessDenied));
    assert_eq!(look(&versions, 0, false).await, Ok(None));
    assert_eq!(versions.handle_event(&event(0, Timestamp::now())).await, EventOutcome::Known);
    assert_eq!(told(&mut changes), ["a0", "b0"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_about_any_more_is_forgotten() {
    let fake = Fake::default();
    let (versions, _changes) = versions(&fake);
    interested(&versions, &fake, 20);
    look_at_all(&versions, 20).await;
    for index in 0..20 {
        for binding in ["a", "b"] {
            versions.forget(&BindingName::new("n", &format!("{binding}{index}")));
        }
    }
    assert!(versions.index().views.is_empty() && versions.index().interests.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_versions_of_a_secret_come_from_all_pages_the_newest_first() {
    let fake = Fake::default();
    let version = |id: &str, second| ListedVersion {
        id: id.to_owned(),
        stages: BTreeSet::new(),
        created: Timestamp::from_second(second).ok(),
    };
    fake.world().history =
        vec![vec![version("b", 20), version("d", 40)], vec![], vec![version("a", 10), version("c", 30)]];
    let (versions, _changes) = versions(&fake);
    let found = versions.history(&Identity::default(), &name(0).parse().unwrap()).await.unwrap();
    assert_eq!(found.iter().map(|version| version.id.as_str()).collect::<Vec<_>>(), ["d", "c", "b", "a"]);
    assert_eq!(fake.calls(), ["versions 0", "versions 1", "versions 2"]);
}

#[test]
fn a_version_that_waits_to_become_current_is_pending() {
    assert!(description("s", &[("v2", "AWSPENDING"), ("v1", "AWSCURRENT")]).has_pending());
    // After a rotation that ended well the label may stay beside the current one.
    assert!(!description("s", &[("v2", "AWSPENDING"), ("v2", "AWSCURRENT"), ("v1", "AWSPREVIOUS")]).has_pending());
    assert!(!description("s", &[("v1", "AWSCURRENT")]).has_pending());
}
