//! Figures and checks: printed as they come, and at the end as one table and as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the limit.
    Held,
    /// Beyond it.
    NotHeld,
    /// It could not be measured here.
    NotMeasured,
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NotHeld => "NOT HELD",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One named claim.
#[derive(Clone, Debug)]
struct Check {
    phase: &'static str,
    claim: String,
    measured: String,
    limit: String,
    verdict: Verdict,
}

/// One number.
#[derive(Clone, Debug)]
struct Figure {
    phase: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
}

/// All that one size was measured to be.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many bindings.
    pub bindings: usize,
    /// Over how many secrets.
    pub secrets: usize,
    figures: Vec<Figure>,
    checks: Vec<Check>,
    notes: Vec<(&'static str, String)>,
}

impl Report {
    /// An empty one.
    pub const fn new(bindings: usize, secrets: usize) -> Self {
        Self { bindings, secrets, figures: Vec::new(), checks: Vec::new(), notes: Vec::new() }
    }

    /// A number that was measured.
    pub fn figure(&mut self, phase: &'static str, name: &str, value: f64, unit: &'static str) {
        println!("   {name:<58} {:>12}", amount(value, unit));
        self.figures.push(Figure { phase, name: name.to_owned(), value, unit });
    }

    /// A time that was measured.
    pub fn time(&mut self, phase: &'static str, name: &str, time: Duration) {
        self.figure(phase, name, time.as_secs_f64(), "s");
    }

    /// A number of each of several kinds.
    pub fn counts(&mut self, phase: &'static str, name: &str, counts: &BTreeMap<String, u64>) {
        if counts.is_empty() {
            self.figure(phase, &format!("{name}: none"), 0.0, "");
        }
        for (kind, count) in counts {
            self.figure(phase, &format!("{name}: {kind}"), float(*count), "");
        }
    }

    /// Something to know about the figures of a phase.
    pub fn note(&mut self, phase: &'static str, text: impl Into<String>) {
        let text = text.into();
        println!("   note: {text}");
        self.notes.push((phase, text));
    }

    /// A number, where it was measured, that may not be above a limit.
    pub fn at_most(&mut self, phase: &'static str, claim: &str, measured: Option<f64>, limit: f64, unit: &'static str) {
        let verdict = match measured {
            None => Verdict::NotMeasured,
            Some(measured) if measured <= limit => Verdict::Held,
            Some(_) => Verdict::NotHeld,
        };
        let measured = measured.map_or_else(|| "-".to_owned(), |measured| amount(measured, unit));
        let limit = if limit == 0.0 { "0".to_owned() } else { format!("≤ {}", amount(limit, unit)) };
        self.check(phase, claim, measured, limit, verdict);
    }

    /// Something that must be so, where it could be seen.
    pub fn must(&mut self, phase: &'static str, claim: &str, held: Option<bool>) {
        let (measured, verdict) = match held {
            None => ("-", Verdict::NotMeasured),
            Some(true) => ("yes", Verdict::Held),
            Some(false) => ("no", Verdict::NotHeld),
        };
        self.check(phase, claim, measured.to_owned(), "yes".to_owned(), verdict);
    }

    /// Something that must be so of each of `total`.
    pub fn all(&mut self, phase: &'static str, claim: &str, count: usize, total: usize) {
        let verdict = if count == total { Verdict::Held } else { Verdict::NotHeld };
        self.check(phase, claim, count.to_string(), format!("= {total}"), verdict);
    }

    fn check(&mut self, phase: &'static str, claim: &str, measured: String, limit: String, verdict: Verdict) {
        println!("   {} {claim}: {measured}, {limit}", format_args!("[{}]", verdict.text()));
        self.checks.push(Check { phase, claim: claim.to_owned(), measured, limit, verdict });
    }

