//! Certificates of public authorities, by ACME (RFC 8555), proven by DNS.
//!
//! ```text
//!  stack file ─▶ wanted ─▶ choice (renewal) ─▶ renewer ─┬─ session ── HTTPS ──▶ authority
//!                              ▲                        ├─ challenges ────────▶ name servers
//!                              │                        ├─ ask ── DNS ────────▶ name servers
//!                            state ◀──── store ◀────────┴─ check: fits key, name, time, roots
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`wanted`] | pure: which names authorities are asked for, and which not |
//! | [`renewal`] | pure: when a certificate is to be renewed |
//! | [`choice`] | pure: what to do next for a name, and with which authority |
//! | [`turn`] | pure: whose turn it is, where several could renew |
//! | [`state`] | what is known of each name and each authority |
//! | [`store`] | all of that in a folder, with certificates and keys |
//! | [`check`] | whether what was issued is what was asked for |
//! | [`x509`] | what has to be known of a certificate, read off it |
//! | [`challenges`] | the port to whoever brings answers to name servers |
//! | [`ask`] | whether name servers have them |
//! | [`session`] | the conversation with an authority |
//! | [`renewer`] | one pass over all names |
//! | `import` | takes in what somebody else has got |
//! | [`standing`] | how certificates stand, as far as is known |
//! | [`daemon`] | a renewer on a host, that does all this by itself |
//! | [`pass`] | what it is given, and what it came to |
//!
//! Promise: a certificate is stored only when it fits, and what is served stays until another one is stored. What fails for
//! one name stops no other, no authority is asked more often than it likes, whoever is killed; and of several authorities the
//! next is asked when one fails. No mail address is given to anyone.
//!
//! Left out: bringing certificates to edges that are elsewhere, removing those of names that are wanted no more, wildcards, external
//! accounts, CAA records bound to an account (RFC 8657).

pub mod ask;
pub mod challenges;
pub mod check;
pub mod choice;
pub mod daemon;
mod failure;
mod http;
mod import;
pub mod moment;
pub mod pass;
pub mod renewal;
pub mod renewer;
pub mod session;
pub mod standing;
pub mod state;
pub mod store;
pub mod turn;
pub mod wanted;
pub mod x509;

pub use failure::{Failure, Said};
pub use http::HttpError;
pub use import::ImportError;
pub use instant_acme::RevocationReason;
pub use moment::Moment;
pub use pass::{Options, Outcome, Pass};
pub use renewer::Renewer;
pub use session::Access;
pub use store::Store;
