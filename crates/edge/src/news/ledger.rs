//! Which messages of an application belong to one change.
//!
//! Ghost says one change in several webhooks, in any order and within some 20 ms: what changed (`post.published`, and
//! `tag.added` when the post brings new tags), and that something did (`site.changed`). The answer to the author says
//! so too, on its way through the edge. A signal that something changed is explained by an event that says what; one
//! that nothing explains within [`TOGETHER`] means that anything may have changed.
//!
//! ```text
//!   event  ──▶ explains what waits ────────────────▶ Begin     with its signal, or SETTLE after the event alone
//!   signal ──▶ explained ──────────────────────────▶ (nothing) or Late, when its event began without it
//!          └─▶ waits ── SOON, still alone ─────────▶ Front     is the site private now?
//!                    └─ TOGETHER, still alone ─────▶ Everything
//! ```
//!
//! An answer to somebody who changed something else than a post, a page or a tag (the theme, a setting) has no event: it
//! waits like a signal that nothing explains, because a signal comes with it too, but is never explained.
//!
//! Promise: an event explains one signal of each kind, so that of two changes that come together, one without an event,
//! the other is not taken to explain both. No clock: times come in.

use std::time::Duration;
use std::time::Instant;

use crate::concern::Subject;
use crate::route::Target;

/// How far apart the messages about one change come, at most. Beyond it a change is handled as one more, which costs
/// and does no harm.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long a signal is alone before the front page is looked at: a site that was closed must not wait for the rest.
const SOON: Duration = Duration::from_millis(250);
/// How long an event waits for its signal: until then Ghost answers for sitemaps from memory.
const SETTLE: Duration = Duration::from_millis(300);

/// How an application says that something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A webhook without particulars.
    Hook,
    /// A field of the answer to whoever changed something that events are about.
    Answer,
    /// The same of the answer to another change.
    OtherAnswer,
}

/// Where Ghost's staff change what events tell of.
const WITH_EVENTS: [&str; 3] = ["/ghost/api/admin/posts/", "/ghost/api/admin/pages/", "/ghost/api/admin/tags/"];

impl Kind {
    /// That of the answer to a request for `asked`. In doubt no event is awaited for it: then everything is looked at.
    pub(crate) fn of_answer(asked: &Target) -> Self {
        if WITH_EVENTS.iter().any(|below| asked.is_under(below)) { Self::Answer } else { Self::OtherAnswer }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Fetch what the events so far concern. `front`: but the front page, which was asked for since the change.
    Begin { front: bool },
    /// Fetch again what the application may have answered from memory.
    Late,
    /// Look at the front page.
    Front,
    /// Fetch everything.
    Everything,
}

#[derive(Debug)]
struct Explanation {
    at: Instant,
    subject: Subject,
    hook: bool,
    answer: bool,
    begun: bool,
    front: bool,
}

#[derive(Debug)]
struct Signal {
    at: Instant,
    kind: Kind,
    looked: bool,
}

/// The messages of the last moment.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    explanations: Vec<Explanation>,
    waiting: Vec<Signal>,
}

impl Ledger {
    /// An event said what changed.
    pub(crate) fn explain(&mut self, now: Instant, subject: Subject) {
        self.expire(now);
        let known = self.explanations.iter_mut().find(|known| {
            // A post's new tags come with it, before or after.
            known.subject == subject || known.subject.is_tag || subject.is_tag
        });
        match known {
            Some(known) => {
                if known.subject.is_tag {
                    known.subject = subject;
                }
                known.begun = false;
            }
            None => self.explanations.push(Explanation {
                at: now,
                subject,
                hook: false,
                answer: false,
                begun: false,
                front: false,
            }),
        }
    }

    /// Something changed.
    pub(crate) fn signal(&mut self, now: Instant, kind: Kind) {
        self.waiting.push(Signal { at: now, kind, looked: false });
    }

