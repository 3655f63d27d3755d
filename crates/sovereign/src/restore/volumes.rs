//! The parts of a site that are volumes on a host, as a swap moves them. A volume cannot be renamed under the instance that
//! has it, so what a rename does for a folder is done in another way, and comes to the same:
//!
//! | a swap's | of a volume |
//! |---|---|
//! | live to before | a snapshot of it is kept, and it stays |
//! | staged to live | it is filled, or put back to what a restore before has kept, and then says which swap filled it |
//! | before to live | it is put back to the snapshot, and that is removed |
//!
//! Promise: the same as a swap's, wherever it is killed: one that is half filled does not say yet that it was filled, and
//! is filled again from its beginning; what is put back is put back whole.

use super::swap::{Found, Intent, Move, Origin, Part, Place};
use crate::failure::Failure;

/// The parts that are volumes.
pub(super) const PARTS: [Part; 2] = [Part::Data, Part::Content];

/// What can be done with the volume of a part while nothing uses it. All of it can be repeated.
pub(super) trait Volumes {
    /// Keeps it as it is, under a number.
    fn keep(&self, part: Part, number: u32) -> impl Future<Output = Result<(), Failure>>;

    /// Whether it is kept under that number.
    fn keeps(&self, part: Part, number: u32) -> impl Future<Output = Result<bool, Failure>>;

    /// Makes it what it was when it was kept.
    fn put_back(&self, part: Part, number: u32) -> impl Future<Output = Result<(), Failure>>;

    /// Keeps that no longer.
    fn forget(&self, part: Part, number: u32) -> impl Future<Output = Result<(), Failure>>;

    /// Puts what is staged in the place of what is in it.
    fn fill(&self, part: Part) -> impl Future<Output = Result<(), Failure>>;

    /// The swap that filled it last.
    fn holds(&self, part: Part) -> impl Future<Output = Result<Option<String>, Failure>>;

    /// Writes that on it.
    fn set_holds(&self, part: Part, what: Option<&str>) -> impl Future<Output = Result<(), Failure>>;
}

/// Before an intent is written: no swap has filled anything.
///
/// # Errors
/// When the host does not obey.
pub(super) async fn begin(volumes: &impl Volumes) -> Result<(), Failure> {
    for part in PARTS {
        volumes.set_holds(part, None).await?;
    }
    Ok(())
}

/// Where a part is.
///
/// # Errors
/// When the host does not answer.
pub(super) async fn found(volumes: &impl Volumes, intent: &Intent, part: Part) -> Result<Found, Failure> {
    let before = volumes.keeps(part, intent.number).await?;
    // What is staged stays so while it goes in. On the way back, it need not be brought back there.
    let staged = intent.back.is_some() || volumes.holds(part).await?.as_deref() != Some(&*mark(intent));
    Ok(Found { live: true, staged, before })
}

/// Does what a swap's rename of a part does.
///
/// # Errors
/// When the host does not obey.
pub(super) async fn carry(volumes: &impl Volumes, intent: &Intent, Move { part, to, .. }: Move) -> Result<(), Failure> {
    match (to, &intent.origin, intent.back.is_some()) {
        (Place::Before, ..) => volumes.keep(part, intent.number).await,
        (Place::Live, origin, false) => {
            match origin {
                Origin::Snapshot { .. } => volumes.fill(part).await?,
                Origin::Before { number } => volumes.put_back(part, *number).await?,
            }
            volumes.set_holds(part, Some(&mark(intent))).await
        }
        (Place::Live, _, true) => {
            volumes.put_back(part, intent.number).await?;
            volumes.forget(part, intent.number).await
        }
        (Place::Staged, ..) => Ok(()),
    }
}

/// When a swap is over: what took the place is not kept as well.
///
/// # Errors
/// When the host does not obey.
pub(super) async fn over(volumes: &impl Volumes, intent: &Intent) -> Result<(), Failure> {
    if let (None, Origin::Before { number }) = (&intent.back, &intent.origin) {
        for part in PARTS {
            volumes.forget(part, *number).await?;
        }
    }
    Ok(())
}

