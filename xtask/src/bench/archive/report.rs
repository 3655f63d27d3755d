//! Tables in Markdown, as they stand in docs/benchmarks.md, and what the project demands of them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::case::{ALL, Case};
use crate::bench::usage::Used;
use crate::bench::verdict::{machine, median, verdict};
use crate::run::say;
use crate::tiers::Tally;

/// Ours is the first, see [`super::side_by_side`].
const OURS: usize = 0;

/// One command of one contestant.
pub(super) struct Sample {
    pub(super) used: Used,
    /// Bytes by which the archive has grown.
    pub(super) added: u64,
    /// Parts of it, on the clock.
    pub(super) told: Vec<(String, f64)>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Used { processor, wall, peak } = self.used;
        let [processor, wall] = [processor, wall].map(|time| time.as_secs_f64());
        let [peak, added] = [peak, self.added].map(|bytes| bytes as f64 / 1e6);
        write!(f, "{processor:>7.2} s of processors in {wall:>7.2} s, {peak:>5.0} MB, {added:+.1} MB")
    }
}

/// What a figure of ours is held against.
#[derive(Debug, Clone, Copy)]
enum Against {
    Best,
    Named(&'static str),
    /// So many bytes.
    Bytes(f64),
}

/// What a figure is of.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Processor,
    Added,
    Peak,
}

/// What is demanded, as a part of what it is held against. A must that is missed fails the run; an aim is only printed.
struct Demand {
    what: &'static str,
    figure: Figure,
    case: Case,
    against: Against,
    must: f64,
    aim: f64,
}

const fn processor(what: &'static str, case: Case) -> Demand {
    Demand { what, figure: Figure::Processor, case, against: Against::Best, must: 1.1, aim: 1.0 }
}

const fn peak(what: &'static str, case: Case) -> Demand {
    Demand { what, figure: Figure::Peak, case, against: Against::Bytes(1e6), must: 400.0, aim: 300.0 }
}

const DEMANDS: &[Demand] = &[
    processor("processor time of the first backup, beside the best of three", Case::First),
    processor("of the second, 2 % changed", Case::Changed),
    processor("of one after the database changed", Case::Dump),
    processor("of one after nothing changed", Case::Same),
    processor("of a restore", Case::Restore),
    processor("of a restore of one file", Case::One),
    processor("of a check that reads all", Case::Check),
    Demand {
        what: "of a restore, beside restic",
        figure: Figure::Processor,
        case: Case::Restore,
        against: Against::Named("restic"),
        must: 1.0 / 1.5,
        aim: 1.0 / 1.5,
    },
    Demand {
        what: "bytes added for a changed database, beside duplicity",
        figure: Figure::Added,
        case: Case::Dump,
        against: Against::Named("duplicity"),
        must: 2.0,
        aim: 1.0,
    },
    peak("memory of the first backup, MB", Case::First),
    peak("memory of a restore, MB", Case::Restore),
];

/// All that was measured.
pub(super) struct Report<'a> {
    /// Names and versions.
    contestants: &'a [(&'static str, String)],
    rounds: usize,
    data: String,
    samples: BTreeMap<(Case, usize), Vec<Sample>>,
}

/// Medians of one contestant in one case.
struct Row {
    processor: f64,
    wall: f64,
    peak: f64,
    added: f64,
}

