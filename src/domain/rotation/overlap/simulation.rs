//! Programs that encrypt and decrypt with the keys of their pods, under random interleavings of rollouts, reconciles,
//! writes to the sources and people's commands: with a group of `Staged` bindings no pod ever meets a row that it
//! cannot decrypt. With `Immediate`, and with `Staged` without a common group, some do: that is why both exist.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::api::OverlapStrategy;
use crate::domain::rotation::overlap::{Gate, Job, Member, OverlapCommand, OverlapSituation, Wait};
use crate::domain::rotation::record::{Phase, Print, Record};
use crate::domain::rotation::rule::Overlap;

const HOLD: i64 = 20;

#[derive(Clone, Copy, Debug)]
struct Layout {
    strategy: OverlapStrategy,
    grouped: bool,
    shared_source: bool,
    jobs: bool,
}

/// A program: a binding, its pods, and perhaps the Job that re-encrypts.
struct Program {
    name: String,
    rule: Overlap,
    source: String,
    record: Option<Record>,
    published: Keys,
    written: i64,
    pods: Vec<PodOf>,
    job: Option<RunningJob>,
    command: Option<OverlapCommand>,
}

/// What a pod knows, read once when it starts.
#[derive(Clone, Debug, Default)]
struct Keys {
    key: String,
    beside: BTreeSet<String>,
}

impl Keys {
    fn knows(&self, key: &str) -> bool {
        self.key == key || self.beside.contains(key)
    }
}

struct PodOf {
    created: i64,
    keys: Keys,
}

struct RunningJob {
    keys: Keys,
    done: bool,
}

struct Simulation {
    random: fastrand::Rng,
    layout: Layout,
    now: i64,
    programs: Vec<Program>,
    /// The keys that rows are encrypted with.
    rows: BTreeSet<String>,
    values: usize,
}

