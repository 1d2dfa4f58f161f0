//! Every state of a flight against everything that can happen to it.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;

use crate::api::OverlapStrategy;
use crate::domain::rotation::overlap::{Gate, Job, Member, OverlapCommand, OverlapSituation, OverlapStep, Wait};
use crate::domain::rotation::record::{Flight, OverlapSettings, Phase, Print, Record};
use crate::domain::rotation::rule::Overlap;
use crate::settings::{Feature, FeatureOff};

const HOLD: u64 = 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn print(value: &str) -> Print {
    Print { fingerprint: value.to_owned(), version: format!("version-{value}") }
}

fn rule(strategy: OverlapStrategy, job: bool) -> Overlap {
    Overlap {
        strategy,
        group: "g".to_owned(),
        key: "K".try_into().unwrap(),
        next_key: "K_NEXT".try_into().unwrap(),
        previous_key: "K_PREVIOUS".try_into().unwrap(),
        hold: std::time::Duration::from_secs(HOLD),
        reencrypt: job.then(|| "job".to_owned()),
    }
}

fn settled(value: &str) -> Record {
    Record { source: value.to_owned(), settled: print(value), ignored: None, flight: None }
}

/// A change from `old` to `new`.
fn flying(strategy: OverlapStrategy, phase: Phase, edit: impl FnOnce(&mut Flight)) -> Record {
    let mut flight = Flight {
        id: "old>new".to_owned(),
        phase,
        since: Some(at(0)),
        old: print("old"),
        new: print("new"),
        gate: None,
        reencrypted: None,
        retire: false,
        cleared: None,
        aborted: false,
        held: false,
        settings: OverlapSettings::from(&rule(strategy, phase == Phase::Reencrypting)),
    };
    edit(&mut flight);
    Record { source: "new".to_owned(), settled: print("old"), ignored: None, flight: Some(flight) }
}

/// Who stands where, when something happens.
struct Case {
    rule: Option<Overlap>,
    record: Option<Record>,
    source: Print,
    published: Option<String>,
    others: Vec<Member>,
    gate: Gate,
    job: Job,
    command: Option<OverlapCommand>,
    now: Timestamp,
}

impl Case {
    fn of(record: Option<Record>) -> Self {
        let strategy = record.as_ref().and_then(|record| record.flight.as_ref()).map(|flight| flight.settings.strategy);
        Self {
            rule: Some(rule(strategy.unwrap_or(OverlapStrategy::Staged), false)),
            source: print(record.as_ref().map_or("old", |record| &record.source)),
            record,
            published: None,
            others: Vec::new(),
            gate: Gate { seen: true, older: vec!["pod-1".to_owned()], blocked: Vec::new() },
            job: Job::Running,
            command: None,
            now: at(10),
        }
    }

    fn step(&self) -> OverlapStep {
        let situation = OverlapSituation {
            rule: self.rule.as_ref(),
            record: self.record.as_ref(),
            source: &self.source,
            published: self.published.as_deref(),
            written: Some(at(0)),
            others: &self.others,
            name: "m",
            gate: &self.gate,
            job: &self.job,
            command: self.command,
            now: self.now,
        };
        situation.step(|old, new| format!("{}>{}", old.fingerprint, new.fingerprint))
    }
}

fn other(name: &str, record: Record) -> Member {
    Member { name: name.to_owned(), record, stuck: None }
}

/// What a step comes to, in a few words.
fn shown(step: &OverlapStep) -> String {
    let mut shown = match &step.record {
        None => "no record".to_owned(),
        Some(Record { flight: None, settled, ignored, .. }) => match ignored {
            Some(ignored) => format!("{} (ignores {ignored})", settled.fingerprint),
            None => settled.fingerprint.clone(),
        },
        Some(Record { flight: Some(flight), .. }) => {
            let marks = [
                (flight.gate.is_some(), " gate"),
                (flight.reencrypted.is_some(), " reencrypted"),
                (flight.retire, " retire"),
                (flight.cleared.is_some(), " cleared"),
                (flight.aborted, " aborted"),
                (flight.since.is_none(), " fresh"),
            ];
            let marks: String = marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect();
            format!("{} {}{marks}", flight.phase.as_str(), flight.id)
        }
    };
    match &step.waits {
        Some(Wait::For(_)) => shown.push_str(", waits"),
        Some(Wait::Blocked(_)) => shown.push_str(", blocked"),
        Some(Wait::Off(_)) => shown.push_str(", off"),
        None => {}
    }
    if step.wake.is_some() {
        shown.push_str(" until a time");
    }
    shown
}