impl<'a> Report<'a> {
    pub(super) fn new(contestants: &'a [(&'static str, String)], rounds: usize, data: String) -> Self {
        Self { contestants, rounds, data, samples: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, case: Case, contestant: usize, sample: Sample) {
        self.samples.entry((case, contestant)).or_default().push(sample);
    }

    /// Prints everything, into `json` too. `whole`: nothing was left out, so that a must without a figure is missed.
    ///
    /// # Errors
    /// When that file cannot be written.
    pub(super) fn finish(&self, whole: bool, json: Option<&Path>) -> Result<Tally> {
        say(self.preface());
        for case in ALL.iter().filter(|case| self.samples.contains_key(&(**case, OURS))) {
            say(self.table(*case).trim_end());
        }
        let (table, tally, judged) = self.demands(whole);
        say(table.trim_end());
        if let Some(file) = json {
            let cases: serde_json::Map<_, _> =
                ALL.iter().map(|case| (case.name().to_owned(), self.samples_of(*case))).collect();
            let all = json!({
                "data": self.data,
                "machine": machine(),
                "versions": self.contestants.iter().cloned().collect::<BTreeMap<_, _>>(),
                "cases": cases,
                "demands": judged,
            });
            std::fs::write(file, format!("{all:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(tally)
    }

    fn preface(&self) -> String {
        let mut text = format!(
            "\n## The archive beside duplicity, restic and borg\n\n\
             Medians of {} rounds, everybody in turns. Processor time is that of all processes of a command; the ratio \
             is to the best of the three others. Memory is that of the largest process.\n\n",
            self.rounds
        );
        let versions = self.contestants.iter().map(|(name, version)| format!("{name}: {version}"));
        for line in versions.chain([self.data.clone(), machine()]) {
            writeln!(text, "- {line}").expect("strings take text");
        }
        text
    }

    fn row(&self, case: Case, contestant: usize) -> Option<Row> {
        let samples = self.samples.get(&(case, contestant))?;
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Some(Row {
            processor: of(|sample| sample.used.processor.as_secs_f64()),
            wall: of(|sample| sample.used.wall.as_secs_f64()),
            peak: of(|sample| sample.used.peak as f64),
            added: of(|sample| sample.added as f64),
        })
    }

    fn table(&self, case: Case) -> String {
        let best = self.figure(Figure::Processor, case, Against::Best);
        let rows = (0..self.contestants.len()).filter_map(|at| Some((at, self.row(case, at)?)));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|(_, one), (_, other)| one.processor.total_cmp(&other.processor));
        let mut text = format!(
            "\n### {}\n\n| program | processor time | ratio | on the clock | memory | added |\n|---|---:|---:|---:|---:|---:|\n",
            case.heading()
        );
        for (at, Row { processor, wall, peak, added }) in rows {
            let ratio = best.map_or("-".to_owned(), |best| format!("{:.2}", processor / best));
            let added = if case.adds() { format!("{:.1} MB", added / 1e6) } else { String::new() };
            let (name, peak) = (self.contestants[at].0, peak / 1e6);
            writeln!(text, "| {name} | {processor:.2} s | {ratio} | {wall:.1} s | {peak:.0} MB | {added} |")
                .expect("strings take text");
        }
        let told = self.told(case);
        if !told.is_empty() {
            writeln!(text, "\nOf ours on the clock: {}.", told.join(", ")).expect("strings take text");
        }
        text
    }

    /// The parts that ours names, in the order of the first sample.
    fn told(&self, case: Case) -> Vec<String> {
        let samples = self.samples.get(&(case, OURS)).map(Vec::as_slice).unwrap_or_default();
        let part = |(at, (name, _)): (usize, &(String, f64))| {
            let times = samples.iter().filter_map(|sample| sample.told.get(at)).map(|(_, seconds)| *seconds);
            format!("{name} {:.1} s", median(times.collect()))
        };
        samples.first().map(|sample| sample.told.iter().enumerate().map(part).collect()).unwrap_or_default()
    }

    fn samples_of(&self, case: Case) -> Value {
        let of = |at: usize| -> Vec<Value> {
            let samples = self.samples.get(&(case, at)).map(Vec::as_slice).unwrap_or_default();
            let value = |Sample { used, added, told }: &Sample| {
                json!({
                    "processor_seconds": used.processor.as_secs_f64(),
                    "wall_seconds": used.wall.as_secs_f64(),
                    "peak_bytes": used.peak,
                    "added_bytes": added,
                    "stages": told.iter().map(|(stage, seconds)| json!({"stage": stage, "seconds": seconds})).collect::<Vec<_>>(),
                })
            };
            samples.iter().map(value).collect()
        };
        self.contestants.iter().enumerate().map(|(at, (name, _))| ((*name).to_owned(), Value::from(of(at)))).collect()
    }

    /// What a figure is held against.
    fn figure(&self, figure: Figure, case: Case, against: Against) -> Option<f64> {
        let of = |at: usize| self.row(case, at).map(|row| row.of(figure));
        let others = (0..self.contestants.len()).filter(|at| *at != OURS);
        match against {
            Against::Best => others.filter_map(of).min_by(f64::total_cmp),
            Against::Named(name) => others.filter(|at| self.contestants[*at].0 == name).find_map(of),
            Against::Bytes(bytes) => Some(bytes),
        }
    }

    fn demands(&self, whole: bool) -> (String, Tally, Vec<Value>) {
        let mut table =
            "\n### what is demanded\n\n| | measured | must | aim | |\n|---|---:|---:|---:|---|\n".to_owned();
        let (mut tally, mut judged) = (Tally::default(), Vec::new());
        for Demand { what, figure, case, against, must, aim } in DEMANDS {
            let ours = self.row(*case, OURS).map(|row| row.of(*figure));
            let measured = ours.zip(self.figure(*figure, *case, *against)).map(|(ours, other)| ours / other);
            let said = verdict(measured, Some(*must), Some(*aim), whole, &mut tally);
            let number = |number: f64| if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") };
            let shown = measured.map_or("-".to_owned(), number);
            writeln!(table, "| {what} | {shown} | {} | {} | {said} |", number(*must), number(*aim))
                .expect("strings take text");
            judged.push(json!({"what": what, "measured": measured, "must": must, "aim": aim, "verdict": said}));
        }
        (table, tally, judged)
    }
}

impl Row {
    fn of(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Processor => self.processor,
            Figure::Added => self.added,
            Figure::Peak => self.peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(contestants: &[(&'static str, String)], ours: u64, other: u64) -> Tally {
        let mut report = Report::new(contestants, 1, String::new());
        let sample = |seconds, added| Sample {
            used: Used { processor: Duration::from_secs(seconds), wall: Duration::ZERO, peak: 1 },
            added,
            told: Vec::new(),
        };
        for case in ALL {
            for (at, seconds) in [ours, other, other * 2].into_iter().enumerate() {
                report.add(*case, at, sample(seconds, if at == OURS { 3 } else { 2 }));
            }
        }
        report.demands(true).1
    }

    #[test]
    fn ours_is_held_against_the_best_of_the_others_and_against_some_by_name() {
        let contestants = ["sovereign", "duplicity", "restic"].map(|name| (name, String::new()));
        let Tally { passed, failed, .. } = report(&contestants, 10, 10);
        assert_eq!((passed, failed), (DEMANDS.len() as u64, 0));
        // Slower than the best in each row, and still half of restic's.
        assert_eq!(report(&contestants, 12, 10).failed, 7);
        assert_eq!(report(&contestants, 16, 10).failed, 8);
        // Somebody who was not measured is no measure.
        let contestants = ["sovereign", "borg", "another"].map(|name| (name, String::new()));
        assert_eq!(report(&contestants, 10, 10).failed, 2);
    }
}
