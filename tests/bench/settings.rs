//! What is measured, from the environment.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The phases, in the order in which they run. Those that need the published world of `cold` come before those that
/// need an operator with nothing else to do.
pub const PHASES: [&str; 8] = ["floor", "cold", "idle", "change", "restart", "foreign", "throttle", "failover"];

/// The phases whose figures grow with the number of bindings.
const GROWING: [&str; 5] = ["floor", "cold", "idle", "change", "restart"];

/// The sizes of `GROWTH=1`, as bindings over secrets.
const GROWTH: &str = "1000/100,2000/200,5000/500,10000/1000";

/// One measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many bindings and over how many secrets, one run for each.
    pub sizes: Vec<(usize, usize)>,
    /// Which phases.
    pub phases: BTreeSet<&'static str>,
    /// For how long nothing happens.
    pub idle: Duration,
    /// How often the shared secret changes.
    pub rounds: usize,
    /// Whether all bindings share the secret that changes.
    pub shared: bool,
    /// Whether the bindings have rotation rules.
    pub rules: bool,
    /// How many Secrets are not Bindery's.
    pub foreign: usize,
    /// How many bindings the failover is over, at most.
    pub failover: usize,
    /// Whether a check that is not held is a failure.
    pub strict: bool,
    /// The operator.
    pub program: PathBuf,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// What is wrong with which variable.
    pub fn from_environment() -> Result<Self, String> {
        let growth = text("GROWTH").filter(|text| text != "0");
        let usual = if growth.is_some() { &GROWING[..] } else { &PHASES[..] };
        let chosen = text("PHASES").unwrap_or_else(|| usual.join(","));
        let mut phases = BTreeSet::new();
        for name in chosen.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let phase = PHASES.into_iter().find(|phase| *phase == name);
            phases.insert(phase.ok_or_else(|| format!("PHASES: there is no {name:?}, but {}", PHASES.join(", ")))?);
        }
        let sizes = match growth.as_deref() {
            None => vec![(number("N", 1000)?, number("M", 100)?)],
            Some("1") => sizes(GROWTH)?,
            Some(list) => sizes(list)?,
        };
        if let Some((n, m)) = sizes.iter().find(|(n, m)| *m == 0 || n < m) {
            return Err(format!("{n} bindings over {m} secrets: each secret needs a binding"));
        }
        Ok(Self {
            sizes,
            phases,
            idle: Duration::from_secs(number("IDLE", 60)?),
            rounds: number("ROUNDS", 5)?,
            shared: flag("SHARED"),
            rules: flag("RULES"),
            foreign: number("FOREIGN", 30_000)?,
            failover: number("FAILOVER", 1000)?,
            strict: flag("STRICT"),
            program: text("OPERATOR").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bindery")), PathBuf::from),
        })
    }
}

fn sizes(list: &str) -> Result<Vec<(usize, usize)>, String> {
    let size = |text: &str| text.split_once('/').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    let parsed: Option<Vec<_>> = list.split(',').map(size).collect();
    parsed.ok_or_else(|| format!("GROWTH={list}: give 1, or sizes as in {GROWTH}"))
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn flag(name: &str) -> bool {
    text(name).is_some_and(|text| text != "0")
}

fn number<T: FromStr>(name: &str, default: T) -> Result<T, String> {
    text(name).map_or(Ok(default), |text| text.parse().map_err(|_| format!("{name}={text} is no number")))
}
