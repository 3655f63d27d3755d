//! What processes have used, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Time on a processor so far, of all threads of these processes, from `/proc/PID/task/*/schedstat`: nanoseconds, where
/// `/proc/PID/stat` has ticks of ten milliseconds. Threads that have ended are not in it; servers keep theirs.
pub(super) fn processor_time(processes: &[u32]) -> Duration {
    let tasks = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten().flatten();
    let counts = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    let nanoseconds = counts.filter_map(|count| count.split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(nanoseconds.sum())
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
