//! Who units of a host's own run as: each daemon has a user of its own, who reads nothing of the others'.

use std::path::Path;

use sovereign_model::layout::on_host;

/// Who a unit runs as, and what is hidden from it but for what its description names.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// The user and the group of this name: none that can log in.
    pub user: &'a str,
    /// The folder with everything of all stacks on the host.
    pub state: &'a Path,
    /// The group of another daemon, whose shared control socket it asks.
    pub asks: Option<&'a str>,
}

impl Account<'static> {
    /// Of edges.
    pub fn edge() -> Self {
        Self::of(on_host::USER)
    }

    /// Of agents.
    pub fn agent() -> Self {
        Self::of(on_host::AGENT_USER)
    }

    /// Of name servers, which ask the agent beside them, if there is one.
    pub fn name_server(has_agent: bool) -> Self {
        Self { asks: has_agent.then_some(on_host::AGENT_USER), ..Self::of(on_host::NAME_SERVER_USER) }
    }

    /// Of renewers: what they may ask is in folders of their own group.
    pub fn renewer() -> Self {
        Self::of(on_host::RENEWER_USER)
    }

    fn of(user: &'static str) -> Self {
        Self { user, state: Path::new(on_host::STATE), asks: None }
    }
}
