//! The chain by which Bindery becomes somebody at AWS: each link broken in each usual way, on the real operator. Every row
//! says why, names the link, calls nothing passing that cannot pass, and is cured without a restart wherever a process can
//! see the cure.

mod metadata;
mod place;
mod rows;

use std::collections::BTreeMap;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use kube::Client;
use serde_json::json;

use place::Place;
use rows::{Cure, Row, SECRET};

/// Rows that run at a time, each with an operator of its own.
const AT_ONCE: usize = 12;

/// How a row went: what was said, and what is wrong with that.
struct Outcome {
    said: String,
    wrong: Vec<String>,
}

async fn run(client: Client, row: &Row) -> Outcome {
    let place = Place::new(client).await;
    let operator = place.begin(row).await;
    let expected = format!("False/{}", row.reason);
    let (state, message) = place.condition(row.condition, &expected).await;
    let mut wrong = Vec::new();
    if state != expected {
        wrong.push(format!("{} is {state} and not {expected}: {message}", row.condition));
    }
    for word in &row.says {
        let word = place.filled(word);
        if !message.contains(&word) {
            wrong.push(format!("{word:?} is missing in {message:?}"));
        }
    }
    if message.contains("passes by itself") {
        wrong.push(format!("called passing: {message:?}"));
    }
    let (ready, of_ready) = place.condition("Ready", "False").await;
    if !ready.starts_with("False") {
        wrong.push(format!("Ready is {ready} though nothing was published: {of_ready}"));
    }
    if place.is_published().await {
        wrong.push("something was published".to_owned());
    }
    if place.cure(row).await {
        let (ready, message) = place.condition("Ready", "True/Published").await;
        if ready != "True/Published" {
            wrong.push(format!("after the cure it stays {ready}: {message}"));
        }
    } else if !message.contains("restart the operator") {
        wrong.push(format!("does not say that only a restart cures it: {message:?}"));
    }
    if place.leaks() {
        wrong.push("a key or a token is in the log".to_owned());
    }
    drop(operator);
    place.end().await;
    Outcome { said: format!("{state}: {message}"), wrong }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_link_of_the_chain_broken_in_each_usual_way_is_named_and_never_called_passing() {
    let began = Instant::now();
    let client = Client::try_default().await.unwrap();
    let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await;
    let aws = aws_sdk_secretsmanager::Client::new(&config);
    // Another run on the same cluster may have left it.
    let _ = aws.create_secret().name(SECRET).secret_string(json!({"A": "canary-7f3a"}).to_string()).send().await;

    let only = std::env::var("BINDERY_TEST_ROW").unwrap_or_default();
    let rows: Vec<Row> = rows::all().into_iter().filter(|row| row.title().contains(&only)).collect();
    let run_row = async |(index, row)| (index, run(client.clone(), row).await);
    let mut outcomes: Vec<(usize, Outcome)> =
        stream::iter(rows.iter().enumerate()).map(run_row).buffer_unordered(AT_ONCE).collect().await;
    outcomes.sort_by_key(|(index, _)| *index);

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    for (row, (_, outcome)) in rows.iter().zip(&outcomes) {
        *counts.entry(row.reason).or_default() += 1;
        println!("| {} | {} | {} |", row.link, row.way, row.reason);
        println!("    {}", outcome.said);
        if !outcome.wrong.is_empty() {
            failed.push(format!("{}: {}", row.title(), outcome.wrong.join("; ")));
        }
    }
    let healed = rows.iter().filter(|row| !matches!(row.cure, Cure::Restart)).count();
    let took = began.elapsed().as_secs();
    println!("credentials: {} rows {counts:?}, {healed} of them cured without a restart, in {took} s", rows.len());
    assert!(failed.is_empty(), "{} of {} rows failed:\n{}", failed.len(), rows.len(), failed.join("\n"));
}
