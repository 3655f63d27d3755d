//! The people who write on a Ghost: invited and let back in by one-time links, because there is no mail.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::json;

use super::operator::{Operator, OperatorError};
use crate::secret::Secret;

/// What an invited person may do. The owner is made by the set-up and cannot be invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything but what is the owner's.
    Administrator,
    /// Everybody's posts.
    Editor,
    /// Their own posts.
    Author,
    /// Their own drafts.
    Contributor,
}

impl Role {
    /// All of them, the mightiest first.
    pub const ALL: [Self; 4] = [Self::Administrator, Self::Editor, Self::Author, Self::Contributor];

    /// Ghost's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "Administrator",
            Self::Editor => "Editor",
            Self::Author => "Author",
            Self::Contributor => "Contributor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: administrator, editor, author or contributor")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| InvalidRole(text.to_owned()))
    }
}

/// A link that works once, for whoever holds it: hand it over by a channel you trust.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OneTimeLink {
    /// The address. The secret part stands behind `#`, so browsers do not send it and no log keeps it.
    pub link: Secret,
}

/// Somebody on the staff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// How they sign their posts.
    pub name: String,
    /// What they sign in with.
    pub email: String,
    /// Ghost's name of their role, `Owner` among them.
    pub role: String,
    /// `active`, or why they cannot sign in (`locked`, `inactive`).
    pub status: String,
    /// When they last did something, RFC 3339.
    pub last_seen: Option<String>,
}

/// An invitation nobody has taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// For whom.
    pub email: String,
    /// As what.
    pub role: String,
    /// Until when it can be taken, in milliseconds since 1970.
    pub expires: u64,
}

/// Everybody who writes on a site, or was asked to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staff {
    /// In the order they came.
    pub people: Vec<Person>,
    /// In the order they were invited.
    pub pending: Vec<Pending>,
}

#[derive(Deserialize)]
struct Users {
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    name: String,
    email: String,
    status: String,
    last_seen: Option<String>,
    roles: Vec<RoleEntry>,
}

#[derive(Deserialize)]
struct RoleEntry {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Roles {
    roles: Vec<RoleEntry>,
}

#[derive(Deserialize)]
struct Invites {
    invites: Vec<Invite>,
}

#[derive(Deserialize)]
struct Invite {
    email: String,
    role_id: String,
    expires: u64,
}

impl Operator {
    /// Invites `email` as `role`; the link is good for a week. A second invitation voids the first.
    ///
    /// # Errors
    /// [`OperatorError::Refused`] when the address is on the staff already or is none.
    pub async fn invite(&self, email: &str, role: Role) -> Result<OneTimeLink, OperatorError> {
        self.post("the invitation", "/staff/invite", &json!({ "email": email, "role": role.as_str() })).await
    }

    /// A link by which `email` chooses a new password; good for a day, and until the password changes.
    ///
    /// # Errors
    /// [`OperatorError::Refused`] when nobody on the staff has this address, or they are suspended.
    pub async fn reset_password(&self, email: &str) -> Result<OneTimeLink, OperatorError> {
        self.post("the password reset", "/staff/reset", &json!({ "email": email })).await
    }

    /// Everybody on the staff, and the invitations not taken yet.
    ///
    /// # Errors
    /// When Ghost does not answer.
    pub async fn staff(&self) -> Result<Staff, OperatorError> {
        let all = json!({ "limit": "all" });
        let everybody = json!({ "limit": "all", "include": "roles", "order": "created_at asc" });
        let users: Users = self.api("users/browse", None, everybody).await?;
        let invites: Invites = self.api("invites/browse", None, all.clone()).await?;
        let roles: Roles = self.api("roles/browse", None, all).await?;
        let role =
            |id: &str| roles.roles.iter().find(|role| role.id == id).map_or_else(String::new, |r| r.name.clone());
        let person = |user: User| Person {
            role: user.roles.into_iter().next().map(|role| role.name).unwrap_or_default(),
            name: user.name,
            email: user.email,
            status: user.status,
            last_seen: user.last_seen,
        };
        let pending =
            |invite: Invite| Pending { role: role(&invite.role_id), email: invite.email, expires: invite.expires };
        Ok(Staff {
            people: users.users.into_iter().map(person).collect(),
            pending: invites.invites.into_iter().map(pending).collect(),
        })
    }
}
