//! The rows: which link is broken, how, what is said, and what cures it.

mod endpoints;
mod identities;
mod keys;
mod surroundings;

use serde_json::{Value, json};

use super::metadata::Answer;
use crate::support::Fault;

/// The secret that each row reads.
pub const SECRET: &str = "credentials/app";
/// In the place of a text: a folder where a file should be. A file that may not be read fails the same way.
pub const FOLDER: &str = "(a folder)";

/// What repairs a row.
pub enum Cure {
    /// A variable of the process is wrong, so nothing but a new start.
    Restart,
    /// This file is written.
    File(&'static str, String),
    /// AWS answers again.
    Heal,
    /// The endpoint inside the cluster answers this.
    Answer(&'static str, u16, String),
    /// The ServiceAccount gets these annotations.
    Account(Value),
    /// The grant says this of AWS.
    Grant(Value),
}

/// One link, broken in one way.
pub struct Row {
    pub link: &'static str,
    pub way: &'static str,
    pub variables: Vec<(&'static str, String)>,
    pub files: Vec<(&'static str, String)>,
    pub answers: Vec<(&'static str, Answer)>,
    pub fault: Option<(Vec<&'static str>, Fault)>,
    pub account: Option<Value>,
    pub grant: Value,
    pub secret: String,
    pub condition: &'static str,
    pub reason: &'static str,
    pub says: Vec<&'static str>,
    pub cure: Cure,
}

impl Row {
    fn of(link: &'static str, way: &'static str) -> Self {
        let row = Self {
            link,
            way,
            variables: vec![],
            files: vec![],
            answers: vec![],
            fault: None,
            account: None,
            grant: json!({"region": "eu-west-1"}),
            secret: SECRET.to_owned(),
            condition: "Fetched",
            reason: "CredentialsFailed",
            says: vec![],
            cure: Cure::Restart,
        };
        // No file of the machine has a part in it.
        row.set("HOME", "{folder}").set("AWS_REGION", "eu-west-1").set("AWS_EC2_METADATA_DISABLED", "true")
    }

    pub fn title(&self) -> String {
        format!("{}, {}", self.link, self.way)
    }

    fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self = self.unset(name);
        self.variables.push((name, value.into()));
        self
    }

    fn unset(mut self, name: &'static str) -> Self {
        self.variables.retain(|(set, _)| *set != name);
        self
    }

    fn file(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.files.push((name, text.into()));
        self
    }

    fn answer(mut self, path: &'static str, answer: Answer) -> Self {
        self.answers.push((path, answer));
        self
    }

    fn fault(mut self, operations: &[&'static str], fault: Fault) -> Self {
        self.fault = Some((operations.to_vec(), fault));
        self
    }

    fn says(mut self, words: &[&'static str]) -> Self {
        self.says.extend(words);
        self
    }

    fn cured_by(mut self, cure: Cure) -> Self {
        self.cure = cure;
        self
    }

    fn with_keys(self) -> Self {
        self.set("AWS_ACCESS_KEY_ID", GOOD).set("AWS_SECRET_ACCESS_KEY", "canary-7f3a-secret")
    }
}

/// The id of the key that AWS knows.
const GOOD: &str = "AKIAGOOD";
/// The calls that read.
const READS: [&str; 3] = ["DescribeSecret", "ListSecrets", "GetSecretValue"];

/// All rows.
pub fn all() -> Vec<Row> {
    [keys::variables(), keys::files(), identities::all(), endpoints::all(), surroundings::all()]
        .into_iter()
        .flatten()
        .collect()
}
