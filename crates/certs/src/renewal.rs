//! When a certificate is to be renewed: pure, and the same whoever asks.
//!
//! ```text
//!  not_before                      2/3     3/4      7/8     not_after
//!      ├────────────────────────────┼───────┼────────┼────────┤
//!      without a window of its authority:    ╰renewed╯        │
//!      with one (RFC 9773): somewhere in it, at the latest ──▶│ at 7/8
//! ```
//!
//! Each certificate has a moment of its own in the window, which follows from what is in it: so that many do not come at
//! once, and that asking again does not move it. All of it is in parts of the lifetime, so a certificate of six days is
//! renewed with two days left, and tried again for all of them.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sovereign_model::DnsName;

use crate::moment::Moment;
use crate::state::{Held, Window};

/// An authority is asked for its window so often at most, and so often at least, whatever it says (RFC 9773 section 4.3.2
/// has a minute and a day as reasonable).
const ASK: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// So long after it could not be asked; as long as RFC 9773 section 4.3.3 has it.
pub const ASK_AFTER_FAILURE: Duration = Duration::from_secs(6 * 3600);

/// Of its lifetime, so large a part is left when a certificate is renewed at the latest.
const LATEST: u32 = 8;
/// So large a part are its last days: of 90 days five and a half, of six nine hours.
const LAST: u32 = 16;

/// When the certificate of `name` is to be renewed.
pub fn due(name: &DnsName, held: &Held) -> Moment {
    if held.revoked {
        return Moment::LONG_AGO;
    }
    let life = held.not_after.since(held.not_before);
    let latest = held.not_after.before(life / LATEST);
    let (start, length) = match held.window.filter(|window| is_sensible(*window)) {
        Some(Window { start, end }) => (start, end.since(start)),
        None => (held.not_before.after(life * 2 / 3), life / 12),
    };
    start.after(length.mul_f64(share(name, held))).min(latest)
}

/// Whether a certificate is in its last days: whoever renews should have done so, and something is in the way.
pub fn is_late(held: &Held, now: Moment) -> bool {
    now > held.not_after.before(held.not_after.since(held.not_before) / LAST)
}

/// A window that ends before it begins is none (RFC 9773 section 4.2).
pub fn is_sensible(window: Window) -> bool {
    window.start < window.end
}

/// When to ask for the window again, an authority having said how long that can wait.
pub fn ask_again(now: Moment, said: Duration) -> Moment {
    now.after(said.clamp(ASK.0, ASK.1))
}

/// Where in a window this certificate's moment is: evenly spread over certificates, the same whenever it is asked.
fn share(name: &DnsName, held: &Held) -> f64 {
    let mut digest = Sha256::new();
    digest.update(name.as_str());
    digest.update([0]);
    digest.update(held.id.as_deref().unwrap_or_default());
    digest.update(held.not_after.seconds().to_be_bytes());
    let digest = digest.finalize();
    let first = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    f64::from(first) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn held(not_before: u64, life: u64) -> Held {
        Held {
            number: 1,
            authority: "ca".parse().unwrap(),
            stored: Moment::at(not_before),
            not_before: Moment::at(not_before),
            not_after: Moment::at(not_before + life),
            id: Some("a.b".into()),
            window: None,
            ask: Moment::LONG_AGO,
            revoked: false,
            elsewhere: false,
            handed: false,
        }
    }

    fn named(index: usize) -> DnsName {
        format!("n{index}.example").parse().unwrap()
    }

    const DAY: u64 = 86_400;

    #[test]
    fn without_a_window_the_last_third_is_for_renewing() {
        for life in [6 * DAY + DAY / 3, 45 * DAY, 90 * DAY] {
            let all: Vec<u64> = (0..100).map(|index| due(&named(index), &held(1000, life)).seconds() - 1000).collect();
            assert!(all.iter().all(|due| (life * 2 / 3..=life * 3 / 4).contains(due)), "{life}: {all:?}");
            let mut spread = all.clone();
            spread.sort_unstable();
            // No tenth of the time has more than a third of them.
            assert!(spread.windows(34).all(|some| some[33] - some[0] > life / 120), "{spread:?}");
        }
    }

    #[test]
    fn a_window_in_the_past_means_now_and_so_does_a_revocation() {
        let mut certificate = held(1000, 90 * DAY);
        certificate.window = Some(Window { start: Moment::at(10), end: Moment::at(20) });
        assert!(due(&named(0), &certificate) < Moment::at(20));
        let revoked = Held { revoked: true, ..held(1000, 90 * DAY) };
        assert_eq!(due(&named(0), &revoked), Moment::LONG_AGO);
    }

    #[test]
    fn the_last_days_begin_after_the_latest_renewal() {
        for life in [6 * DAY, 90 * DAY] {
            let certificate = held(1000, life);
            let after_due = due(&named(0), &certificate).after(Duration::from_secs(life / 16));
            assert!(!is_late(&certificate, after_due));
            assert!(is_late(&certificate, Moment::at(1000 + life - life / 17)));
            assert!(is_late(&certificate, Moment::at(1001 + life)));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_to_expire(life in 60..400 * DAY, start: u32, length: u32, sensible: bool) {
            let mut certificate = held(1_000_000, life);
            let start = u64::from(start);
            let end = if sensible { start + u64::from(length) + 1 } else { start.saturating_sub(u64::from(length)) };
            certificate.window = Some(Window { start: Moment::at(start), end: Moment::at(end) });
            let moment = due(&named(0), &certificate);
            prop_assert!(moment <= certificate.not_after.before(Duration::from_secs(life / 8)));
            prop_assert_eq!(moment, due(&named(0), &certificate.clone()));
            if sensible && Moment::at(end) < certificate.not_after.before(Duration::from_secs(life / 8)) {
                prop_assert!((Moment::at(start)..=Moment::at(end)).contains(&moment));
            }
            if !sensible {
                certificate.window = None;
                prop_assert_eq!(moment, due(&named(0), &certificate));
            }
        }

        #[test]
        fn an_authority_is_asked_for_its_window_neither_too_often_nor_too_rarely(said: u64) {
            let wait = ask_again(Moment::at(5), Duration::from_secs(said)).since(Moment::at(5));
            prop_assert!((ASK.0..=ASK.1).contains(&wait));
        }
    }
}
