//! All that a running stand-in knows, and what it has been asked.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use fastrand::Rng;
use serde_json::Value;

use super::faults::Faults;
use super::operations::{Done, Service, Started, carry_out};
use super::refusal::Refusal;
use super::secret::{Content, Secret};
use super::store::{New, Store, uuid};
use super::throttle::Bucket;
use super::{Call, Options};

pub struct State {
    pub options: Options,
    pub store: Store,
    pub faults: Faults,
    pub calls: Vec<Call>,
    pub counts: BTreeMap<String, u64>,
    pub throttled: u64,
    pub values: u64,
    bucket: Bucket,
    request_ids: Rng,
}

/// A call as it came.
pub struct Asked<'a> {
    pub at: Instant,
    pub operation: &'a str,
    /// None if it was no JSON object.
    pub body: Option<&'a Value>,
}

/// A call as it ended.
pub struct Outcome {
    pub request_id: String,
    pub result: Result<Done, Refusal>,
}

impl State {
    pub fn new(options: Options) -> Self {
        Self {
            store: Store::new(&options.account, &options.region),
            options,
            faults: Faults::default(),
            calls: vec![],
            counts: BTreeMap::new(),
            throttled: 0,
            values: 0,
            bucket: Bucket::default(),
            // The ids of requests do not depend on what the requests do.
            request_ids: Rng::with_seed(1),
        }
    }

    pub fn request_id(&mut self) -> String {
        uuid(&mut self.request_ids)
    }

    /// Carries out a call and notes it.
    pub fn call(&mut self, asked: &Asked, now: SystemTime) -> Outcome {
        let request_id = self.request_id();
        let allowed = self.options.rate.is_none_or(|(rate, burst)| self.bucket.allows(rate, burst, asked.at));
        let result = match asked.body {
            _ if !allowed => {
                self.throttled += 1;
                Err(Refusal::throttled())
            }
            None => Err(Refusal::of("SerializationException", "the body is no JSON object")),
            Some(body) => {
                let (store, faults, options) = (&mut self.store, &self.faults, &self.options);
                carry_out(&mut Service { store, faults, options, now }, asked.operation, body)
            }
        };
        let (status, code, values) = match &result {
            Ok(done) => (200, None, done.values),
            Err(refusal) => (refusal.status, Some(refusal.code.clone().into_owned()), 0),
        };
        self.note(asked.at, asked.operation, named(asked.body), status, code, values, &request_id);
        Outcome { request_id, result }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of a call")]
    pub fn note(
        &mut self,
        at: Instant,
        operation: &str,
        secrets: Vec<String>,
        status: u16,
        code: Option<String>,
        values: u32,
        request_id: &str,
    ) {
        *self.counts.entry(operation.to_owned()).or_default() += 1;
        self.values += u64::from(values);
        let (operation, request_id) = (operation.to_owned(), request_id.to_owned());
        self.calls.push(Call { at, operation, secrets, status, code, values, request_id });
    }

    /// Creates the secret or puts a new current version; answers the version's id.
    pub fn put(&mut self, name: &str, text: &str, now: SystemTime) -> String {
        let token = self.store.uuid();
        let content = Content::Text(text.to_owned());
        if self.store.name(name).is_some() {
            self.store.change(name, "PutSecretValue", now, |secret| secret.put(&token, content, None, now)).unwrap();
        } else {
            let new = New { name, token: &token, content: Some(content), description: None, tags: vec![] };
            self.store.create(new, now).unwrap();
        }
        token
    }

    /// One step of a rotation; a secret that is gone by now has none.
    pub fn rotation_step(&mut self, started: &Started, step: impl FnOnce(&mut Secret, SystemTime)) {
        let now = SystemTime::now();
        let _ = self.store.change(&started.arn, "RotateSecret", now, |secret| {
            step(secret, now);
            Ok(())
        });
    }
}

/// The ids that a call names.
fn named(body: Option<&Value>) -> Vec<String> {
    let Some(body) = body else { return vec![] };
    let one = body["SecretId"].as_str().or_else(|| body["Name"].as_str());
    let many = body["SecretIdList"].as_array().into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many).map(str::to_owned).collect()
}
