//! The conditions of a status, built from those before it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::{ConditionType, Reason};
use crate::domain::time::to_second;

/// The most bytes of a message. The API server takes 32 KiB.
const MAX_MESSAGE: usize = 2048;

/// The conditions of a status, built from those before it.
pub struct Conditions<'a> {
    /// The conditions before.
    pub before: &'a [Condition],
    /// The conditions after.
    pub after: Vec<Condition>,
    /// The generation that they are about.
    pub generation: i64,
    /// The time of a transition.
    pub now: Timestamp,
}

impl<'a> Conditions<'a> {
    /// No condition yet, after those `before`.
    #[must_use]
    pub const fn new(before: &'a [Condition], generation: i64, now: Timestamp) -> Self {
        Self { before, after: Vec::new(), generation, now }
    }

    /// A condition as it was set.
    #[must_use]
    pub fn get(&self, type_: ConditionType) -> Option<&Condition> {
        self.after.iter().find(|condition| condition.type_ == type_.as_str())
    }

    /// Takes a condition over as it was.
    pub fn keep(&mut self, type_: ConditionType) {
        let before = self.before.iter().find(|condition| condition.type_ == type_.as_str());
        self.after
            .extend(before.map(|before| Condition { observed_generation: Some(self.generation), ..before.clone() }));
    }

    /// The time of transition moves only with the status, and a message that differs only in AWS's request id stays
    /// as it was, so that a failure that repeats causes no write.
    pub fn set(&mut self, type_: ConditionType, status: &str, reason: Reason, message: String) {
        let before = self.before.iter().find(|condition| condition.type_ == type_.as_str());
        let same = before.filter(|before| before.status == status);
        let time = same.map_or_else(|| Time(to_second(self.now)), |before| before.last_transition_time.clone());
        let message = match same {
            Some(before)
                if before.reason == reason.as_str()
                    && without_request_id(&before.message) == without_request_id(&message) =>
            {
                before.message.clone()
            }
            _ => message,
        };
        self.after.push(Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: cut(message),
            last_transition_time: time,
            observed_generation: Some(self.generation),
        });
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

fn without_request_id(message: &str) -> String {
    match message.split_once("(request ") {
        Some((start, rest)) => format!("{start}{}", rest.split_once(')').map_or("", |(_, end)| end)),
        None => message.to_owned(),
    }
}