fn mark(intent: &Intent) -> String {
    intent.number.to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::*;
    use crate::failure::Reason;
    use crate::restore::swap::{Change, Ended, World, carry_out};

    /// What is in a volume; half filled it is neither.
    const HALF: &str = "half";

    #[derive(Debug, Clone, Default)]
    struct Volume {
        live: &'static str,
        kept: BTreeMap<u32, &'static str>,
        holds: Option<String>,
    }

    /// A host that is cut off after so many effects.
    struct Host {
        volumes: RefCell<BTreeMap<Part, Volume>>,
        intent: RefCell<Option<Intent>>,
        runs: Cell<bool>,
        good: bool,
        left: Cell<usize>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it dies of that data")]
    struct Dies;

    impl Reason for Dies {}

    impl Host {
        async fn effect(&self) {
            match self.left.get().checked_sub(1) {
                Some(left) => self.left.set(left),
                None => std::future::pending().await,
            }
        }

        async fn change(&self, part: Part, change: impl FnOnce(&mut Volume)) -> Result<(), Failure> {
            self.effect().await;
            assert!(!self.runs.get() || part == Part::SetUp, "{part:?} is changed under a running application");
            change(self.volumes.borrow_mut().get_mut(&part).unwrap());
            Ok(())
        }

        fn live(&self) -> Vec<&'static str> {
            self.volumes.borrow().values().map(|volume| volume.live).collect()
        }
    }

    impl Volumes for Host {
        async fn keep(&self, part: Part, number: u32) -> Result<(), Failure> {
            self.change(part, |volume| assert!(volume.kept.insert(number, volume.live).is_none())).await
        }

        async fn keeps(&self, part: Part, number: u32) -> Result<bool, Failure> {
            Ok(self.volumes.borrow()[&part].kept.contains_key(&number))
        }

        async fn put_back(&self, part: Part, number: u32) -> Result<(), Failure> {
            self.change(part, |volume| volume.live = volume.kept[&number]).await
        }

        async fn forget(&self, part: Part, number: u32) -> Result<(), Failure> {
            self.effect().await;
            self.volumes.borrow_mut().get_mut(&part).unwrap().kept.remove(&number);
            Ok(())
        }

        async fn fill(&self, part: Part) -> Result<(), Failure> {
            self.change(part, |volume| volume.live = HALF).await?;
            self.change(part, |volume| volume.live = "new").await
        }

        async fn holds(&self, part: Part) -> Result<Option<String>, Failure> {
            Ok(self.volumes.borrow()[&part].holds.clone())
        }

        async fn set_holds(&self, part: Part, what: Option<&str>) -> Result<(), Failure> {
            self.effect().await;
            self.volumes.borrow_mut().get_mut(&part).unwrap().holds = what.map(str::to_owned);
            Ok(())
        }
    }

    impl World for Host {
        async fn keep(&self, intent: &Intent) -> Result<(), Failure> {
            self.effect().await;
            *self.intent.borrow_mut() = Some(intent.clone());
            Ok(())
        }

        async fn prepare(&self, _: &Intent) -> Result<(), Failure> {
            Ok(())
        }

        async fn next(&self, intent: &Intent) -> Result<Option<Move>, Failure> {
            let mut all = BTreeMap::new();
            for part in PARTS {
                all.insert(part, found(self, intent, part).await?);
            }
            Ok(intent.next(|part| all[&part]).unwrap())
        }

        async fn stop(&self) -> Result<(), Failure> {
            self.effect().await;
            self.runs.set(false);
            Ok(())
        }

        async fn rename(&self, intent: &Intent, step: Move) -> Result<(), Failure> {
            carry(self, intent, step).await
        }

        async fn revive(&self) -> Result<(), Failure> {
            self.effect().await;
            let live = self.live();
            assert!(live == ["old"; 2] || live == ["new"; 2], "started on some of both: {live:?}");
            self.runs.set(true);
            if live[0] == "new" && !self.good { Err(Dies.into()) } else { Ok(()) }
        }

        async fn open(&self) -> Result<(), Failure> {
            Ok(())
        }

        async fn tell(&self) {}

        async fn forget(&self, intent: &Intent) -> Result<(), Failure> {
            over(self, intent).await?;
            self.effect().await;
            *self.intent.borrow_mut() = None;
            Ok(())
        }
    }

    async fn until_cut(host: &Host, intent: Intent) -> Option<Result<Ended, Failure>> {
        tokio::select! {
            biased;
            ended = carry_out(host, intent) => Some(ended),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn wherever_it_is_killed_all_is_old_or_all_is_new_and_both_are_kept() {
        let change = Change { had: true, gets: true };
        let parts: BTreeMap<_, _> = PARTS.map(|part| (part, change)).into();
        for (good, undo) in [(true, false), (false, false), (true, true), (false, true)] {
            let origin = match undo {
                true => Origin::Before { number: 1 },
                false => Origin::Snapshot { id: "ab".to_owned(), taken_unix: 7 },
            };
            let intent = Intent::new(origin, 2, parts.clone());
            for (first, second) in (0..24).flat_map(|first| (0..24).map(move |second| (first, second))) {
                let kept = if undo { BTreeMap::from([(1, "new")]) } else { BTreeMap::new() };
                // An earlier swap of that number was followed by a `--discard`.
                let volume = Volume { live: "old", kept: kept.clone(), holds: Some("2".to_owned()) };
                let host = Host {
                    volumes: RefCell::new(PARTS.map(|part| (part, volume.clone())).into()),
                    intent: RefCell::default(),
                    runs: Cell::new(true),
                    good,
                    left: Cell::new(usize::MAX),
                };
                begin(&host).await.unwrap();
                host.left.set(first);
                let case = format!("good: {good}, undo: {undo}, killed after {first} and {second}");
                let mut ended = until_cut(&host, intent.clone()).await;
                for left in [second, usize::MAX] {
                    host.left.set(left);
                    let pending = host.intent.borrow().clone();
                    if let (None, Some(intent)) = (&ended, pending) {
                        ended = until_cut(&host, intent).await;
                    }
                }
                assert!(host.intent.borrow().is_none() && host.runs.get(), "{case}");
                let is_new = good && first > 0;
                assert_eq!(host.live(), [if is_new { "new" } else { "old" }; 2], "{case}");
                let wanted = if is_new { BTreeMap::from([(2, "old")]) } else { kept };
                assert!(host.volumes.borrow().values().all(|volume| volume.kept == wanted), "{case}");
            }
        }
    }
}
