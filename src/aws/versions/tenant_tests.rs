use super::*;
use crate::aws::events::message::NamedSecret;
use crate::aws::fake::FakeSecretsManager;
use crate::domain::secret::reference::VersionSelector;

const MAX_AGE: Duration = Duration::from_secs(270);

fn name(index: usize) -> String {
    format!("team/s{index}")
}

fn event(index: usize) -> SecretEvent {
    let now = Some(Timestamp::now());
    SecretEvent {
        account: "123456789012".to_owned(),
        region: "eu-west-1".to_owned(),
        secret: NamedSecret { ids: vec![name(index)] },
        action: "PutSecretValue".to_owned(),
        time: now,
        sent: now,
        version_id: None,
    }
}

/// One binding of `namespace` for each of these secrets, all at version `v1`.
fn register_for(versions: &Versions, fake: &FakeSecretsManager, namespace: &str, secrets: std::ops::Range<usize>) {
    for index in secrets {
        fake.set_stages(&name(index), &[("v1", "AWSCURRENT")]);
        let binding = BindingName::new(namespace, &format!("b{index}"));
        versions.register(&binding, &Identity::default(), BTreeSet::from([name(index).parse().unwrap()]), MAX_AGE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_floods_runs_out_alone_and_the_changes_of_another_are_followed_as_before() {
    let fake = FakeSecretsManager::default();
    let (versions, _changes) = Versions::new(Arc::new(fake.clone()), Arc::default(), Some("eu-west-1".to_owned()));
    let versions = Arc::new(versions);
    register_for(&versions, &fake, "noisy", 0..1500);
    register_for(&versions, &fake, "quiet", 1500..1501);
    // Somebody who may send to the queue reports a change of each secret of the noisy namespace, again and again.
    let mut described = 0;
    for _ in 0..3 {
        let events: Vec<SecretEvent> = (0..1500).map(event).collect();
        let handled = futures::future::join_all(events.iter().map(|event| versions.handle_event(event))).await;
        assert!(handled.iter().all(|outcome| *outcome == EventOutcome::Known), "no message stays in the queue");
        described += fake.take_requests().len();
    }
    assert!((1000..1700).contains(&described), "{described} descriptions");

    let began = Instant::now();
    fake.set_described(&name(1500), &[("v2", "AWSCURRENT")]);
    let seen = versions.handle_event(&event(1500)).await;
    assert_eq!((seen, began.elapsed() < Duration::from_secs(2)), (EventOutcome::Known, true));
    assert_eq!(fake.take_requests(), ["describe team/s1500"]);
    let stage = VersionSelector::default();
    let mut request = SnapshotRequest {
        namespace: "noisy",
        max_age: Duration::ZERO,
        max_failure_age: Duration::ZERO,
        confirmed: true,
        versions: &[&stage],
    };
    let known = |answer: Result<Option<Snapshot>, SourceError>| answer.map(|_| ()).map_err(|error| error.kind);
    let (identity, secret) = (Identity::default(), name(1).parse().unwrap());
    let answers = (0..30).map(|_| versions.snapshot(&identity, &secret, &request));
    let limited = futures::future::join_all(answers).await.into_iter().map(known).collect::<Vec<_>>();
    assert!(limited.contains(&Err(SourceErrorKind::TenantLimit)), "{limited:?}");
    request.namespace = "quiet";
    assert_eq!(known(versions.snapshot(&identity, &name(1500).parse().unwrap(), &request).await), Ok(()));
    assert_eq!(known(versions.snapshot(&identity, &secret, &request).await), Ok(()), "no failure is left to share");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_asks_for_all_versions_again_and_again_runs_out_alone() {
    let fake = FakeSecretsManager::default();
    fake.state().history = vec![Vec::new()];
    let (versions, _changes) = Versions::new(Arc::new(fake.clone()), Arc::default(), Some("eu-west-1".to_owned()));
    let (identity, secret) = (Identity::default(), name(0).parse().unwrap());
    let ask = async |payers: &[&str]| {
        let payers = payers.iter().copied().collect();
        versions.history(&identity, &secret, &payers).await.map(|_| ()).map_err(|error| error.kind)
    };
    let mut answered = 0;
    while ask(&["noisy"]).await.is_ok() {
        answered += 1;
        assert!(answered < 100_000, "nothing stops it");
    }
    assert_eq!(ask(&["noisy"]).await, Err(SourceErrorKind::TenantLimit));
    assert_eq!(ask(&["quiet"]).await, Ok(()));
    assert_eq!(ask(&["noisy", "quiet"]).await, Ok(()), "one that can pays for both");
}
