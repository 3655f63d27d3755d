//! How answers to challenges come to the name servers: a port, since who drives those is another room's business.

use std::future::Future;
use std::net::SocketAddr;

use sovereign_model::DnsName;

/// What goes wrong at the name servers, in their own words.
pub type PublishError = Box<dyn std::error::Error + Send + Sync>;

/// Whoever brings answers to challenges to the name servers.
pub trait Challenges: Send + Sync {
    /// Has every name server answer with `values`, and no others, where an authority looks for its challenge for `name`
    /// ([`crate::ask::owner`]). Returns when all that can be reached do.
    fn publish(&self, name: &DnsName, values: &[String]) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Takes away what was published for `name`. What is not there is no error.
    fn withdraw(&self, name: &DnsName) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// The name servers of the domain that `name` is in, to be asked whether they have it.
    fn servers(&self, name: &DnsName) -> Vec<SocketAddr>;
}
