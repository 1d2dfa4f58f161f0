use super::*;
use crate::aws::events::message::NamedSecret;
use crate::aws::fake::{FakeSecretsManager, description, version_of};
use crate::aws::versions::index::DENIED_RETRY;
use crate::domain::secret::reference::VersionSelector;
use std::collections::{BTreeMap, BTreeSet};

const MAX_AGE: Duration = Duration::from_secs(270);

fn versions(fake: &FakeSecretsManager) -> (Arc<Versions>, mpsc::UnboundedReceiver<BindingName>) {
    let (versions, changes) = Versions::new(Arc::new(fake.clone()), Arc::default(), Some("eu-west-1".to_owned()));
    (Arc::new(versions), changes)
}

fn name(index: usize) -> String {
    format!("team/s{index}")
}

/// Two bindings for each of `count` secrets, at version `v1`.
fn register(versions: &Versions, fake: &FakeSecretsManager, count: usize) {
    for index in 0..count {
        fake.set_stages(&name(index), &[("v1", "AWSCURRENT")]);
        for binding in ["a", "b"] {
            let secrets = BTreeSet::from([name(index).parse().unwrap()]);
            let binding = BindingName::new("n", &format!("{binding}{index}"));
            versions.register(&binding, &Identity::default(), secrets, MAX_AGE);
        }
    }
}

async fn snapshot(versions: &Arc<Versions>, index: usize, confirmed: bool) -> Result<Option<String>, SourceErrorKind> {
    let stage = VersionSelector::default();
    let namespace = "n";
    let request = SnapshotRequest {
        namespace,
        max_age: MAX_AGE,
        max_failure_age: Duration::ZERO,
        confirmed,
        versions: &[&stage],
    };
    let snapshot = versions.snapshot(&Identity::default(), &name(index).parse().unwrap(), &request).await;
    let version = |snapshot: Snapshot| snapshot.description.version_id(&stage).unwrap_or_default().to_owned();
    snapshot.map(|snapshot| snapshot.map(version)).map_err(|error| error.kind)
}

async fn snapshot_all(versions: &Arc<Versions>, count: usize) -> Vec<String> {
    let snapshots = (0..count).map(|index| snapshot(versions, index, false));
    futures::future::join_all(snapshots).await.into_iter().map(|snapshot| snapshot.unwrap().unwrap()).collect()
}

fn notified(changes: &mut mpsc::UnboundedReceiver<BindingName>) -> Vec<String> {
    let mut notified = Vec::new();
    while let Ok(binding) = changes.try_recv() {
        notified.push(binding.name.to_string());
    }
    notified.sort();
    notified
}

fn read(index: usize, version: &str) -> SecretVersion {
    version_of(&name(index), version, "{}")
}

