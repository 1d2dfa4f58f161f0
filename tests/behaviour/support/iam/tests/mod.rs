//! The evaluator against what AWS documents, and the gate against what AWS answers.
//!
//! The examples are rebuilt from AWS's user guides: "Policy evaluation logic", "Cross-account policy evaluation logic",
//! "Condition operators", "Creating a condition with multiple keys or values", "Variables and tags", "NotPrincipal",
//! "AWS global condition context keys", "Pass session tags in AWS STS", "Monitor and control actions taken with assumed
//! roles" (all IAM) and "Permissions policy examples" (Secrets Manager).

mod conditions;
mod documented;
mod gate;
mod laws;
mod shipped;
mod strict;
mod tokens;

use serde_json::{Value, json};

use crate::iam::Policy;
use crate::iam::context::Context;
use crate::iam::evaluate::{Decision, Principal, Request, evaluate};
use crate::iam::world::account_of;

const ACCOUNT: &str = "123456789012";

fn user(arn: &str) -> Principal {
    Principal::User { account: account_of(arn), arn: arn.to_owned() }
}

fn session(role: &str, name: &str) -> Principal {
    let account = account_of(role);
    let short = role.rsplit('/').next().unwrap();
    let arn = format!("arn:aws:sts::{account}:assumed-role/{short}/{name}");
    Principal::Session { account, role: role.to_owned(), arn }
}

/// A policy with these statements.
fn document(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn identity(statements: &Value) -> Policy {
    Policy::identity("identity", &document(statements)).unwrap()
}

fn resource(statements: &Value) -> Policy {
    Policy::resource("resource", &document(statements)).unwrap()
}

fn trust(statements: &Value) -> Policy {
    Policy::trust("trust", &document(statements)).unwrap()
}

/// What is decided in one account.
fn decide(
    principal: &Principal,
    (action, on): (&str, &str),
    context: &Context,
    identity: &[Policy],
    resource: Option<&Policy>,
) -> Decision {
    evaluate(&Request { principal, action, resource: on, account: ACCOUNT, context }, identity, resource)
}

/// Whether an identity with this one statement may do something, under what is known.
fn allows(statement: &Value, (action, on): (&str, &str), context: &Context) -> bool {
    let alice = user("arn:aws:iam::123456789012:user/alice");
    decide(&alice, (action, on), context, &[identity(statement)], None).is_allowed()
}
