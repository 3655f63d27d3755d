//! What the units of a host use of it: their processes' memory, processor time. The host is asked once for all of them,
//! by a script whose words are parsed as a stranger's.
//!
//! Memory is what processes have for themselves and their share of what they have with others, as on this machine: what
//! the kernel counts for a control group has the cached pages of its files in it, and is not there in a host that is a
//! container itself.

use std::collections::BTreeMap;

use sovereign_hosts::Run;
use sovereign_hosts::systemd::Names;
use sovereign_incus::InstanceName;
use sovereign_model::StackName;

use super::IncusEngineError;
use super::reach::{Link, PROJECT};

/// What everything uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The host's clock, in seconds of the epoch.
    pub now: Option<u64>,
    /// The edge; `None` when it does not run.
    pub edge: Option<EdgeUsage>,
    /// The instances of all stacks, those that run.
    pub instances: BTreeMap<InstanceName, Used>,
}

/// Memory and time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// In bytes.
    pub memory_bytes: u64,
    /// Processor time since the start, in milliseconds.
    pub cpu_ms: u64,
}

/// What an edge uses, and how it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeUsage {
    /// Memory and time.
    pub used: Used,
    /// Since when it runs, in seconds of the epoch.
    pub since: Option<u64>,
    /// How often systemd has started it again.
    pub restarts: u32,
}

impl Link {
    /// What the edge of a stack and the instances on the host use.
    ///
    /// # Errors
    /// When the host does not answer.
    pub async fn usage(&self, stack: &StackName) -> Result<Usage, IncusEngineError> {
        let service = format!("{}.service", Names::base(stack, &self.edge.unit()));
        let run = Run::script("say what its units use", include_str!("usage.sh"));
        let run = run.arg(service).arg(format!("lxc.payload.{PROJECT}_"));
        let failed = |source| IncusEngineError::Host { host: self.edge.clone(), source: Box::new(source) };
        let said = self.connection.succeed(&run).await.map_err(failed)?;
        Ok(Usage::parse(&String::from_utf8_lossy(&said)))
    }
}

impl Usage {
    /// Reads what the script says; what is not understood is passed over.
    fn parse(text: &str) -> Self {
        let mut usage = Self::default();
        let mut edge = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["now", now] => usage.now = now.parse().ok(),
                ["edge", property] => {
                    let (name, value) = property.split_once('=').unwrap_or_default();
                    edge.extend(value.trim_start_matches('@').parse::<u64>().ok().map(|number| (name, number)));
                }
                ["instance", name, microseconds, kib] => {
                    if let (Ok(name), Ok(time), Ok(kib)) = (name.parse(), microseconds.parse::<u64>(), kib.parse()) {
                        usage.instances.insert(name, Used { memory_bytes: bytes(kib), cpu_ms: time / 1000 });
                    }
                }
                _ => {}
            }
        }
        if edge.get("MainPID").is_some_and(|pid| *pid > 0) {
            let figure = |name: &str| edge.get(name).copied();
            // systemd says 2^64 - 1 of what it did not count.
            let nanoseconds = figure("CPUUsageNSec").filter(|time| *time < u64::MAX).unwrap_or_default();
            usage.edge = Some(EdgeUsage {
                used: Used {
                    memory_bytes: bytes(figure("Memory").unwrap_or_default()),
                    cpu_ms: nanoseconds / 1_000_000,
                },
                since: figure("ActiveEnterTimestamp").filter(|since| *since > 0),
                restarts: figure("NRestarts").and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            });
        }
        usage
    }

    /// How long something runs that was started in this second, by the host's clock.
    pub fn running_seconds(&self, since: Option<u64>) -> Option<u64> {
        Some(self.now?.saturating_sub(since?))
    }
}

fn bytes(kib: u64) -> u64 {
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_words_are_read_and_nonsense_is_passed_over() {
        let usage = Usage::parse(
            "now 1795656942\nedge MainPID=3192\nedge NRestarts=2\nedge CPUUsageNSec=3334140000\n\
             edge ActiveEnterTimestamp=@1795656882\nedge Memory=31580\ninstance ghost-blog-home-9def 5500 181672\n\
             instance .. 1 1\ninstance database-blog-home-1581 x 1\nwhat is this\nedge\n\u{1b}[2J\n",
        );
        let used = Used { memory_bytes: 31580 << 10, cpu_ms: 3334 };
        assert_eq!(usage.edge, Some(EdgeUsage { used, since: Some(1_795_656_882), restarts: 2 }));
        assert_eq!(usage.running_seconds(usage.edge.and_then(|edge| edge.since)), Some(60));
        let instance = ("ghost-blog-home-9def".parse().unwrap(), Used { memory_bytes: 181_672 << 10, cpu_ms: 5 });
        assert_eq!(usage.instances, BTreeMap::from([instance]));
    }

    #[test]
    fn an_edge_that_does_not_run_uses_nothing() {
        let said = "now 1\nedge MainPID=0\nedge NRestarts=0\nedge CPUUsageNSec=18446744073709551615\nedge ActiveEnterTimestamp=\n\
                    edge Memory=0\n";
        assert_eq!(Usage::parse(said), Usage { now: Some(1), ..Usage::default() });
        assert_eq!(Usage::parse(&said.replace("PID=0", "PID=7")).edge, Some(EdgeUsage::default()));
        assert_eq!(Usage::parse(""), Usage::default());
    }
}
