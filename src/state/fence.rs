//! Whether the fence around the operator's ServiceAccount holds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What to do about a policy that does not hold.
pub const CURE: &str = "apply the admission policies of deploy/ or set the chart value admissionPolicy.enabled=true, \
    and give the ServiceAccount the verb operate on installations by its name alone, never all verbs; where there is no \
    fence on purpose, say so by --fence=none";

/// The policies that were tested, and whether each holds; an error tells why that is not known.
#[derive(Debug, Default)]
pub struct FenceHealth(Mutex<BTreeMap<&'static str, Result<bool, String>>>);

impl FenceHealth {
    /// Notes a test. Answers whether that is news: a policy that holds from the first is none.
    pub fn tested(&self, policy: &'static str, holds: bool) -> bool {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(policy, Ok(holds));
        before.and_then(Result::ok).map_or(!holds, |before| before != holds)
    }

    /// Notes a test that told nothing. What an earlier one told stays.
    pub fn untold(&self, policy: &'static str, why: String) {
        let mut tested = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(tested.get(policy), Some(Ok(_))) {
            tested.insert(policy, Err(why));
        }
    }

    /// What to say of the fence.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let tested = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(policy, holds): (&&str, &Result<bool, String>)| match holds {
            Ok(true) => format!("the admission policy of {policy} fences in the operator"),
            Ok(false) => format!("NO FENCE: no admission policy of {policy} fences in the operator; {CURE}"),
            Err(why) => format!("whether an admission policy of {policy} fences in the operator cannot be told: {why}"),
        };
        tested.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_news_and_what_is_open_is_told_with_what_to_do() {
        let health = FenceHealth::default();
        assert!(health.lines().is_empty(), "nothing was tested");
        assert!(!health.tested("secrets", true) && !health.tested("secrets", true));
        assert!(health.tested("secrets", false) && !health.tested("secrets", false));
        assert!(health.tested("jobs", false));
        assert!(
            health.lines()[1].contains("NO FENCE: no admission policy of secrets")
                && health.lines()[1].contains("--fence=none")
        );
        health.untold("secrets", "x".to_owned());
        assert!(health.lines()[1].contains("NO FENCE"), "what is known stays");
        health.untold("tokens", "the API server answered 500".to_owned());
        assert!(health.lines()[2].contains("cannot be told: the API server answered 500"));
        assert!(health.tested("secrets", true) && !health.tested("tokens", true));
        assert!(health.lines()[1].contains("policy of secrets fences in"));
    }
}
