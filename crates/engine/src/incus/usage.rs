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
use sovereign_model::{StackName, UnitName};

use super::IncusEngineError;
use super::reach::{Link, PROJECT};

/// What everything uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The host's clock, in seconds of the epoch.
    pub now: Option<u64>,
    /// The host's own units, those that run.
    pub services: BTreeMap<UnitName, ServiceUsage>,
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

/// What a unit of the host's own uses, and how it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceUsage {
    /// Memory and time.
    pub used: Used,
    /// Since when it runs, in seconds of the epoch.
    pub since: Option<u64>,
    /// How often systemd has started it again.
    pub restarts: u32,
}

impl Link {
    /// What units of the host's own and the instances on it use.
    ///
    /// # Errors
    /// When the host does not answer.
    pub async fn usage(&self, stack: &StackName, units: &[UnitName]) -> Result<Usage, IncusEngineError> {
        let services = units.iter().map(|unit| Names::of_any(stack, unit).alias());
        let run = Run::script("say what its units use", include_str!("usage.sh"));
        let run = run.arg(format!("lxc.payload.{PROJECT}_")).args(services.clone());
        let failed = |source| IncusEngineError::Host { host: self.edge.clone(), source: Box::new(source) };
        let said = self.connection.succeed(&run).await.map_err(failed)?;
        let names = services.zip(units.iter().cloned()).collect();
        Ok(Usage::parse(&String::from_utf8_lossy(&said), &names))
    }
}

impl Usage {
    /// Reads what the script says, of services of these names; what is not understood is passed over.
    fn parse(text: &str, names: &BTreeMap<String, UnitName>) -> Self {
        let mut usage = Self::default();
        let mut services: BTreeMap<&UnitName, BTreeMap<&str, u64>> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["now", now] => usage.now = now.parse().ok(),
                ["service", service, property] => {
                    let (name, value) = property.split_once('=').unwrap_or_default();
                    let number = value.trim_start_matches('@').parse();
                    if let (Some(unit), Ok(number)) = (names.get(service), number) {
                        services.entry(unit).or_default().insert(name, number);
                    }
                }
                ["instance", name, microseconds, kib] => {
                    if let (Ok(name), Ok(time), Ok(kib)) = (name.parse(), microseconds.parse::<u64>(), kib.parse()) {
                        usage.instances.insert(name, Used { memory_bytes: bytes(kib), cpu_ms: time / 1000 });
                    }
                }
                _ => {}
            }
        }
        let used = services.into_iter().filter_map(|(unit, figures)| Some((unit.clone(), service(&figures)?)));
        usage.services = used.collect();
        usage
    }

    /// How long something runs that was started in this second, by the host's clock.
    pub fn running_seconds(&self, since: Option<u64>) -> Option<u64> {
        Some(self.now?.saturating_sub(since?))
    }
}

/// What systemd says of a service; `None` when it does not run.
fn service(figures: &BTreeMap<&str, u64>) -> Option<ServiceUsage> {
    let figure = |name: &str| figures.get(name).copied();
    figure("MainPID").filter(|pid| *pid > 0)?;
    // systemd says 2^64 - 1 of what it did not count.
    let nanoseconds = figure("CPUUsageNSec").filter(|time| *time < u64::MAX).unwrap_or_default();
    Some(ServiceUsage {
        used: Used { memory_bytes: bytes(figure("Memory").unwrap_or_default()), cpu_ms: nanoseconds / 1_000_000 },
        since: figure("ActiveEnterTimestamp").filter(|since| *since > 0),
        restarts: figure("NRestarts").and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
    })
}

fn bytes(kib: u64) -> u64 {
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "sovereign-shop.edge-atlas.home.service";

    fn parse(text: &str) -> Usage {
        Usage::parse(text, &BTreeMap::from([(SERVICE.to_owned(), edge())]))
    }

    fn edge() -> UnitName {
        "edge-atlas@home".parse().unwrap()
    }

    #[test]
    fn a_hosts_words_are_read_and_nonsense_is_passed_over() {
        let said = "now 1795656942\nedge MainPID=3192\nedge NRestarts=2\nedge CPUUsageNSec=3334140000\n\
             edge ActiveEnterTimestamp=@1795656882\nedge Memory=31580\ninstance ghost-blog-home-9def 5500 181672\n\
             service of-a-stranger MainPID=1\ninstance .. 1 1\ninstance database-blog-home-1581 x 1\nwhat is this\n\
             edge\n\u{1b}[2J\n";
        let usage = parse(&said.replace("edge ", &format!("service {SERVICE} ")));
        let used = Used { memory_bytes: 31580 << 10, cpu_ms: 3334 };
        let service = ServiceUsage { used, since: Some(1_795_656_882), restarts: 2 };
        assert_eq!(usage.services, BTreeMap::from([(edge(), service)]));
        assert_eq!(usage.running_seconds(service.since), Some(60));
        let instance = ("ghost-blog-home-9def".parse().unwrap(), Used { memory_bytes: 181_672 << 10, cpu_ms: 5 });
        assert_eq!(usage.instances, BTreeMap::from([instance]));
    }

    #[test]
    fn what_does_not_run_uses_nothing() {
        let said = "MainPID=0 NRestarts=0 CPUUsageNSec=18446744073709551615 ActiveEnterTimestamp= Memory=0";
        let said: String = said.split(' ').map(|figure| format!("service {SERVICE} {figure}\n")).collect();
        let said = format!("now 1\n{said}");
        assert_eq!(parse(&said), Usage { now: Some(1), ..Usage::default() });
        let running = parse(&said.replace("PID=0", "PID=7")).services;
        assert_eq!(running, BTreeMap::from([(edge(), ServiceUsage::default())]));
        assert_eq!(parse(""), Usage::default());
    }
}
