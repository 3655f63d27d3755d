//! What processes have used, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::read;

/// Time on a processor so far, of all threads of these processes, those that have ended among them: `utime` and `stime` of
/// proc_pid_stat(5), which the kernel scales to the time that its scheduler has counted. In ticks of ten milliseconds: a
/// hundredth of what a case takes.
pub(super) fn processor_time(processes: &[u32]) -> Duration {
    let stats = processes.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let ticks: u64 = stats.filter_map(|stat| ticks(&stat)).sum();
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// The name of the program, in parentheses, may have any characters: the fields are counted from behind it.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Bytes of memory that these processes hold, what several share divided among them (PSS).
pub(super) fn memory(processes: &[u32]) -> u64 {
    let kilobytes = processes.iter().filter_map(|pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    kilobytes.sum::<u64>() << 10
}

/// What a command has used until its end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    /// Of all processes that were waited for, its own and those below.
    pub(super) processor: Duration,
    pub(super) wall: Duration,
    /// Bytes of memory, of the largest of them at its largest.
    pub(super) peak: u64,
}

impl Used {
    /// And another one after it.
    pub(super) fn add(&mut self, other: Self) {
        self.processor += other.processor;
        self.wall += other.wall;
        self.peak = self.peak.max(other.peak);
    }
}

/// Runs its arguments with their stdout in a file, and says what getrusage(2) says of all processes below it. Another
/// process than this one, because the kernel begins to count a child's memory with that of who has started it.
const MEASURE: &str = "\
import json, resource, subprocess, sys, time
with open(sys.argv[1], 'wb') as said:
    began = time.monotonic()
    code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=said)
    wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({'processor': used.ru_utime + used.ru_stime, 'wall': wall, 'peak': used.ru_maxrss * 1024}))
sys.exit(code if code >= 0 else 128 - code)
";

/// Runs a command to its end. What it says goes to the file `said`.
///
/// # Errors
/// When it cannot be run, or does not end with 0.
pub(super) fn run(command: &Command, said: &Path) -> Result<Used> {
    let mut measured = Command::new("python3");
    measured.arg("-c").arg(MEASURE).arg(said).arg(command.get_program()).args(command.get_args());
    measured.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        measured.current_dir(folder);
    }
    let text = read(&mut measured).with_context(|| fs::read_to_string(said).unwrap_or_default())?;
    let figures: Value = serde_json::from_str(&text)?;
    let seconds = |name: &str| figures[name].as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let used = seconds("processor").zip(seconds("wall")).zip(figures["peak"].as_u64());
    let ((processor, wall), peak) = used.with_context(|| format!("these are no figures: {text}"))?;
    Ok(Used { processor, wall, peak })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 9 0 100 1 1";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn time_passes() {
        let own = [std::process::id()];
        let before = processor_time(&own);
        while processor_time(&own) == before {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
        assert!(memory(&own) > 0);
    }

    #[test]
    fn a_command_is_measured_with_all_below_it() {
        let folder = std::env::temp_dir().join(format!("xtask-usage-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let said = folder.join("said");
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo \"$WORD\""]);
        let used = run(command.env("WORD", "done"), &said).unwrap();
        assert_eq!(fs::read_to_string(&said).unwrap(), "done\n");
        assert!(used.processor > Duration::from_millis(10) && used.wall > Duration::ZERO, "{used:?}");
        assert!(run(Command::new("sh").args(["-c", "exit 3"]), &said).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