fn event(index: usize, time: Timestamp) -> SecretEvent {
    SecretEvent {
        account: "123456789012".to_owned(),
        region: "eu-west-1".to_owned(),
        secret: NamedSecret { ids: vec![name(index)] },
        action: "PutSecretValue".to_owned(),
        time: Some(time),
        sent: Some(time),
        version_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn one_list_answers_for_all_secrets_and_serves_until_it_is_too_old() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 50);
    assert_eq!(snapshot_all(&versions, 50).await, vec!["v1"; 50]);
    assert_eq!(fake.take_requests(), ["list"]);
    tokio::time::advance(Duration::from_secs(269)).await;
    snapshot_all(&versions, 50).await;
    assert!(fake.take_requests().is_empty());
    tokio::time::advance(Duration::from_secs(1)).await;
    snapshot_all(&versions, 50).await;
    assert_eq!(fake.take_requests(), ["list"]);
    assert!(notified(&mut changes).is_empty(), "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn what_a_list_shows_otherwise_is_confirmed_in_either_direction_before_anybody_is_told() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 10);
    snapshot_all(&versions, 10).await;
    fake.take_requests();

    // The description has version 2. The list lags behind it.
    fake.set_described(&name(3), &[("v2", "AWSCURRENT"), ("v1", "AWSPREVIOUS")]);
    assert_eq!(snapshot(&versions, 3, true).await, Ok(Some("v2".to_owned())));
    assert_eq!(notified(&mut changes), ["a3", "b3"]);
    tokio::time::advance(MAX_AGE).await;
    assert_eq!(snapshot(&versions, 0, false).await, Ok(Some("v1".to_owned())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        snapshot(&versions, 3, false).await,
        Ok(Some("v2".to_owned())),
        "the older version of the list is no change"
    );
    assert!(notified(&mut changes).is_empty());
    assert_eq!(fake.take_requests(), ["describe team/s3", "list", "describe team/s3"]);

    // A rollback to an older version is a change too.
    fake.set_stages(&name(3), &[("v1", "AWSCURRENT"), ("v2", "AWSPREVIOUS")]);
    tokio::time::advance(MAX_AGE).await;
    snapshot(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(notified(&mut changes), ["a3", "b3"]);
    assert_eq!(snapshot(&versions, 3, false).await, Ok(Some("v1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn absence_from_a_list_is_a_hint_and_never_the_end_of_a_secret() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 5);
    snapshot_all(&versions, 5).await;
    fake.state().listed.remove(&name(1));
    tokio::time::advance(MAX_AGE).await;
    snapshot(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(snapshot(&versions, 1, false).await, Ok(Some("v1".to_owned())), "AWS still describes it");
    assert!(notified(&mut changes).is_empty());

    fake.state().secrets.remove(&name(1));
    tokio::time::advance(MAX_AGE).await;
    snapshot(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(notified(&mut changes), ["a1", "b1"], "now it is deleted, and all its bindings are notified");
    assert_eq!(snapshot(&versions, 1, false).await, Err(SourceErrorKind::SecretNotFound));
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_list_each_is_described_and_without_that_only_reading_tells() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = versions(&fake);
    register(&versions, &fake, 3);
    fake.state().list_error = Some(SourceErrorKind::AccessDenied);
    snapshot_all(&versions, 3).await;
    assert_eq!(fake.take_requests(), ["list", "describe team/s0", "describe team/s1", "describe team/s2"]);
    fake.state().describe_errors.insert(name(0), SourceErrorKind::AccessDenied);
    tokio::time::advance(MAX_AGE).await;
    assert_eq!(snapshot(&versions, 0, false).await, Ok(None));
    assert_eq!(snapshot(&versions, 0, false).await, Ok(None));
    assert_eq!(fake.take_requests(), ["describe team/s0"], "what IAM refused is remembered");

    // The answer of a read serves the other bindings until it is too old.
    let source = Source { secret: name(0).parse().unwrap(), version: VersionSelector::default() };
    versions.record_read(&Identity::default(), &source, &read(0, "v1"));
    assert_eq!(snapshot(&versions, 0, false).await, Ok(Some("v1".to_owned())));
    tokio::time::advance(DENIED_RETRY).await;
    fake.state().list_error = None;
    snapshot_all(&versions, 3).await;
    assert_eq!(fake.take_requests(), ["list"], "after an hour it is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_longer_than_the_descriptions_is_not_gone_through() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = versions(&fake);
    register(&versions, &fake, 1);
    snapshot_all(&versions, 1).await;
    assert_eq!(fake.take_requests(), ["describe team/s0"], "one secret is described");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_by_those_who_asked_before_it_and_passes() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = versions(&fake);
    register(&versions, &fake, 10);
    fake.state().list_error = Some(SourceErrorKind::Unavailable);
    for index in 0..10 {
        fake.state().describe_errors.insert(name(index), SourceErrorKind::Unavailable);
    }
    let snapshots = (0..10).map(|index| snapshot(&versions, index, false));
    let answers = futures::future::join_all(snapshots).await;
    assert!(answers.iter().all(|answer| *answer == Err(SourceErrorKind::Unavailable)));
    assert_eq!(fake.take_requests(), ["list", "describe team/s0"]);
    (fake.state().list_error, fake.state().describe_errors) = (None, BTreeMap::new());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(snapshot(&versions, 0, false).await, Ok(Some("v1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn where_only_lists_fail_each_is_described_and_the_list_is_tried_with_growing_pauses() {
    use SourceErrorKind::{InvalidReference, Throttled, Unavailable};
    for (kind, lists) in [(Unavailable, 3..=9), (Throttled, 3..=9), (InvalidReference, 1..=1)] {
        let fake = FakeSecretsManager::default();
        let (versions, _changes) = versions(&fake);
        register(&versions, &fake, 10);
        fake.state().list_error = Some(kind);
        assert_eq!(snapshot_all(&versions, 10).await, vec!["v1"; 10], "{kind:?}");
        for _ in 0..10 {
            tokio::time::advance(MAX_AGE).await;
            assert_eq!(snapshot_all(&versions, 10).await, vec!["v1"; 10], "{kind:?}");
        }
        let count = fake.take_requests().iter().filter(|request| *request == "list").count();
        assert!(lists.contains(&count) || kind == Throttled, "{kind:?}: {count}");
        fake.state().list_error = None;
        tokio::time::advance(DENIED_RETRY).await;
        snapshot_all(&versions, 10).await;
        assert_eq!(fake.take_requests(), ["list"], "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_credentials_nothing_else_is_tried() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = versions(&fake);
    register(&versions, &fake, 10);
    fake.state().list_error = Some(SourceErrorKind::CredentialsFailed);
    let answers = futures::future::join_all((0..10).map(|index| snapshot(&versions, index, false))).await;
    assert!(answers.iter().all(|answer| *answer == Err(SourceErrorKind::CredentialsFailed)));
    assert_eq!(fake.take_requests(), ["list"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_a_suspended_binding_depended_on_costs_no_call_and_leaves_nothing_behind() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 2);
    snapshot_all(&versions, 2).await;
    fake.take_requests();
    fake.set_described(&name(1), &[("v2", "AWSCURRENT")]);
    // The event comes first, and the last binding goes while the description waits for its turn.
    assert_eq!(versions.handle_event(&event(1, Timestamp::now())).await, EventOutcome::Known);
    let late = event(1, Timestamp::now());
    let late = versions.handle_event(&late);
    let suspended = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        versions.forget(&BindingName::new("n", "a1"));
        versions.forget(&BindingName::new("n", "b1"));
    };
    tokio::join!(late, suspended);
    assert_eq!(fake.take_requests(), ["describe team/s1"]);
    notified(&mut changes);
    assert_eq!(versions.handle_event(&event(1, Timestamp::now())).await, EventOutcome::Unregistered);
    tokio::time::advance(MAX_AGE).await;
    snapshot(&versions, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fake.take_requests().iter().all(|request| !request.contains("s1")));
    assert!(!versions.index().views[&Identity::default()].secrets.contains_key(&name(1).parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_read_teaches_what_it_read_and_tells_the_others_of_a_change() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 2);
    let source = Source { secret: name(0).parse().unwrap(), version: VersionSelector::default() };
    versions.record_read(&Identity::default(), &source, &read(0, "v1"));
    assert!(notified(&mut changes).is_empty(), "the first thing that is known is no change");
    assert_eq!(snapshot(&versions, 0, true).await, Ok(Some("v1".to_owned())));
    assert!(fake.take_requests().is_empty());
    // Another version stage can exist although no read answered it.
    let previous = VersionSelector::stage("AWSPREVIOUS").unwrap();
    let request = SnapshotRequest {
        namespace: "n",
        max_age: MAX_AGE,
        max_failure_age: Duration::ZERO,
        confirmed: false,
        versions: &[&previous],
    };
    versions.snapshot(&Identity::default(), &name(0).parse().unwrap(), &request).await.unwrap();
    assert_eq!(fake.take_requests().len(), 1);
    versions.record_read(&Identity::default(), &source, &read(0, "v2"));
    assert_eq!(notified(&mut changes), ["a0", "b0"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_event_acts_at_once_and_a_burst_costs_one_more_description() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 10);
    snapshot_all(&versions, 10).await;
    fake.take_requests();
    fake.set_stages(&name(4), &[("v2", "AWSCURRENT")]);
    let started = Instant::now();
    assert_eq!(versions.handle_event(&event(4, Timestamp::now())).await, EventOutcome::Known);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(notified(&mut changes), ["a4", "b4"]);
    assert_eq!(fake.take_requests(), ["describe team/s4"]);

    fake.set_stages(&name(4), &[("v3", "AWSCURRENT")]);
    let again = event(4, Timestamp::now());
    let burst = (0..1000).map(|_| versions.handle_event(&again));
    let burst = futures::future::join_all(burst).await;
    assert!(burst.iter().all(|outcome| *outcome == EventOutcome::Known));
    assert_eq!(fake.take_requests(), ["describe team/s4"]);
    assert_eq!(notified(&mut changes), ["a4", "b4"]);

    // An event that is delivered long after a description costs nothing.
    let old = event(4, Timestamp::now() - SignedDuration::from_secs(60));
    assert_eq!(versions.handle_event(&old).await, EventOutcome::Known);
    assert!(fake.take_requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_is_heeded_however_far_the_clock_of_this_machine_is_ahead_or_behind() {
    for ahead in [-7200, -60, 60, 7200] {
        let fake = FakeSecretsManager::default();
        let (versions, mut changes) = versions(&fake);
        register(&versions, &fake, 3);
        let time = Timestamp::now() - SignedDuration::from_secs(ahead);
        // AWS has told its time and described the secret just before the event.
        assert_eq!(versions.handle_event(&event(1, time)).await, EventOutcome::Known);
        fake.set_stages(&name(1), &[(&format!("v{ahead}"), "AWSCURRENT")]);
        notified(&mut changes);
        assert_eq!(versions.handle_event(&event(1, time)).await, EventOutcome::Known);
        assert_eq!(notified(&mut changes), ["a1", "b1"], "{ahead} s ahead");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_time_to_come_does_not_hide_those_after_it() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 3);
    snapshot_all(&versions, 3).await;
    let forged = SecretEvent { sent: Some(Timestamp::now()), ..event(1, Timestamp::MAX) };
    assert_eq!(versions.handle_event(&forged).await, EventOutcome::Known);
    fake.set_stages(&name(1), &[("v2", "AWSCURRENT")]);
    assert_eq!(versions.handle_event(&event(1, Timestamp::now())).await, EventOutcome::Known);
    assert_eq!(notified(&mut changes), ["a1", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn events_of_what_nobody_asks_about_cost_no_call() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = versions(&fake);
    register(&versions, &fake, 3);
    snapshot_all(&versions, 3).await;
    fake.take_requests();
    let now = Timestamp::now();
    let foreign_account = SecretEvent { account: "999999999999".to_owned(), ..event(1, now) };
    let foreign_region = SecretEvent { region: "us-east-1".to_owned(), ..event(1, now) };
    for event in [event(77, now), foreign_account, foreign_region] {
        assert_eq!(versions.handle_event(&event).await, EventOutcome::Unregistered, "{event:?}");
    }
    assert!(fake.take_requests().is_empty());
    fake.state().describe_errors.insert(name(1), SourceErrorKind::Unavailable);
    assert_eq!(versions.handle_event(&event(1, now)).await, EventOutcome::Unknown, "it must be delivered again");
}

#[tokio::test(start_paused = true)]
async fn a_secret_made_anew_under_its_old_name_is_followed_by_its_event() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 3);
    snapshot_all(&versions, 3).await;
    fake.take_requests();
    fake.set_described(&name(2), &[("v9", "AWSCURRENT")]);
    let arn = fake.state().secrets[&name(2)].arn.replace("AbCdEf", "GhIjKl");
    fake.state().secrets.get_mut(&name(2)).unwrap().arn.clone_from(&arn);
    let ids = vec![name(2), arn];
    let created =
        SecretEvent { action: "CreateSecret".to_owned(), secret: NamedSecret { ids }, ..event(2, Timestamp::now()) };
    assert_eq!(versions.handle_event(&created).await, EventOutcome::Known);
    assert_eq!(notified(&mut changes), ["a2", "b2"]);
    let elsewhere = SecretEvent { account: "999999999999".to_owned(), ..created };
    assert_eq!(versions.handle_event(&elsewhere).await, EventOutcome::Unregistered);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_secret_that_only_reading_tells_of_lets_the_bindings_read() {
    let fake = FakeSecretsManager::default();
    let (versions, mut changes) = versions(&fake);
    register(&versions, &fake, 1);
    fake.state().describe_errors.insert(name(0), SourceErrorKind::AccessDenied);
    assert_eq!(snapshot(&versions, 0, false).await, Ok(None));
    assert_eq!(versions.handle_event(&event(0, Timestamp::now())).await, EventOutcome::Known);
    assert_eq!(notified(&mut changes), ["a0", "b0"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_about_any_more_is_forgotten() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = versions(&fake);
    register(&versions, &fake, 20);
    snapshot_all(&versions, 20).await;
    for index in 0..20 {
        for binding in ["a", "b"] {
            versions.forget(&BindingName::new("n", &format!("{binding}{index}")));
        }
    }
    assert!(versions.index().views.is_empty() && versions.index().registrations.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_versions_of_a_secret_come_from_all_pages_the_newest_first() {
    let fake = FakeSecretsManager::default();
    let version = |id: &str, second| ListedVersion {
        id: id.to_owned(),
        stages: BTreeSet::new(),
        created: Timestamp::from_second(second).ok(),
    };
    fake.state().history =
        vec![vec![version("b", 20), version("d", 40)], vec![], vec![version("a", 10), version("c", 30)]];
    let (versions, _changes) = versions(&fake);
    let found =
        versions.history(&Identity::default(), &name(0).parse().unwrap(), &BTreeSet::from(["n"])).await.unwrap();
    assert_eq!(found.iter().map(|version| version.id.as_str()).collect::<Vec<_>>(), ["d", "c", "b", "a"]);
    assert_eq!(fake.take_requests(), ["versions 0", "versions 1", "versions 2"]);
}

#[test]
fn a_version_that_waits_to_become_current_is_pending() {
    assert!(description("s", &[("v2", "AWSPENDING"), ("v1", "AWSCURRENT")]).has_pending());
    // AWSPENDING can stay on the current version after a successful rotation.
    assert!(!description("s", &[("v2", "AWSPENDING"), ("v2", "AWSCURRENT"), ("v1", "AWSPREVIOUS")]).has_pending());
    assert!(!description("s", &[("v1", "AWSCURRENT")]).has_pending());
}
