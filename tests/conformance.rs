//! The stand-in of Secrets Manager does what AWS documents; and where moto does not.
//!
//! Each row names a behaviour, the page of AWS's documentation that it rests on, and the outcome that follows from it.
//! It is brought about through the SDK, on both. `BINDERY_GENERATE=1` writes the table into `standin/README.md`.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "conformance/batches.rs"]
mod batches;
#[path = "conformance/deletions.rs"]
mod deletions;
#[path = "conformance/ids.rs"]
mod ids;
#[path = "conformance/labels.rs"]
mod labels;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/moto.rs"]
mod moto;
#[path = "conformance/rotations.rs"]
mod rotations;
#[path = "conformance/serving.rs"]
mod serving;
#[path = "standin/mod.rs"]
mod standin;
#[path = "conformance/subject.rs"]
mod subject;
#[path = "conformance/versions.rs"]
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;

use standin::{Options, StandIn};
use subject::{GUIDE, Row, Subject};

/// The rows, in the order of the table.
fn rows() -> Vec<&'static Row> {
    let groups = [
        ids::ROWS,
        versions::CREATED,
        versions::PUT,
        versions::READ,
        labels::WRITTEN,
        labels::MOVED,
        batches::ROWS,
        lists::ROWS,
        deletions::ROWS,
        rotations::ROWS,
    ];
    groups.into_iter().flatten().collect()
}

/// The outcome of every row on the Secrets Manager at `endpoint`.
async fn outcomes(endpoint: &str) -> Vec<String> {
    let runs = rows().into_iter().enumerate().map(|(number, row)| (row.run)(Subject::new(endpoint, number)));
    futures::stream::iter(runs).buffered(8).collect().await
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the table is what the run is for")]
async fn the_stand_in_does_what_aws_documents_and_moto_is_known() {
    let endpoint = std::env::var("AWS_ENDPOINT_URL")
        .expect("this test needs moto: run `make test`, or `tests/cluster/cluster run -- cargo test`");
    // Half of the delay is the time that a row has to see a rotation before its first step.
    let (latency, rotation_delay) = (Duration::ZERO, Duration::from_secs(4));
    let standin = StandIn::start(Options { latency, rotation_delay, ..Options::default() }).await;
    let (ours, motos) = (outcomes(&standin.endpoint).await, outcomes(&endpoint).await);
    let table = table(&ours, &motos);
    println!("{table}");
    let faults = faults(&ours, &motos);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    check_readme(&table);
}

/// What the stand-in does otherwise than documented, and moto otherwise than known.
fn faults(ours: &[String], motos: &[String]) -> Vec<String> {
    let known: BTreeMap<&str, &str> = moto::DIFFERENCES.iter().copied().collect();
    let mut faults = Vec::new();
    for ((row, ours), moto) in rows().into_iter().zip(ours).zip(motos) {
        let Row { name, page, says, documented, .. } = row;
        if ours != documented {
            faults.push(format!("{name}\n  {GUIDE}{page}: {says}\n  so: {documented}\n  the stand-in: {ours}"));
        }
        let news = match known.get(name) {
            None if moto != documented => "moto differs here, which is new: note it there",
            Some(_) if moto == documented => "moto does it as documented now: take it out there",
            Some(known) if moto != known => "moto differs in another way than is noted there",
            _ => continue,
        };
        let noted = known.get(name).unwrap_or(&"nothing");
        let known = format!("documented: {documented}\n  moto: {moto}\n  tests/conformance/moto.rs: {noted}");
        faults.push(format!("{name}\n  {known}\n  {news}"));
    }
    let gone = known.keys().filter(|known| rows().iter().all(|row| row.name != **known));
    faults.extend(gone.map(|known| format!("{known}\n  tests/conformance/moto.rs names a row that does not exist")));
    faults
}

/// The table of the README.
fn table(ours: &[String], motos: &[String]) -> String {
    let mut lines =
        vec!["| Behaviour | Documented by AWS | Stand-in | moto |".to_owned(), "|---|---|---|---|".to_owned()];
    for ((row, ours), moto) in rows().into_iter().zip(ours).zip(motos) {
        let short = |outcome: &str| {
            if outcome == row.documented { "as documented".to_owned() } else { format!("**{outcome}**") }
        };
        let Row { name, page, documented, .. } = row;
        lines.push(format!("| {name} | [{documented}]({GUIDE}{page}) | {} | {} |", short(ours), short(moto)));
    }
    lines.join("\n") + "\n"
}

/// The README holds the table as this run gives it.
fn check_readme(table: &str) {
    const START: &str = "<!-- The table is written by tests/conformance.rs -->\n";
    const END: &str = "<!-- End of the table -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin/README.md");
    let stored = fs::read_to_string(&path).unwrap();
    let (head, rest) = stored.split_once(START).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let text = format!("{head}{START}{table}{END}{tail}");
    if std::env::var_os("BINDERY_GENERATE").is_some() {
        fs::write(&path, &text).unwrap();
        return;
    }
    assert_eq!(stored, text, "{} is out of date: run this test with BINDERY_GENERATE=1 and commit it", path.display());
}
