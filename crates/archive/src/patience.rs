//! How long a source is waited for.
//!
//! A source that says a byte now and then must not hold the archive's lock for ever. So waiting is paid for: there is
//! an account of patience, full at first; each second of waiting takes a second from it, each kind of progress puts
//! something back, and it never holds more than at first. When it is empty the source is given up. Only waiting is
//! counted: what this side does between two answers takes as long as it takes.
//!
//! ```text
//!                silence              content: 1 s per 64 KiB
//!   given up ◀─────────── patience ◀──────────────────────────  (full: 120 s, say)
//!                                  ◀──────────────────────────
//!                                     any other answer: 1/4 s
//! ```
//!
//! Both amounts are bounded by what a list may have in it at most, so there is an end to every backup.

use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What a second of patience costs in content. A slow line at home sends twice as much; a file of the largest size
/// that is sent as slowly as this takes half a year, and nobody has the room for one on a line like that.
const BYTES_PER_SECOND: u64 = 64 << 10;
/// For an entry, the end of a file and the like: a disk that seeks for each takes a tenth of it.
const PER_ANSWER: Duration = Duration::from_millis(250);

/// What a source says, read with or without an end to waiting.
pub(crate) trait Hear: Read + Send {
    /// So many bytes of content have come.
    fn content(&mut self, bytes: usize);
    /// Another answer has come.
    fn answer(&mut self);
}

/// Waits for as long as it takes.
pub(crate) struct Trusting<R>(pub(crate) R);

impl<R: Read> Read for Trusting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + Send> Hear for Trusting<R> {
    fn content(&mut self, _: usize) {}
    fn answer(&mut self) {}
}

/// Takes what has come already in one go: frames are short more often than not.
pub(crate) struct Buffered<R>(BufReader<R>);

impl<R: Read> Buffered<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self(BufReader::with_capacity(64 << 10, inner))
    }
}

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Hear> Hear for Buffered<R> {
    fn content(&mut self, bytes: usize) {
        self.0.get_mut().content(bytes);
    }

    fn answer(&mut self) {
        self.0.get_mut().answer();
    }
}

/// Reads from a pipe or socket, and gives up on one that is too slow.
pub(crate) struct Patient<R> {
    inner: R,
    full: Duration,
    left: Duration,
}

impl<R: Read + AsFd> Patient<R> {
    pub(crate) fn new(inner: R, patience: Duration) -> Self {
        Self { inner, full: patience, left: patience }
    }

    fn regain(&mut self, more: Duration) {
        self.left = self.left.saturating_add(more).min(self.full);
    }
}

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (seconds, nanoseconds) = (self.left.as_secs(), self.left.subsec_nanos());
        let patience = Timespec { tv_sec: seconds.try_into().unwrap_or(i64::MAX), tv_nsec: nanoseconds.into() };
        let began = Instant::now();
        let ready = rustix::event::poll(&mut [PollFd::new(&self.inner, PollFlags::IN)], Some(&patience));
        self.left = self.left.saturating_sub(began.elapsed());
        if ready? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the other side is too slow, or says nothing any more",
            ));
        }
        self.inner.read(buffer)
    }
}

impl<R: Read + AsFd + Send> Hear for Patient<R> {
    fn content(&mut self, bytes: usize) {
        self.regain(Duration::from_nanos(bytes as u64 * (1_000_000_000 / BYTES_PER_SECOND)));
    }

    fn answer(&mut self) {
        self.regain(PER_ANSWER);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// Reads from somebody who writes a byte every 20 ms, each of them an answer as `tell` says; how many came.
    fn heard(patience: u64, bytes: u64, tell: impl Fn(&mut Patient<UnixStream>)) -> u64 {
        let (near, mut far) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for _ in 0..bytes {
                thread::sleep(Duration::from_millis(20));
                if far.write_all(b"x").is_err() {
                    break;
                }
            }
        });
        let mut patient = Patient::new(near, Duration::from_millis(patience));
        let mut count = 0;
        while let Ok(1) = patient.read(&mut [0]) {
            count += 1;
            tell(&mut patient);
        }
        count
    }

    #[test]
    fn one_byte_now_and_then_is_too_slow() {
        let came = heard(200, 200, |patient| patient.content(1));
        assert!(came < 15, "{came} bytes were waited for");
    }

    #[test]
    fn answers_and_content_buy_time() {
        assert_eq!(heard(200, 50, Hear::answer), 50);
        assert_eq!(heard(200, 50, |patient| patient.content(16 << 10)), 50);
    }

    #[test]
    fn patience_is_not_saved_up() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut patient = Patient::new(near, Duration::from_millis(100));
        patient.content(1 << 30);
        let began = Instant::now();
        assert_eq!(patient.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(far);
    }
}
