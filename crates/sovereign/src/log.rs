//! Log lines: for commands part of the conversation on stderr, for daemons all they ever say.

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;

use crate::environment::{Environment, names};
use crate::output::{Output, Verbosity};

/// Sends log lines to stderr, from here on and for every thread.
///
/// Commands show warnings without a time, unless `-v` asks for more. Daemons show what an operator wants to find in a
/// log afterwards, each line with its time in UTC.
pub(crate) fn start(output: &Output, environment: &Environment, daemon: bool) {
    let filter = || {
        let default = EnvFilter::new(default_filter(output.verbosity(), daemon));
        let Some(directives) = environment.get(names::LOG).map(|text| text.to_string_lossy()) else { return default };
        EnvFilter::try_new(&directives).unwrap_or_else(|error| {
            output.warn(format!("{} is not understood and ignored: {error}", names::LOG));
            default
        })
    };
    if daemon {
        fmt().with_env_filter(filter()).with_ansi(false).with_writer(std::io::stderr).init();
    } else {
        fmt()
            .with_env_filter(filter())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(output.clone())
            .init();
    }
}

fn default_filter(verbosity: Verbosity, daemon: bool) -> &'static str {
    match verbosity {
        Verbosity::Quiet => "error",
        Verbosity::Normal if daemon => "info",
        Verbosity::Normal => "warn",
        Verbosity::Verbose => "info,sovereign=debug",
        Verbosity::Everything => "trace",
    }
}
