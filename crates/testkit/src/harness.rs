//! A harness for tests that need what not every machine has: it can say at run time that a test was ignored, and why.
//!
//! What it prints are the usual harness's words. As root and with `CI=true` a test that cannot run is a failure: there
//! everything is installed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test: its name, and what it does with what all tests of the binary share.
pub type Test<T> = (&'static str, fn(&T));

/// Runs the tests that the command line asks for, one after the other. `missing` is why none can run here; otherwise
/// `begin` makes what they share, which is dropped when they are over.
#[expect(clippy::print_stdout, reason = "the usual harness prints too")]
pub fn main<T>(tests: &[Test<T>], missing: Option<&str>, begin: impl FnOnce() -> T) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&Test<T>> = tests.iter().filter(|(name, _)| is_wanted(name, &arguments)).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let must = std::env::var("CI").is_ok_and(|ci| ci == "true") && rustix::process::geteuid().is_root();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    match missing {
        Some(reason) => {
            let outcome = if must { "FAILED:" } else { "ignored," };
            *(if must { &mut failed } else { &mut ignored }) = chosen.len();
            for (name, _) in &chosen {
                println!("test {name} ... {outcome} {reason}");
            }
        }
        None if chosen.is_empty() => {}
        None => {
            let shared = begin();
            for (name, test) in &chosen {
                let is_ok = catch_unwind(AssertUnwindSafe(|| test(&shared))).is_ok();
                *(if is_ok { &mut passed } else { &mut failed }) += 1;
                println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = tests.len() - chosen.len();
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {filtered} filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// By the usual harness's filters.
fn is_wanted(name: &str, arguments: &[String]) -> bool {
    let (mut filters, mut skipped, mut exact) = (Vec::new(), Vec::new(), false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--skip" => skipped.extend(words.next()),
            "--exact" => exact = true,
            flag if flag.starts_with('-') => {}
            _ => filters.push(word),
        }
    }
    let fits = |filter: &&String| if exact { name == **filter } else { name.contains(filter.as_str()) };
    (filters.is_empty() || filters.iter().any(fits)) && !skipped.iter().any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_what_they_mean_elsewhere() {
        let wanted = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            is_wanted("a_small_test", &words)
        };
        for line in ["", "small", "--exact a_small_test", "--nocapture", "other small", "--skip other"] {
            assert!(wanted(line), "{line:?}");
        }
        for line in ["other", "--exact small", "--skip small", "--test-threads=1 other"] {
            assert!(!wanted(line), "{line:?}");
        }
    }
}