    /// Everything is seen to already.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Since when a signal waits for its event.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting.iter().map(|signal| signal.at).min()
    }

    /// What is to be done now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        self.expire(now);
        let explanations = &mut self.explanations;
        self.waiting.retain(|signal| {
            let free = |known: &&mut Explanation| match signal.kind {
                Kind::Hook => !known.hook,
                Kind::Answer => !known.answer,
                Kind::OtherAnswer => false,
            };
            let Some(known) = explanations.iter_mut().find(free) else { return true };
            match signal.kind {
                Kind::Hook => known.hook = true,
                Kind::Answer => known.answer = true,
                Kind::OtherAnswer => {}
            }
            known.front |= signal.looked;
            if known.begun && signal.kind == Kind::Hook {
                acts.push(Act::Late);
            }
            false
        });
        let ready = |known: &&mut Explanation| !known.begun && (known.hook || now.duration_since(known.at) >= SETTLE);
        let mut begin = None;
        for known in explanations.iter_mut().filter(ready) {
            known.begun = true;
            begin = Some(begin.unwrap_or(true) && known.front);
        }
        acts.extend(begin.map(|front| Act::Begin { front }));
        if self.waiting.iter().any(|signal| now.duration_since(signal.at) >= TOGETHER) {
            // What else waits was said before now.
            self.waiting.clear();
            acts.push(Act::Everything);
        }
        for signal in self.waiting.iter_mut().filter(|signal| now.duration_since(signal.at) >= SOON) {
            if !signal.looked && !acts.contains(&Act::Front) {
                acts.push(Act::Front);
            }
            signal.looked = true;
        }
        acts
    }

    fn expire(&mut self, now: Instant) {
        self.explanations.retain(|known| !known.begun || now.duration_since(known.at) <= TOGETHER);
    }

    /// When there may be something to be done next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let signals = self.waiting.iter().map(|signal| signal.at + if signal.looked { TOGETHER } else { SOON });
        let events = self.explanations.iter().filter(|known| !known.begun).map(|known| known.at + SETTLE);
        signals.chain(events).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn post(id: &str) -> Subject {
        Subject { is_tag: false, id: id.to_owned(), saved: "now".to_owned() }
    }

    fn tag(id: &str) -> Subject {
        Subject { is_tag: true, ..post(id) }
    }

    enum Said {
        Event(Subject),
        Signal(Kind),
    }
    use Said::{Event, Signal};

    /// Plays a script of (milliseconds, message); gives what was done, and when.
    fn play(script: Vec<(u64, Said)>) -> Vec<(u64, Act)> {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        let mut done = Vec::new();
        let mut run = |ledger: &mut Ledger, now: Instant| {
            let at = now.duration_since(start).as_millis().try_into().unwrap();
            done.extend(ledger.due(now).into_iter().map(|act| (at, act)));
        };
        for (at, said) in script {
            let now = start + Duration::from_millis(at);
            while let Some(next) = ledger.next().filter(|next| *next < now) {
                run(&mut ledger, next);
            }
            match said {
                Event(subject) => ledger.explain(now, subject),
                Signal(kind) => ledger.signal(now, kind),
            }
            run(&mut ledger, now);
        }
        while let Some(next) = ledger.next() {
            run(&mut ledger, next);
        }
        done
    }

    const ALONE: Act = Act::Everything;

    #[test]
    fn one_change_is_one_change_in_any_order() {
        let begin = Act::Begin { front: false };
        let signal = || Signal(Kind::Hook);
        assert_eq!(play(vec![(0, signal()), (20, Event(post("a")))]), [(20, begin)]);
        assert_eq!(play(vec![(0, Event(post("a"))), (20, signal())]), [(20, begin)]);
        let all = vec![(0, Signal(Kind::Answer)), (9, signal()), (10, Event(post("a"))), (11, Event(post("a")))];
        assert_eq!(play(all), [(10, begin), (11, begin)]);
        // A post with a new tag.
        let tagged = vec![(0, signal()), (6, Event(tag("t"))), (8, Event(post("a")))];
        assert_eq!(play(tagged), [(6, begin), (8, begin)]);
        assert_eq!(play(vec![(0, Event(post("a")))]), [(300, begin)], "its signal was lost");
        let late = play(vec![(0, Event(post("a"))), (600, signal())]);
        assert_eq!(late, [(300, begin), (600, Act::Late)]);
    }

    #[test]
    fn what_nothing_explains_is_everything() {
        assert_eq!(play(vec![(0, Signal(Kind::Hook))]), [(250, Act::Front), (1000, ALONE)]);
        let same = vec![(0, Signal(Kind::Answer)), (30, Signal(Kind::Hook))];
        assert_eq!(play(same), [(250, Act::Front), (280, Act::Front), (1000, ALONE)]);
        let slow = play(vec![(0, Signal(Kind::Hook)), (500, Event(post("a")))]);
        assert_eq!(slow, [(250, Act::Front), (500, Act::Begin { front: true })]);
    }

    #[test]
    fn an_event_explains_no_second_change() {
        let signal = || Signal(Kind::Hook);
        let two = vec![(0, signal()), (5, Event(post("a"))), (6, signal())];
        assert!(play(two).contains(&(1006, ALONE)));
        let two = vec![(0, signal()), (5, Event(tag("t"))), (6, Event(post("a"))), (7, signal())];
        assert!(play(two).contains(&(1007, ALONE)), "the tag came with the post");
        let two = vec![(0, signal()), (5, Event(post("a"))), (6, signal()), (9, Event(post("b")))];
        assert!(play(two).iter().all(|(_, act)| *act != ALONE), "each has its own");
    }

    #[test]
    fn answers_about_posts_pages_and_tags_have_events() {
        for (asked, kind) in [
            ("/ghost/api/admin/posts/?source=html", Kind::Answer),
            ("/ghost/api/admin/pages/0123/?formats=lexical", Kind::Answer),
            ("/Ghost/api/admin/tags/0123/", Kind::Answer),
            ("/ghost/api/admin/themes/casper/activate/", Kind::OtherAnswer),
            ("/ghost/api/admin/settings/", Kind::OtherAnswer),
            ("/ghost/api/admin/postscript/", Kind::OtherAnswer),
        ] {
            assert_eq!(Kind::of_answer(&Target::parse(asked).unwrap()), kind, "{asked}");
        }
    }

    #[test]
    fn a_theme_that_is_switched_right_after_a_post_is_no_part_of_it() {
        let signal = || Signal(Kind::Hook);
        // The first post's answer named its address only, and its signal came with the second's.
        let posts = vec![(0, Event(post("a"))), (600, Event(post("b"))), (610, signal()), (620, Signal(Kind::Answer))];
        let theme = vec![(700, Signal(Kind::OtherAnswer)), (720, signal())];
        assert!(play(posts.into_iter().chain(theme).collect()).contains(&(1700, ALONE)));
    }

    proptest! {
        /// However events and signals come: more signals than things that changed are never all explained.
        #[test]
        fn a_signal_too_many_is_never_overlooked(
            messages in proptest::collection::vec((0u64..3, 0u64..40), 1..12),
            answers in any::<bool>(),
        ) {
            let kind = if answers { Kind::Answer } else { Kind::Hook };
            let posts = messages.iter().filter(|(what, _)| *what == 0).count();
            let tags = messages.iter().any(|(what, _)| *what == 1);
            let mut at = 0;
            let mut number = 0;
            let mut script = Vec::new();
            for (what, wait) in &messages {
                at += wait;
                number += 1;
                script.push((at, match what {
                    0 => Event(post(&number.to_string())),
                    1 => Event(tag(&number.to_string())),
                    _ => Signal(kind),
                }));
            }
            let signals = messages.len() - posts - messages.iter().filter(|(what, _)| *what == 1).count();
            let done = play(script);
            if signals > posts.max(usize::from(tags)) {
                prop_assert!(done.iter().any(|(_, act)| *act == ALONE), "{done:?}");
            }
            if posts + usize::from(tags) > 0 {
                prop_assert!(done.iter().any(|(_, act)| matches!(act, Act::Begin { .. })), "{done:?}");
            }
        }
    }
}
