//! What processes have used, as the kernel counts it.

use std::fs;
use std::time::Duration;

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
}
