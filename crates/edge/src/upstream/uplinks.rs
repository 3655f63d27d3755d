//! The ways to one peer: its addresses in order of preference, and what is known of each.
//!
//! A data center has several uplinks so that one may fail, and one that fails mostly does so without a word. So the next
//! address is dialled as soon as the one before has had a head start; the first connection that stands is used, and what
//! lost against it is asked last from then on. While a lesser uplink is used, the better ones are tried again now and
//! then, and taken back when [`Health`] says so.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::health::{Failure, Health};

/// How long an address may take before the next one is dialled too: two or three round trips around the globe.
const HEAD_START: Duration = Duration::from_secs(1);

/// The addresses of a peer.
#[derive(Debug, Clone)]
pub(crate) struct Uplinks(Vec<(SocketAddr, Health)>);

impl Uplinks {
    /// `addresses`: the preferred one first.
    pub(crate) fn new(addresses: &[SocketAddr]) -> Self {
        Self(addresses.iter().map(|address| (*address, Health::default())).collect())
    }

    /// In which order to dial: what is to be counted on first, in order of preference; then the rest.
    pub(crate) fn order(&self) -> Vec<SocketAddr> {
        let (well, doubtful): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, health)| !health.is_doubtful());
        well.into_iter().chain(doubtful).map(|(address, _)| *address).collect()
    }

    /// Those that would be preferred to `used`.
    pub(crate) fn better_than(&self, used: SocketAddr) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).take_while(|address| *address != used).collect()
    }

    /// A dial succeeded; whether the address is to be counted on.
    pub(crate) fn answered(&mut self, address: SocketAddr, now: Instant) -> bool {
        self.health(address).is_some_and(|health| {
            health.answered(now);
            !health.is_doubtful()
        })
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Instant) {
        if let Some(health) = self.health(address) {
            health.failed(Failure::Refused, now);
        }
    }

    /// Takes note of how a race has ended.
    pub(crate) fn note<T, E>(&mut self, raced: &Raced<T, E>, now: Instant) {
        raced.lost.iter().for_each(|address| self.failed(*address, now));
        if let Ok((address, _)) = &raced.result {
            self.answered(*address, now);
        }
    }

    fn health(&mut self, address: SocketAddr) -> Option<&mut Health> {
        self.0.iter_mut().find(|(known, _)| *known == address).map(|(_, health)| health)
    }
}

/// How a race has ended.
pub(crate) struct Raced<T, E> {
    /// The first that stood, and its address; or the last failure. `None` when there was nothing to dial.
    pub(crate) result: Result<(SocketAddr, T), Option<E>>,
    /// Those that failed, or had a head start and were overtaken.
    pub(crate) lost: Vec<SocketAddr>,
}

/// Dials `addresses`, each a head start after the one before or as soon as that one has failed.
pub(crate) async fn race<T, E, F>(addresses: Vec<SocketAddr>, dial: impl Fn(SocketAddr) -> F) -> Raced<T, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting = addresses.into_iter();
    let mut racing = JoinSet::new();
    let (mut begun, mut lost) = (Vec::new(), Vec::new());
    let mut last = None;
    let mut next = waiting.next();
    loop {
        if let Some(address) = next.take() {
            let dialling = dial(address);
            racing.spawn(async move { (address, dialling.await) });
            begun.push(address);
        }
        tokio::select! {
            dialled = racing.join_next() => match dialled {
                Some(Ok((address, Ok(stands)))) => {
                    let overtaken = begun.into_iter().take_while(|other| *other != address);
                    lost = overtaken.chain(lost).collect();
                    lost.sort_unstable();
                    lost.dedup();
                    return Raced { result: Ok((address, stands)), lost };
                }
                Some(Ok((address, Err(error)))) => {
                    lost.push(address);
                    last = Some(error);
                    next = waiting.next();
                }
                // Its task was ended with the process.
                Some(Err(_)) => {}
                None => return Raced { result: Err(last), lost },
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => next = waiting.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    /// A dial to the port `n` takes so many milliseconds, and fails where that is negative.
    async fn raced(takes: [i64; 3]) -> (Raced<u16, u16>, Duration) {
        let began = tokio::time::Instant::now();
        let raced = race(addresses(), |address| async move {
            let takes = takes[usize::from(address.port() - 1)];
            tokio::time::sleep(Duration::from_millis(takes.unsigned_abs())).await;
            if takes < 0 { Err(address.port()) } else { Ok(address.port()) }
        });
        (raced.await, began.elapsed())
    }

    fn ports(addresses: &[SocketAddr]) -> Vec<u16> {
        addresses.iter().map(SocketAddr::port).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_stands_is_used() {
        for (takes, winner, lost, within) in [
            ([50, 0, 0], 1, vec![], 50),
            ([-50, 50, 0], 2, vec![1], 100),
            ([60_000, 50, 0], 2, vec![1], 1050),
            ([60_000, 60_000, 50], 3, vec![1, 2], 2050),
            // The preferred one is slow, and still first.
            ([1020, 50, 0], 1, vec![], 1020),
            ([-1, -1, 50], 3, vec![1, 2], 52),
        ] {
            let (raced, took) = raced(takes).await;
            assert_eq!(raced.result.unwrap().1, winner, "{takes:?}");
            assert_eq!(ports(&raced.lost), lost, "{takes:?}");
            assert!(took.abs_diff(Duration::from_millis(within)) < Duration::from_millis(10), "{takes:?}: {took:?}");
        }
        let (raced, _) = raced([-1, -1, -1]).await;
        assert_eq!(raced.result.unwrap_err(), Some(3));
        assert!(race(Vec::new(), |_| async { Ok::<(), ()>(()) }).await.result.unwrap_err().is_none());
    }

    #[test]
    fn what_lost_is_asked_last_until_it_answers_again() {
        let now = Instant::now();
        let mut uplinks = Uplinks::new(&addresses());
        let [first, second, third] = addresses()[..] else { unreachable!() };
        assert!(uplinks.answered(first, now));
        uplinks.note(&Raced::<(), ()> { result: Ok((second, ())), lost: vec![first] }, now);
        assert_eq!(uplinks.order(), [second, third, first]);
        assert_eq!(uplinks.better_than(second), [first]);
        assert!(uplinks.better_than(first).is_empty());
        assert!(uplinks.answered(first, now));
        assert_eq!(uplinks.order(), addresses());
        // It flaps: one answer is not enough any more.
        uplinks.failed(first, now);
        assert!(!uplinks.answered(first, now));
        assert_eq!(uplinks.order(), [second, third, first]);
        assert!(uplinks.answered(first, now + Duration::from_secs(5)));
    }
}
