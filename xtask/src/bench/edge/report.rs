//! Tables in Markdown, as they stand in docs/benchmarks.md, and what the project demands of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::case::Case;
use super::load::Answered;
use super::server::{Role, Server, version};
use super::site::PAGES;
use crate::bench::verdict::{machine, median, shown, verdict};
use crate::run::say;
use crate::tiers::Tally;

/// What a figure of ours is held against.
#[derive(Debug, Clone, Copy)]
enum Against {
    BestOfFour,
    Named(&'static str),
}

/// What is demanded of processor time per request. A must that is missed fails the run; an aim is only printed.
struct Demand {
    case: &'static str,
    what: &'static str,
    against: Against,
    must: Option<f64>,
    aim: Option<f64>,
}

const DEMANDS: &[Demand] = &[
    Demand {
        case: "tls-20k-64",
        what: "a page of 20 kB over TLS 1.3",
        against: Against::BestOfFour,
        must: Some(0.6),
        aim: Some(0.45),
    },
    Demand {
        case: "h2-20k-64",
        what: "the same over HTTP/2",
        against: Against::BestOfFour,
        must: Some(0.9),
        aim: Some(0.7),
    },
    Demand {
        case: "plain-20k-64",
        what: "the same over plain HTTP",
        against: Against::BestOfFour,
        must: Some(0.9),
        aim: Some(0.75),
    },
    Demand {
        case: "plain-20k-64",
        what: "the same, beside the bare responder",
        against: Against::Named("bare responder"),
        must: None,
        aim: Some(1.2),
    },
    Demand {
        case: "plain-100k-64",
        what: "an asset of 100 kB over plain HTTP, beside Caddy",
        against: Against::Named("Caddy"),
        must: None,
        aim: Some(1.0),
    },
    Demand {
        case: "new-tls-20k-32",
        what: "a new TLS 1.3 connection",
        against: Against::BestOfFour,
        must: Some(0.75),
        aim: None,
    },
];

/// Bytes that our edge may hold with all pages kept.
const MOST_MEMORY: u64 = 300_000_000;

/// One turn of one server.
struct Sample {
    used: Duration,
    answered: Answered,
}

impl Sample {
    /// Microseconds of processor time per request.
    fn cost(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.answered.requests.max(1) as f64
    }
}

/// All that was measured.
pub(super) struct Report<'a> {
    servers: &'a [Server],
    rounds: usize,
    time: Duration,
    /// The cases, in the order in which they came.
    cases: Vec<Case>,
    /// By case and server.
    samples: BTreeMap<(usize, usize), Vec<Sample>>,
    memory: BTreeMap<usize, u64>,
    still_answered: BTreeMap<usize, usize>,
    asked_of_origin: Option<(u64, u64)>,
}

impl<'a> Report<'a> {
    pub(super) fn new(servers: &'a [Server], rounds: usize, time: Duration) -> Self {
        Self {
            servers,
            rounds,
            time,
            cases: Vec::new(),
            samples: BTreeMap::new(),
            memory: BTreeMap::new(),
            still_answered: BTreeMap::new(),
            asked_of_origin: None,
        }
    }

    pub(super) fn add(&mut self, case: &Case, server: usize, used: Duration, answered: Answered) {
        let case = self.cases.iter().position(|known| known == case).unwrap_or_else(|| {
            self.cases.push(*case);
            self.cases.len() - 1
        });
        self.samples.entry((case, server)).or_default().push(Sample { used, answered });
    }

    /// What a server holds with all pages kept.
    pub(super) fn holds(&mut self, server: usize, bytes: u64) {
        self.memory.insert(server, bytes);
    }

    /// How many of all pages it gives once the origin is dead.
    pub(super) fn still_answers(&mut self, server: usize, pages: usize) {
        self.still_answered.insert(server, pages);
    }

    /// How often the origin was asked during so many requests: a store that is hit does not ask.
    pub(super) fn asked_of_origin(&mut self, questions: u64, requests: u64) {
        self.asked_of_origin = Some((questions, requests));
    }

    /// Prints everything. `whole`: nothing was left out, so that a must without a figure is one that is missed.
    pub(super) fn finish(&self, whole: bool) -> Tally {
        say(self.preface());
        let mut heading = String::new();
        for (at, case) in self.cases.iter().enumerate() {
            if case.heading() != heading {
                heading = case.heading();
                say(format!("\n### {heading}\n\n{HEAD}"));
            }
            say(self.rows(at, case).trim_end());
        }
        if !self.memory.is_empty() {
            say(self.memory_table().trim_end());
        }
        let (table, tally) = self.demands(whole);
        say(table.trim_end());
        tally
    }

    fn preface(&self) -> String {
        let mut text = format!(
            "\n## The edge beside nginx, Varnish, HAProxy and Caddy\n\n\
             Medians of {} rounds of {} s for each server in turns. Processor time is that of the server, per request; \
             the ratio is to the best of the four.\n\n",
            self.rounds,
            self.time.as_secs()
        );
        let versions = self.servers.iter().map(|server| format!("{}: {}", server.name, server.version));
        let tools = [("wrk", "-v"), ("h2load", "--version")].map(|(tool, arg)| version(tool, arg).unwrap_or_default());
        for line in versions.chain(tools).chain([machine()]) {
            writeln!(text, "- {line}").expect("strings take text");
        }
        if let Some((questions, requests)) = self.asked_of_origin.filter(|(_, requests)| *requests > 0) {
            writeln!(text, "- the origin was asked {questions} times during {requests} hits")
                .expect("strings take text");
        }
        text
    }

