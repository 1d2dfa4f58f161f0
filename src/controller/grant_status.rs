//! What a grant says of itself: how many bindings it serves, and whether it can serve any.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{ConditionType, Reason, SecretGrant, SecretGrantStatus};
use crate::domain::grant::fault;
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::report::{StatusError, write_conditions, write_grant_status};
use crate::kubernetes::unreadable::Unreadable;
use crate::reconcile::context::Context;
use crate::reconcile::unreadable::conditions;
use crate::settings::{Feature, Features};
use crate::state::backoff::Backoff;
use crate::state::bindings::Scope;

/// How often the status of grants is brought up to date, so that a thousand bindings that come at once cause one write.
const PERIOD: Duration = Duration::from_secs(10);

/// Keeps the status of all grants true, for ever.
pub async fn keep_current(context: &Context) {
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refused: HashMap<String, (Backoff, Instant)> = HashMap::new();
    loop {
        clock.tick().await;
        let served = served(context.state.bindings.scopes());
        let grants = context.authorization.grants();
        refused.retain(|name, _| grants.iter().any(|grant| grant.name_any() == *name));
        for object in grants {
            let name = object.name_any();
            let grant = match &object.0 {
                Ok(grant) => grant,
                Err(unreadable) => {
                    tell_unreadable(context, unreadable).await;
                    continue;
                }
            };
            let before = grant.status.clone().unwrap_or_default();
            let after = status(
                grant,
                &before,
                served.get(&name).copied().unwrap_or_default(),
                context.settings.features,
                Timestamp::now(),
            );
            let pauses = refused.get(&name).is_some_and(|(_, until)| Instant::now() < *until);
            if after == before || pauses {
                continue;
            }
            let permit = context.clients.kubernetes.permit(None);
            match write_grant_status(permit.writes().await, &grant.metadata, &after).await {
                // What changed meanwhile is seen in the next round.
                Ok(()) | Err(StatusError::Gone | StatusError::Conflict) => {
                    refused.remove(&name);
                }
                Err(error) => {
                    tracing::warn!(grant = %name, %error, "the status of a grant could not be written; it is tried again with growing pauses");
                    let before = refused.get(&name).map_or(Backoff::default(), |(backoff, _)| *backoff);
                    let backoff = before.failed(Duration::ZERO, fastrand::f64());
                    refused.insert(name, (backoff, Instant::now() + backoff.pause()));
                }
            }
        }
    }
}

/// Says of a grant that this version cannot read that it allows nothing.
async fn tell_unreadable(context: &Context, grant: &Unreadable) {
    let Some(said) = conditions(grant, &[(ConditionType::Ready, "False")], Timestamp::now()) else { return };
    let permit = context.clients.kubernetes.permit(None);
    if let Err(error) = write_conditions::<GrantObject>(permit.writes().await, &grant.metadata, &said).await {
        let name = grant.metadata.name.as_deref().unwrap_or_default();
        tracing::warn!(grant = %name, fault = %grant.fault, %error, "a grant cannot be read, and its status could not be written");
    }
}

/// How many bindings read through each grant.
fn served(scopes: &[Scope]) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for binding in scopes.iter().flat_map(|scope| scope.bindings.state()) {
        let Some(status) = binding.0.as_ref().ok().and_then(|manifest| manifest.status.as_ref()) else { continue };
        let granted =
            status.conditions.iter().any(|c| c.type_ == ConditionType::Granted.as_str() && c.status == "True");
        if let Some(grant) = status.grant.as_ref().filter(|_| granted) {
            *served.entry(grant.clone()).or_default() += 1;
        }
    }
    served
}

/// The status of a grant, as a pure function.
fn status(
    grant: &SecretGrant,
    before: &SecretGrantStatus,
    served: usize,
    features: Features,
    now: Timestamp,
) -> SecretGrantStatus {
    let by_account = grant.spec.aws.as_ref().is_some_and(|aws| aws.service_account_name.is_some());
    let off = features.require(Feature::ServiceAccountTokens).err().filter(|_| by_account);
    let ended = grant.spec.expires_at.as_ref().is_some_and(|end| end.0 <= now);
    let (ready, reason, message) = match (fault(grant), off) {
        (Some(fault), _) => ("False", Reason::InvalidSpec, fault),
        (None, _) if ended => ("False", Reason::GrantExpired, "the grant has ended and serves nobody".to_owned()),
        (None, Some(off)) => ("False", Reason::FeatureOff, format!("spec.aws.serviceAccountName: {off}")),
        (None, None) if served == 0 => (
            "True",
            Reason::Allowed,
            "the grant serves the bindings that it allows; none reads through it now".to_owned(),
        ),
        (None, None) => ("True", Reason::Allowed, "the grant serves the bindings that it allows".to_owned()),
    };
    let same = before.conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == ready);
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = Condition {
        type_: ConditionType::Ready.as_str().to_owned(),
        status: ready.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        last_transition_time: same.map_or(Time(now), |same| same.last_transition_time.clone()),
        observed_generation: grant.metadata.generation,
    };
    SecretGrantStatus { bindings: i32::try_from(served).ok(), conditions: vec![condition] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AwsAccess, GrantedSecret, SecretGrantSpec};

    #[test]
    fn a_grant_says_whether_it_serves_and_stays_the_same_while_nothing_changes() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let secrets = |name: &str| vec![GrantedSecret { name: name.to_owned(), keys: None }];
        let mut grant =
            SecretGrant::new("g", SecretGrantSpec { secrets: secrets("app"), ..SecretGrantSpec::default() });
        grant.metadata.generation = Some(1);
        let on = Features { service_account_tokens: true, ..Features::default() };
        let ready = |status: &SecretGrantStatus| {
            let condition = &status.conditions[0];
            format!("{}/{}", condition.status, condition.reason)
        };
        let first = status(&grant, &SecretGrantStatus::default(), 3, on, at(0));
        assert_eq!((ready(&first), first.bindings), ("True/Allowed".to_owned(), Some(3)));
        assert_eq!(status(&grant, &first, 3, on, at(100)), first);
        let aws = AwsAccess { service_account_name: Some("reader".to_owned()), ..AwsAccess::default() };
        grant.spec.aws = Some(aws);
        assert_eq!(ready(&status(&grant, &first, 3, on, at(0))), "True/Allowed");
        assert_eq!(ready(&status(&grant, &first, 3, Features::default(), at(0))), "False/FeatureOff");
        grant.spec.expires_at = Some(Time(at(50)));
        assert_eq!(ready(&status(&grant, &first, 3, on, at(49))), "True/Allowed");
        assert_eq!(ready(&status(&grant, &first, 0, on, at(50))), "False/GrantExpired");
        grant.spec.secrets = secrets("{namespace}x");
        assert_eq!(ready(&status(&grant, &first, 0, on, at(50))), "False/InvalidSpec");
    }
}