fn print(value: &str) -> Print {
    Print { fingerprint: value.to_owned(), version: format!("version-of-{value}") }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

impl Simulation {
    fn new(seed: u64, layout: Layout) -> Self {
        let program = |(index, name): (usize, &str)| Program {
            name: name.to_owned(),
            rule: Overlap {
                strategy: layout.strategy,
                group: if layout.grouped { "keys".to_owned() } else { format!("keys-of-{name}") },
                key: "K".try_into().unwrap(),
                next_key: "K_NEXT".try_into().unwrap(),
                previous_key: "K_PREVIOUS".try_into().unwrap(),
                hold: std::time::Duration::from_secs(HOLD.unsigned_abs()),
                reencrypt: (layout.jobs && index == 0).then(|| "reencrypt".to_owned()),
            },
            source: "v0".to_owned(),
            record: None,
            published: Keys::default(),
            written: 0,
            pods: Vec::new(),
            job: None,
            command: None,
        };
        let programs = ["app", "worker", "zoo"].into_iter().enumerate().map(program).collect();
        let mut simulation =
            Self { random: fastrand::Rng::with_seed(seed), layout, now: 0, programs, rows: BTreeSet::new(), values: 0 };
        for index in 0..3 {
            simulation.pass(index);
            let keys = simulation.programs[index].published.clone();
            simulation.now += 1;
            let created = simulation.now;
            simulation.programs[index].pods.extend((0..2).map(|_| PodOf { created, keys: keys.clone() }));
        }
        simulation
    }

    fn members(&self, of: usize) -> Vec<Member> {
        let own = &self.programs[of];
        let fellows = self.programs.iter().enumerate().filter(|(index, program)| {
            *index != of && program.rule.group == own.rule.group && own.rule.strategy == OverlapStrategy::Staged
        });
        let member = |(_, program): (usize, &Program)| {
            Some(Member { name: program.name.clone(), record: program.record.clone()?, stuck: None })
        };
        fellows.filter_map(member).collect()
    }

    /// One pass over a binding, as the controller makes it; answers what is waited for.
    fn pass(&mut self, index: usize) -> Option<Wait> {
        let others = self.members(index);
        let now = self.now;
        let program = &mut self.programs[index];
        let source = print(&program.source);
        let flight = program.record.as_ref().and_then(|record| record.flight.as_ref());
        let since =
            flight.and_then(|flight| flight.since).map_or(program.written, |time| time.as_second() - 1_700_000_000);
        let older = program.pods.iter().filter(|pod| pod.created <= since).map(|pod| pod.created.to_string()).collect();
        let gate = Gate { seen: true, older, blocked: Vec::new() };
        let job = match &program.job {
            None => Job::Absent,
            Some(job) if job.done => Job::Succeeded,
            Some(_) => Job::Running,
        };
        let situation = OverlapSituation {
            rule: Some(&program.rule),
            record: program.record.as_ref(),
            source: &source,
            published: None,
            written: Some(at(program.written)),
            others: &others,
            name: &program.name,
            gate: &gate,
            job: &job,
            command: program.command,
            now: at(now),
        };
        let starts = situation.awaits_job() && program.job.is_none();
        let step = situation.step(|old, new| format!("{}>{}", old.fingerprint, new.fingerprint));
        if starts {
            program.job = Some(RunningJob { keys: program.published.clone(), done: false });
        }
        if step.record != program.record {
            let mut record = step.record.clone().unwrap();
            if let (Some(flight), Some(before)) =
                (&mut record.flight, program.record.as_ref().and_then(|record| record.flight.as_ref()))
                && flight.phase == before.phase
                && flight.id == before.id
                && flight.since.is_none()
            {
                flight.since = Some(at(program.written));
            }
            let contents = record.contents();
            program.published = Keys {
                key: contents.key.fingerprint.clone(),
                beside: contents
                    .next
                    .iter()
                    .chain(&contents.previous)
                    .map(|(_, print)| print.fingerprint.clone())
                    .collect(),
            };
            if record.phase() != Some(Phase::Reencrypting) {
                program.job = None;
            }
            program.record = Some(record);
            program.written = now;
            program.command = None;
        }
        step.waits
    }

    /// One random event.
    fn happen(&mut self) {
        let index = self.random.usize(..self.programs.len());
        match self.random.u32(..100) {
            0..35 => {
                self.pass(index);
            }
            35..60 => self.replace_pod(index),
            60..80 => {
                let program = &self.programs[index];
                if let Some(pod) = self.random.choice(&program.pods) {
                    self.rows.insert(pod.keys.key.clone());
                }
            }
            80..88 => self.run_job(index),
            88..92 => self.change_source(index),
            92..94 => self.programs[index].command = Some(OverlapCommand::Abort),
            94..96 => self.re_encrypt_by_hand(index),
            _ => self.now += self.random.i64(1..HOLD),
        }
        self.now += i64::from(self.random.bool());
    }

    fn replace_pod(&mut self, index: usize) {
        let (now, program) = (self.now, &mut self.programs[index]);
        let pod = self.random.usize(..program.pods.len());
        program.pods[pod] = PodOf { created: now, keys: program.published.clone() };
    }

    fn run_job(&mut self, index: usize) {
        let Some(job) = &mut self.programs[index].job else { return };
        assert!(self.rows.iter().all(|row| job.keys.knows(row)), "the Job meets a row that it cannot decrypt");
        self.rows = self.rows.iter().map(|_| job.keys.key.clone()).collect();
        job.done = true;
    }

    /// The sources of a group come to the same value, one after the other; in the shared layout at once.
    fn change_source(&mut self, index: usize) {
        let latest = format!("v{}", self.values);
        let lags = self.programs[index].source != latest;
        if !lags {
            let all = self.programs.iter().all(|program| program.source == latest);
            if !all || self.values >= 4 {
                return;
            }
            self.values += 1;
        }
        let value = format!("v{}", self.values);
        for (other, program) in self.programs.iter_mut().enumerate() {
            if other == index || self.layout.shared_source {
                program.source.clone_from(&value);
            }
        }
    }

    /// Without a Job somebody re-encrypts once all use the new key, and says so.
    fn re_encrypt_by_hand(&mut self, index: usize) {
        let records = || self.programs.iter().filter_map(|program| program.record.as_ref());
        let promoted = |record: &Record| record.flight.clone().filter(|flight| flight.phase > Phase::Introducing);
        let Some(key) = records().find_map(|record| Some(promoted(record)?.new.fingerprint)) else { return };
        let ready = records().all(|record| match &record.flight {
            Some(flight) if flight.phase == Phase::Introducing => flight.old.fingerprint == key,
            Some(flight) => flight.gate.is_some() && flight.new.fingerprint == key,
            None => record.settled.fingerprint == key,
        });
        let by_job = records().filter_map(promoted).any(|flight| flight.settings.reencrypt.is_some());
        if by_job || !ready {
            return;
        }
        self.rows = self.rows.iter().map(|_| key.clone()).collect();
        self.programs[index].command = Some(OverlapCommand::Retire);
    }

    /// The first pod and row that do not go together.
    fn violation(&self) -> Option<String> {
        self.programs.iter().find_map(|program| {
            let pod = program.pods.iter().find(|pod| !self.rows.iter().all(|row| pod.keys.knows(row)))?;
            Some(format!("a pod of {} knows {:?} and meets rows of {:?}", program.name, pod.keys, self.rows))
        })
    }

    /// Lets all come to rest, without further changes.
    fn settle(&mut self) {
        let latest = format!("v{}", self.values);
        for program in &mut self.programs {
            program.source.clone_from(&latest);
            program.command = None;
        }
        for round in 0..400 {
            for index in 0..self.programs.len() {
                let wait = self.pass(index);
                assert!(!matches!(wait, Some(Wait::Blocked(_))), "{wait:?}");
                self.now += 1;
                self.replace_pod(index);
                self.replace_pod(index);
                self.run_job(index);
                self.re_encrypt_by_hand(index);
                assert_eq!(self.violation(), None, "round {round}");
            }
            self.now += 1;
            if self.programs.iter().all(|program| program.record.as_ref().unwrap().flight.is_none()) {
                return;
            }
        }
        panic!("the group never comes to rest: {:#?}", self.programs.iter().map(|p| &p.record).collect::<Vec<_>>());
    }
}

fn layouts(strategy: OverlapStrategy, grouped: bool) -> impl Iterator<Item = Layout> {
    [(true, true), (true, false), (false, true), (false, false)].into_iter().map(move |(shared_source, jobs)| Layout {
        strategy,
        grouped,
        shared_source,
        jobs,
    })
}

/// How many of these runs violate.
fn violations(layout: Layout, seeds: std::ops::Range<u64>) -> usize {
    let violates = |seed: &u64| {
        let mut simulation = Simulation::new(*seed, layout);
        (0..600).any(|_| {
            // A Job that meets a row which it cannot decrypt is a violation, too.
            let job = simulation.programs.iter().filter_map(|program| program.job.as_ref());
            let lost = job.into_iter().any(|job| !simulation.rows.iter().all(|row| job.keys.knows(row)));
            if lost || simulation.violation().is_some() {
                return true;
            }
            simulation.happen();
            false
        })
    };
    seeds.filter(violates).count()
}

#[test]
fn in_a_staged_group_no_pod_ever_meets_a_row_that_it_cannot_decrypt() {
    for layout in layouts(OverlapStrategy::Staged, true) {
        for seed in 0..500 {
            let mut simulation = Simulation::new(seed, layout);
            for event in 0..600 {
                simulation.happen();
                assert_eq!(simulation.violation(), None, "{layout:?} seed {seed} event {event}");
            }
            simulation.settle();
        }
    }
}

#[test]
fn with_immediate_some_pod_meets_a_row_that_it_cannot_decrypt() {
    for layout in layouts(OverlapStrategy::Immediate, true) {
        assert!(violations(Layout { jobs: false, ..layout }, 0..50) > 40, "{layout:?}");
    }
}

#[test]
fn staged_without_a_common_group_some_pod_meets_a_row_that_it_cannot_decrypt() {
    for layout in layouts(OverlapStrategy::Staged, false) {
        assert!(violations(layout, 0..50) > 10, "{layout:?}");
    }
}