    /// A figure by its name.
    pub fn get(&self, phase: &str, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.phase == phase && figure.name == name).map(|figure| figure.value)
    }

    /// Whether a check was not held.
    pub fn has_failed(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == Verdict::NotHeld)
    }

    /// Prints the table of checks.
    pub fn print(&self) {
        println!("\n== {} bindings over {} secrets", self.bindings, self.secrets);
        let header = ["PHASE", "CHECK", "MEASURED", "LIMIT", ""].map(str::to_owned).to_vec();
        let row = |check: &Check| {
            let verdict = check.verdict.text().to_owned();
            vec![check.phase.to_owned(), check.claim.clone(), check.measured.clone(), check.limit.clone(), verdict]
        };
        table(&std::iter::once(header).chain(self.checks.iter().map(row)).collect::<Vec<_>>());
        for (phase, note) in &self.notes {
            println!("   {phase}: {note}");
        }
    }

    /// Writes it as JSON below `target/bench`; answers the path.
    pub fn write(&self) -> PathBuf {
        let mut phases: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
        for Figure { phase, name, value, unit } in &self.figures {
            phases.entry(phase).or_default().insert(name, json!({"value": value, "unit": unit}));
        }
        let check = |check: &Check| {
            json!({
                "phase": check.phase, "check": check.claim, "measured": check.measured, "limit": check.limit,
                "verdict": check.verdict.text(),
            })
        };
        let note = |(phase, text): &(&str, String)| json!({"phase": phase, "text": text});
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let report = json!({
            "bindings": self.bindings,
            "secrets": self.secrets,
            "time": k8s_openapi::jiff::Timestamp::now().to_string(),
            "cpus": cpus,
            "phases": phases,
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "notes": self.notes.iter().map(note).collect::<Vec<_>>(),
        });
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-{}.json", self.bindings, self.secrets));
        std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();
        path
    }
}

/// The figures that tell how cost grows: phase, name, unit.
const GROWTH: [(&str, &str, &str); 15] = [
    ("floor", super::floor::PLAIN, "s"),
    ("floor", super::floor::SAME_KIND, "s"),
    ("cold", "all Ready after", "s"),
    ("cold", "ratio to the floor", "×"),
    ("cold", "AWS calls that read values", ""),
    ("cold", "values sent by AWS", ""),
    ("cold", "Kubernetes writes per binding", ""),
    ("cold", "resident memory, peak", "MB"),
    ("cold", "resident memory, at rest", "MB"),
    ("cold", "CPU time", "s"),
    ("idle", "AWS calls per sweep", ""),
    ("idle", "CPU time per hour", "s"),
    ("change", "event: message to Secret, p50", "s"),
    ("change", "event: message to Secret, p99", "s"),
    ("restart", "settled after", "s"),
];

/// Prints how the figures grow from size to size.
pub fn print_growth(reports: &[Report]) {
    println!("\n== Growth");
    let sizes = reports.iter().map(|report| format!("{}/{}", report.bindings, report.secrets));
    let mut rows: Vec<Vec<String>> = vec![["PHASE", "FIGURE"].map(str::to_owned).into_iter().chain(sizes).collect()];
    for (phase, name, unit) in GROWTH {
        let values: Vec<Option<f64>> = reports.iter().map(|report| report.get(phase, name)).collect();
        if values.iter().any(Option::is_some) {
            let cells = values.iter().map(|value| value.map_or_else(|| "-".to_owned(), |value| amount(value, unit)));
            rows.push([phase, name].map(str::to_owned).into_iter().chain(cells).collect());
        }
    }
    table(&rows);
}

fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        println!("   {}", cells.join("   ").trim_end());
    }
}

fn amount(value: f64, unit: &str) -> String {
    let number = match unit {
        "" if value.fract().abs() < 0.005 => format!("{value:.0}"),
        "" | "×" => format!("{value:.2}"),
        "$" => format!("{value:.4}"),
        "MB" => format!("{value:.1}"),
        _ if value < 10.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    };
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

/// A count as a figure.
#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub fn float(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or_default() as f64
}
