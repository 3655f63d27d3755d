//! Numbers as people read them. Decimal units, as disks and network providers count.

use std::time::Duration;

/// `1.2 MB`: three figures at most, powers of 1000.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be rounded to 1000.0
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `350 ms`, `4.2 s`, `1 min 05 s`, `3 h 20 min`, `5 d 2 h`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", (time.as_millis() / 100) as f64 / 10.0),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A time that is known to the second: `0 s`, `42 s`, `1 min 05 s`.
pub(crate) fn seconds(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds} s") } else { duration(Duration::from_secs(seconds)) }
}

/// `1 page`, `2 pages`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shown: Vec<_> = [0, 999, 1000, 1_234_567, 99_949_999, 99_950_000, 999_950_000, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.2 MB", "99.9 MB", "100 MB", "1.0 GB", "18.4 EB"]);
    }

    #[test]
    fn times() {
        let shown: Vec<_> = [0, 350, 1000, 59_999, 65_000, 12_000_000, 440_000_000]
            .map(|ms| duration(Duration::from_millis(ms)))
            .into();
        assert_eq!(shown, ["0 ms", "350 ms", "1.0 s", "59.9 s", "1 min 05 s", "3 h 20 min", "5 d 2 h"]);
    }

    #[test]
    fn times_known_to_the_second_claim_no_more() {
        assert_eq!([0, 59, 60].map(seconds), ["0 s", "59 s", "1 min 00 s"]);
    }

    #[test]
    fn counts() {
        assert_eq!([count(0, "page", "pages"), count(1, "page", "pages")], ["0 pages", "1 page"]);
    }
}
