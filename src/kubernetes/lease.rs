//! Leader election on the protocol of client-go's `leaderelection`: one replica acts, the others wait.
//!
//! A candidate judges the holder by whether the lease changes, on its own clock, so clocks need not agree. The holder
//! stops acting before others may take over: its deadline counts from before the request that renewed the lease.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

/// How long a lease stands without a renewal.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long the holder tries to renew before it stops acting.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the lease is read.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// One candidate for one lease.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    may_lead: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What a candidate has seen of a lease that another holds.
#[derive(Clone, Debug, PartialEq)]
struct ObservedLease {
    spec: LeaseSpec,
    since: Instant,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Write it: it is free, expired or one's own.
    Take,
    /// Another holds it.
    Wait,
}

/// Decides from the lease as it stands; `seen` remembers what was seen before.
fn step(identity: &str, spec: &LeaseSpec, seen: &mut Option<ObservedLease>, now: Instant) -> Step {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == identity {
        return Step::Take;
    }
    match seen {
        Some(observed) if observed.spec == *spec => {
            let stands = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(LEASE_DURATION, Duration::from_secs);
            if now.duration_since(observed.since) >= stands { Step::Take } else { Step::Wait }
        }
        _ => {
            *seen = Some(ObservedLease { spec: spec.clone(), since: now });
            Step::Wait
        }
    }
}

/// The lease as this candidate writes it.
fn claim(identity: &str, previous: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    let renews = previous.holder_identity.as_deref() == Some(identity);
    let transitions = previous.lease_transitions.unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: if renews { previous.acquire_time.clone() } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if renews { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

/// Creates the lease, or replaces it where it carries a resource version. Answers the lease as written.
///
/// # Errors
/// 409 where another candidate was first, else what Kubernetes refuses.
async fn put_lease(api: &Api<Lease>, lease: &Lease) -> Result<Lease, kube::Error> {
    let params = PostParams::default();
    match (&lease.metadata.resource_version, &lease.metadata.name) {
        (Some(_), Some(name)) => api.replace(name, &params, lease).await,
        _ => api.create(&params, lease).await,
    }
}

impl Candidate {
    /// A candidate. `identity` must be unique among the live candidates, as a pod's name is.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity, may_lead: Box::new(|| true) }
    }

    /// The same, but it takes the lease only while `may_lead` holds.
    #[must_use]
    pub fn only_while(self, may_lead: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { may_lead: Box::new(may_lead), ..self }
    }

    /// Waits for the lease, then runs `work` while renewing it. `None` where the lease was lost: `work` was dropped,
    /// and the process should end, since tasks that `work` spawned may outlive it.
    pub async fn lead<F: Future>(&self, work: impl FnOnce() -> F) -> Option<F::Output> {
        let acquired = self.acquire().await;
        tracing::info!(lease = %self.name, identity = %self.identity, "holds the lease");
        tokio::select! {
            output = work() => {
                self.release().await;
                Some(output)
            }
            () = self.hold(acquired) => None,
        }
    }

    /// Returns the time just before the request that took the lease.
    async fn acquire(&self) -> Instant {
        let mut seen = None;
        let mut waits = false;
        loop {
            let started = Instant::now();
            if !(self.may_lead)() {
                sleep(RETRY_PERIOD).await;
                continue;
            }
            match timeout(RENEW_DEADLINE, self.attempt(&mut seen)).await {
                Ok(Ok(true)) => return started,
                Ok(Ok(false)) if !waits => {
                    waits = true;
                    tracing::info!(lease = %self.name, "another replica holds the lease; waiting");
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.name, %error, "the lease cannot be read or written; get, create and update on leases are needed");
                }
                Err(_) => tracing::warn!(lease = %self.name, "the API server does not answer about the lease"),
            }
            sleep(RETRY_PERIOD.mul_f64(1.0 + fastrand::f64() / 5.0)).await;
        }
    }

    async fn attempt(&self, seen: &mut Option<ObservedLease>) -> Result<bool, kube::Error> {
        let mut lease = self.api.get_opt(&self.name).await?.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let spec = lease.spec.take().unwrap_or_default();
        if step(&self.identity, &spec, seen, Instant::now()) == Step::Wait {
            return Ok(false);
        }
        lease.spec = Some(claim(&self.identity, &spec, Timestamp::now()));
        match put_lease(&self.api, &lease).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Renews until the lease is lost.
    async fn hold(&self, mut renewed: Instant) {
        loop {
            sleep(RETRY_PERIOD).await;
            let started = Instant::now();
            let remaining = RENEW_DEADLINE.saturating_sub(started.duration_since(renewed));
            match timeout(remaining, self.renew()).await {
                Ok(Ok(true)) => renewed = started,
                Ok(Ok(false)) => {
                    tracing::error!(lease = %self.name, "another replica took the lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(lease = %self.name, %error, "the lease could not be renewed"),
                Err(_) => {
                    tracing::error!(lease = %self.name, "the lease could not be renewed in time");
                    return;
                }
            }
        }
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(false) };
        let spec = lease.spec.take().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        lease.spec = Some(claim(&self.identity, &spec, Timestamp::now()));
        // A conflict is an error like others: the lease was not renewed, and the next read tells whose it is.
        put_lease(&self.api, &lease).await.map(|_| true)
    }

    /// Gives the lease up, so that another replica need not wait for it to expire.
    async fn release(&self) {
        let released = timeout(RETRY_PERIOD, async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            put_lease(&self.api, &lease).await.map(|_| ())
        });
        match released.await {
            Ok(Ok(())) => tracing::info!(lease = %self.name, "gave up the lease"),
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.name, %error, "the lease could not be given up; it expires by itself");
            }
            Err(_) => {
                tracing::warn!(lease = %self.name, "the lease could not be given up in time; it expires by itself");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, renewed: i64) -> LeaseSpec {
        claim(holder, &LeaseSpec::default(), Timestamp::from_second(renewed).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_of_another_is_taken_only_after_it_stood_unchanged_for_its_duration() {
        let mut seen = None;
        let spec = held_by("a", 1);
        assert_eq!(step("b", &spec, &mut seen, Instant::now()), Step::Wait);
        sleep(Duration::from_secs(14)).await;
        assert_eq!(step("b", &spec, &mut seen, Instant::now()), Step::Wait);
        let renewed = held_by("a", 2);
        assert_eq!(step("b", &renewed, &mut seen, Instant::now()), Step::Wait);
        sleep(Duration::from_secs(14)).await;
        assert_eq!(step("b", &renewed, &mut seen, Instant::now()), Step::Wait);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(step("b", &renewed, &mut seen, Instant::now()), Step::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lease_and_ones_own_are_taken_at_once() {
        for spec in [LeaseSpec::default(), held_by("", 1), held_by("b", 1)] {
            assert_eq!(step("b", &spec, &mut None, Instant::now()), Step::Take);
        }
    }

    #[test]
    fn a_renewal_keeps_the_time_of_acquisition_and_a_takeover_counts() {
        let first = held_by("a", 1);
        let renewed = claim("a", &first, Timestamp::from_second(2).unwrap());
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!(renewed.lease_transitions, first.lease_transitions);
        let taken = claim("b", &renewed, Timestamp::from_second(3).unwrap());
        assert_ne!(taken.acquire_time, first.acquire_time);
        assert_eq!(taken.lease_transitions, Some(first.lease_transitions.unwrap() + 1));
    }

    #[test]
    fn the_holder_stops_before_others_may_start() {
        assert!(RENEW_DEADLINE + RETRY_PERIOD < LEASE_DURATION);
    }
}