    fn rows(&self, at: usize, case: &Case) -> String {
        let best = self.cost(at, Against::BestOfFour);
        let mut rows: Vec<_> =
            (0..self.servers.len()).filter_map(|server| Some((self.row(at, server)?, server))).collect();
        rows.sort_by(|(one, _), (other, _)| one.cost.total_cmp(&other.cost));
        let mut text = String::new();
        for (row, server) in rows {
            let name = self.servers[server].name;
            if row.failed >= row.requests {
                writeln!(text, "| {} | {name} | - | - | - | - | - | all |", case.connections)
                    .expect("strings take text");
                continue;
            }
            let failed = match row.failed {
                0 => String::new(),
                count => format!("{count} of {}", row.requests),
            };
            let ratio = best.map_or("-".to_owned(), |best| format!("{:.2}", row.cost / best));
            writeln!(
                text,
                "| {} | {} | {:.1} µs | {ratio} | {:.0} | {} | {} | {failed} |",
                case.connections,
                name,
                row.cost,
                row.per_second,
                shown(row.p50),
                shown(row.p99)
            )
            .expect("strings take text");
        }
        text
    }

    fn row(&self, case: usize, server: usize) -> Option<Row> {
        let samples = self.samples.get(&(case, server))?;
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Some(Row {
            cost: of(Sample::cost),
            per_second: of(|sample| sample.answered.per_second),
            p50: of(|sample| sample.answered.p50.as_secs_f64()),
            p99: of(|sample| sample.answered.p99.as_secs_f64()),
            requests: samples.iter().map(|sample| sample.answered.requests).sum(),
            failed: samples.iter().map(|sample| sample.answered.failed).sum(),
        })
    }

    /// The processor time per request of what ours is held against. A server that fails is fast and no measure.
    fn cost(&self, case: usize, against: Against) -> Option<f64> {
        let chosen = self.servers.iter().enumerate().filter(|(_, server)| match against {
            Against::BestOfFour => server.is_rival(),
            Against::Named(name) => server.name == name,
        });
        let costs = chosen.filter_map(|(at, _)| self.row(case, at)).filter(|row| row.failed * 100 <= row.requests);
        costs.map(|row| row.cost).min_by(f64::total_cmp)
    }

    fn memory_table(&self) -> String {
        let mut text = format!(
            "\n### memory with {PAGES} pages of 20 kB\n\n| server | PSS | pages given when the origin is dead |\n|---|---:|---:|\n"
        );
        for (server, bytes) in &self.memory {
            let Server { name, role, .. } = &self.servers[*server];
            let answered = match (role, self.still_answered.get(server)) {
                (Role::Files, _) => "has none".to_owned(),
                (_, Some(count)) => format!("{count}"),
                (_, None) => "-".to_owned(),
            };
            writeln!(text, "| {name} | {:.1} MB | {answered} |", *bytes as f64 / 1e6).expect("strings take text");
        }
        text
    }

    fn demands(&self, whole: bool) -> (String, Tally) {
        let mut table = "\n### what is demanded\n\n| processor time per request | measured | must | aim | |\n\
                         |---|---:|---:|---:|---|\n"
            .to_owned();
        let mut tally = Tally::default();
        for Demand { case, what, against, must, aim } in DEMANDS {
            let measured = self.ratio(case, *against);
            let verdict = verdict(measured, *must, *aim, whole, &mut tally);
            let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2}"));
            writeln!(table, "| {what} | {} | {} | {} | {verdict} |", number(measured), number(*must), number(*aim))
                .expect("strings take text");
        }
        let ours = self.servers.iter().position(|server| server.role == Role::Ours);
        let held = ours.and_then(|ours| self.memory.get(&ours)).map(|bytes| *bytes as f64 / 1e6);
        let most = MOST_MEMORY as f64 / 1e6;
        let verdict = verdict(held, Some(most), None, whole, &mut tally);
        let held = held.map_or("-".to_owned(), |held| format!("{held:.0} MB"));
        writeln!(table, "| memory with {PAGES} pages | {held} | {most:.0} MB | - | {verdict} |")
            .expect("strings take text");
        (table, tally)
    }

    fn ratio(&self, case: &str, against: Against) -> Option<f64> {
        let case = self.cases.iter().position(|known| known.name() == case)?;
        let ours = self.servers.iter().position(|server| server.role == Role::Ours)?;
        Some(self.row(case, ours)?.cost / self.cost(case, against)?)
    }
}

const HEAD: &str = "\
| connections | server | processor time | ratio | requests/s | p50 | p99 | failed |
|---:|---|---:|---:|---:|---:|---:|---:|";

struct Row {
    cost: f64,
    per_second: f64,
    /// In seconds.
    p50: f64,
    p99: f64,
    requests: u64,
    failed: u64,
}