type Event = (&'static str, fn(&mut Case));

/// Everything that can happen to a binding in a group.
const EVENTS: [Event; 25] = [
    ("nothing", |_| {}),
    ("the source has a newer value", |case| case.source = print("newer")),
    ("the source has the old value again", |case| case.source = print("old")),
    ("all pods are new", |case| case.gate.older.clear()),
    ("a pod cannot be replaced", |case| case.gate.blocked.push("pod-2".to_owned())),
    ("the Job is absent", |case| case.job = Job::Absent),
    ("the Job succeeded", |case| case.job = Job::Succeeded),
    ("the Job failed", |case| case.job = Job::Failed("why".to_owned())),
    ("Jobs are off", |case| case.job = Job::Off(FeatureOff(Feature::Jobs))),
    ("somebody aborts", |case| case.command = Some(OverlapCommand::Abort)),
    ("somebody retires", |case| {
        case.command = Some(OverlapCommand::Retire);
        case.gate.older.clear();
    }),
    ("the rule is removed", |case| case.rule = None),
    ("the hold is over", |case| case.now = at(1000)),
    ("new pods, another lags", |case| {
        case.gate.older.clear();
        case.others.push(other("a", settled("old")));
    }),
    ("new pods, a lagging one is stuck", |case| {
        case.gate.older.clear();
        case.others.push(Member { stuck: Some("it is suspended".to_owned()), ..other("a", settled("old")) });
    }),
    ("new pods, another's are not", |case| {
        case.gate.older.clear();
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Introducing, |_| {})));
    }),
    ("new pods, another's too", |case| {
        case.gate.older.clear();
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Introducing, |f| f.gate = Some(at(5)))));
    }),
    ("new pods, another is promoted", |case| {
        case.gate.older.clear();
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Promoted, |f| f.gate = Some(at(5)))));
    }),
    ("new pods, another re-encrypts", |case| {
        case.gate.older.clear();
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Reencrypting, |f| f.gate = Some(at(5)))));
    }),
    ("new pods, another is done", |case| {
        case.gate.older.clear();
        case.others.push(other("a", settled("new")));
    }),
    ("another aborts", |case| {
        let abort = |flight: &mut Flight| {
            std::mem::swap(&mut flight.old, &mut flight.new);
            (flight.id, flight.aborted) = ("new>old".to_owned(), true);
        };
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Promoted, abort)));
    }),
    ("another has aborted", |case| {
        case.others.push(other("a", Record { ignored: Some("new".to_owned()), ..settled("old") }));
    }),
    ("somebody aborts when another is done", |case| {
        case.command = Some(OverlapCommand::Abort);
        case.others.push(other("a", settled("new")));
    }),
    ("the hold is over, another's is not", |case| {
        case.now = at(1000);
        let cleared = |flight: &mut Flight| (flight.gate, flight.cleared) = (Some(at(5)), Some(at(990)));
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Promoted, cleared)));
    }),
    ("another's source has a third value", |case| {
        case.gate.older.clear();
        let third = |flight: &mut Flight| (flight.new, flight.id) = (print("third"), "old>third".to_owned());
        case.others.push(other("a", flying(OverlapStrategy::Staged, Phase::Introducing, third)));
    }),
];

type State = (&'static str, fn() -> Option<Record>);

/// Every state of a record.
const STATES: [State; 11] = [
    ("first publication", || None),
    ("at rest", || Some(settled("old"))),
    ("at rest, ignoring", || {
        Some(Record { source: "new".to_owned(), ignored: Some("new".to_owned()), ..settled("old") })
    }),
    ("Introducing", || Some(flying(OverlapStrategy::Staged, Phase::Introducing, |_| {}))),
    ("Introducing, gate passed", || {
        Some(flying(OverlapStrategy::Staged, Phase::Introducing, |f| f.gate = Some(at(5))))
    }),
    ("Promoted", || Some(flying(OverlapStrategy::Staged, Phase::Promoted, |_| {}))),
    ("Promoted, gate passed", || Some(flying(OverlapStrategy::Staged, Phase::Promoted, |f| f.gate = Some(at(5))))),
    ("Reencrypting", || Some(flying(OverlapStrategy::Staged, Phase::Reencrypting, |f| f.gate = Some(at(5))))),
    ("Promoted, cleared", || {
        let cleared = |flight: &mut Flight| (flight.gate, flight.cleared) = (Some(at(5)), Some(at(6)));
        Some(flying(OverlapStrategy::Staged, Phase::Promoted, cleared))
    }),
    ("taken back", || {
        let back = |flight: &mut Flight| {
            std::mem::swap(&mut flight.old, &mut flight.new);
            (flight.id, flight.aborted) = ("new>old".to_owned(), true);
        };
        Some(flying(OverlapStrategy::Staged, Phase::Promoted, back))
    }),
    ("Immediate", || Some(flying(OverlapStrategy::Immediate, Phase::Promoted, |_| {}))),
];

#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (state, record) in STATES {
        writeln!(table, "{state}").unwrap();
        for (event, happen) in EVENTS {
            let mut case = Case::of(record());
            happen(&mut case);
            writeln!(table, "  {event}: {}", shown(&case.step())).unwrap();
        }
    }
    insta::assert_snapshot!(table);
}
