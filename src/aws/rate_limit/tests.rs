use super::*;

fn identity(region: &str) -> Identity {
    Identity { region: Some(region.to_owned()), ..Identity::default() }
}

fn of_role(name: &str) -> Identity {
    let arn = format!("arn:aws:iam::123456789012:role/{name}");
    let (namespace, grant) = (name.to_owned(), name.to_owned());
    let role = crate::domain::secret::identity::Role { arn, external_id: None, namespace, grant, tags: true };
    Identity { region: Some("eu-west-1".to_owned()), role: Some(role), service_account: None }
}

fn limits(read: f64) -> Arc<RateLimits> {
    Arc::new(RateLimits::new(Rates { read, ..Rates::default() }))
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_account_keep_to_its_rate_after_the_first_burst() {
    let limits = limits(10.0);
    let started = Instant::now();
    for _ in 0..30 {
        limits.acquire(&identity("eu-west-1"), RateClass::Read).await.record_answer();
    }
    let took = started.elapsed().as_secs_f64();
    assert!((1.9..2.1).contains(&took), "{took}");
    limits.acquire(&identity("eu-central-1"), RateClass::Read).await.record_answer();
    limits.acquire(&identity("eu-west-1"), RateClass::Batch).await.record_answer();
    assert!(started.elapsed().as_secs_f64() < took + 0.01, "another region and another class count apart");
}

#[tokio::test(start_paused = true)]
async fn an_identity_with_many_calls_delays_one_with_a_single_call_by_one_call() {
    let limits = limits(10.0);
    let busy: Vec<_> = (0..200)
        .map(|_| {
            let limits = limits.clone();
            tokio::spawn(async move { drop(limits.acquire(&of_role("busy"), RateClass::Read).await) })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let started = Instant::now();
    drop(limits.acquire(&of_role("quiet"), RateClass::Read).await);
    assert!(started.elapsed() <= Duration::from_millis(210), "{:?}", started.elapsed());
    assert!(busy.iter().any(|call| !call.is_finished()), "the busy one still had calls to make");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_identity_slows_down_alone_and_stays_below_what_was_let_through() {
    let limits = limits(500.0);
    // AWS accepts 10 calls a second, after a burst of 10.
    let mut allowed = Bucket::new(10.0, Instant::now());
    let (mut refused, mut served) = (Vec::new(), 0);
    let started = Instant::now();
    while served < 100 {
        let call = limits.acquire(&of_role("busy"), RateClass::Read).await;
        if allowed.take(Instant::now()).is_zero() {
            call.record_answer();
            served += 1;
        } else {
            allowed.tokens += 1.0;
            call.record_refusal();
            refused.push(started.elapsed());
        }
    }
    assert!(refused.iter().all(|at| *at < Duration::from_secs(1)), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let others = Instant::now();
    limits.acquire(&of_role("quiet"), RateClass::Read).await.record_answer();
    assert!(others.elapsed() < Duration::from_millis(10), "another identity is not slowed down");
}

#[tokio::test(start_paused = true)]
async fn after_a_quiet_minute_more_is_tried_until_no_pace_is_needed() {
    let mut pace = Pace::default();
    for _ in 0..10 {
        pace.record_answer(Instant::now());
    }
    pace.record_refusal(Instant::now());
    assert!(pace.limit.is_none(), "one refusal among ten answers lowers nothing");
    pace.record_refusal(Instant::now());
    assert!((pace.limit.as_ref().unwrap().rate - 9.0).abs() < 0.01);
    for _ in 0..59 {
        pace.take(500.0, Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!((pace.limit.as_ref().unwrap().rate - 9.0).abs() < 0.01);
    for _ in 0..600 {
        pace.take(500.0, Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(pace.limit.is_none());
}

#[tokio::test(start_paused = true)]
async fn identities_and_accounts_that_are_gone_leave_nothing_behind() {
    let limits = RateLimits::default();
    let busy = limits.acquire(&of_role("busy"), RateClass::Read).await;
    for number in 0..1000 {
        let region = format!("region-{number}");
        let call = limits.acquire(&identity(&region), RateClass::Read).await;
        match number {
            0 => call.record_refusal(),
            _ => call.record_answer(),
        }
        drop(call);
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    assert!(lock(&limits.accounts).len() <= 2, "{}", lock(&limits.accounts).len());
    let lanes: Vec<_> = lock(&limits.lanes).keys().map(|(identity, _)| identity.clone()).collect();
    assert!(lanes.len() <= 3 && lanes.contains(&of_role("busy")), "{lanes:?}");
    drop(busy);
}
