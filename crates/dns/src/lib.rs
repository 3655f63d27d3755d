//! Which data centers are to be counted on: how each is seen from the others, and the agent that looks.
//!
//! ```text
//!  agent at home ──HTTPS, as a reader──▶ each uplink of office, rack, …   judged from outside
//!        │
//!        └──HTTPS, within the place────▶ the edges of home                judged by its insides
//!
//!  name server at home ──control socket──▶ agent at home      ──files──▶ Knot ◀── questions of resolvers
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`health`] | pure: from answers and silences to alive and dead; which are counted on |
//! | [`probe`] | one look: a real request, its certificate checked |
//! | [`trial`] | one attempt in each way in which readers and resolvers knock, and what was heard |
//! | [`zone`] | pure: what a domain is to have in DNS, from the stack file and from who is counted on |
//! | [`geography`] | pure: which data center is nearest to whoever asks |
//! | [`knot`] | the name server: what it is configured with (pure), and how it is driven |
//! | [`ask`] | asks name servers, from the root downwards |
//! | [`drift`] | what the world is told of a domain, beside what is wanted |
//! | [`rollover`] | pure: how the key of a zone is exchanged; what is to be seen before each step |
//! | [`adopt`] | what a domain publishes before it is taken over, and what of it would vanish |
//! | `learned` | pure: where uplinks are whose address changes |
//! | [`agent`] | the daemon: looks at all of them, and tells on its control socket how it sees them |
//! | [`away`] | pure: from what an agent tells to who is away, and whether to fall silent |
//! | [`provider`] | what providers of DNS are told of a domain, and when by an agent |
//! | [`challenge`] | pure: what certificate authorities ask to see, for how long |
//! | [`name_server`] | the daemon: asks the agent, and drives Knot |
//! | [`router`] | pure: what a home's router is told, so that names lead to hosts on its own network |
//!
//! Promise: nobody judges a public address from behind it, since homes lead nobody back in; what flaps is not believed
//! for a while; when everything looks dead, everything is counted on. With the intervals that are shipped
//! ([`health::Rules::default`]) a data center that is killed is judged dead within ten seconds.
//!
//! Left out: undoing a change of the network that nobody confirmed, which
//! is systemd's.

pub mod adopt;
pub mod agent;
pub mod ask;
pub mod away;
pub mod challenge;
pub mod drift;
pub mod geography;
pub mod health;
pub mod knot;
mod learned;
pub mod name_server;
pub mod probe;
pub mod provider;
pub mod rollover;
pub mod router;
pub mod trial;
mod view;
pub mod zone;

pub use agent::{AgentError, Options, run};
pub use name_server::NameServerError;
pub use sovereign_runtime::loaded::LoadError;
