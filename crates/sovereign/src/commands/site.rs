//! `sovereign site`.

use serde::Serialize;
use sovereign_engine::record;
use sovereign_model::stack::{App, Site};
use sovereign_model::{SiteName, Stack};
use sovereign_services::ghost::{Operator, OperatorError, Role, owner_email};

use crate::cli::{InviteArgs, ResetArgs, SiteArgs, StaffRole};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::output::{Cell, Page, Report, Table};
use crate::secrets;

/// A site that was named on the command line and does not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SiteError {
    /// Nothing of that name is declared.
    #[error("the stack file declares no site {name}")]
    Unknown {
        /// The name.
        name: SiteName,
        /// What is declared.
        declared: Vec<String>,
    },
    /// It has nobody who logs in.
    #[error("site {name} is a folder of files: nobody logs in there")]
    NoStaff {
        /// The name.
        name: SiteName,
    },
    /// Several sites, and none was named.
    #[error("which site? {} are declared", declared.join(", "))]
    Several {
        /// What is declared.
        declared: Vec<String>,
    },
    /// No site at all.
    #[error("the stack file declares no site")]
    None,
}

impl Reason for SiteError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { declared, .. } if !declared.is_empty() => {
                Some(format!("it declares {}", declared.join(", ")))
            }
            Self::Unknown { .. } | Self::None => {
                Some("add a [[site]] to the stack file; see docs/stack-file.md".to_owned())
            }
            Self::NoStaff { .. } => None,
            Self::Several { .. } => Some("name one".to_owned()),
        }
    }
}

/// The named site; the only one when none was named.
pub(crate) fn find<'s>(stack: &'s Stack, name: Option<&SiteName>) -> Result<&'s Site, SiteError> {
    let declared = || stack.sites.keys().map(ToString::to_string).collect();
    match name {
        Some(name) => {
            stack.sites.get(name).ok_or_else(|| SiteError::Unknown { name: name.clone(), declared: declared() })
        }
        None if stack.sites.len() > 1 => Err(SiteError::Several { declared: declared() }),
        None => stack.sites.values().next().ok_or(SiteError::None),
    }
}

fn with_staff<'s>(stack: &'s Stack, name: &SiteName) -> Result<&'s Site, SiteError> {
    let site = find(stack, Some(name))?;
    if site.app == App::Ghost { Ok(site) } else { Err(SiteError::NoStaff { name: name.clone() }) }
}

/// Where and how the owner logs in.
#[derive(Serialize)]
pub(crate) struct Credentials {
    site: SiteName,
    admin: String,
    email: String,
    password: String,
    /// What readers of a private site have to know.
    reader_password: Option<String>,
}

impl Report for Credentials {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("admin     {}", self.admin));
        page.line(format_args!("login     {}", self.email));
        page.line(format_args!("password  {}", self.password));
        if let Some(password) = &self.reader_password {
            page.line(format_args!("readers   {password}"));
        }
        page.line("The password is the first one: it is no longer right once the owner has chosen another.");
    }
}

/// `site credentials`.
pub(crate) fn credentials(context: &Context, args: &SiteArgs) -> Result<Credentials, Failure> {
    let declared = Declared::load(context)?;
    let site = with_staff(&declared.stack, &args.site)?;
    let password = secrets::open(context, &declared.stack, &declared.state)?.owner_password(&site.name)?;
    let place = site.place(&declared.stack);
    let reader_password = record::reader_password(&declared.state, &place, &site.name)?;
    let email = record::owner_email(&declared.state, &place, &site.name)?;
    Ok(Credentials {
        site: site.name.clone(),
        admin: format!("{}/ghost/", site.canonical),
        email: email.unwrap_or_else(|| owner_email(&site.canonical)),
        password: password.expose().to_owned(),
        reader_password: reader_password.map(|password| password.expose().to_owned()),
    })
}

/// A link that works once.
#[derive(Serialize)]
pub(crate) struct Link {
    site: SiteName,
    address: String,
    link: String,
    #[serde(skip)]
    sentence: &'static str,
}

impl Report for Link {
    fn show(&self, page: &mut Page) {
        page.line(&self.link);
        page.line(format_args!("Hand it to {} yourself: {}.", self.address, self.sentence));
    }
}

/// `site staff invite`.
pub(crate) fn invite(context: &Context, args: InviteArgs) -> Result<Link, Failure> {
    let role = match args.role {
        StaffRole::Contributor => Role::Contributor,
        StaffRole::Author => Role::Author,
        StaffRole::Editor => Role::Editor,
        StaffRole::Administrator => Role::Administrator,
    };
    let made = at_door(context, &args.site, async |operator| operator.invite(&args.address, role).await)?;
    let link = made.link.expose().to_owned();
    Ok(Link { site: args.site, address: args.address, link, sentence: "it makes their account, once" })
}

/// `site staff reset`.
pub(crate) fn reset(context: &Context, args: ResetArgs) -> Result<Link, Failure> {
    let made = at_door(context, &args.site, async |operator| operator.reset_password(&args.address).await)?;
    let link = made.link.expose().to_owned();
    Ok(Link { site: args.site, address: args.address, link, sentence: "it sets a new password, once" })
}

/// Who may write.
#[derive(Debug, Serialize)]
pub(crate) struct Staff {
    site: SiteName,
    people: Vec<Person>,
    invited: Vec<Invited>,
}

#[derive(Debug, Serialize)]
struct Person {
    name: String,
    address: String,
    role: String,
    status: String,
    last_seen: Option<String>,
}

#[derive(Debug, Serialize)]
struct Invited {
    address: String,
    role: String,
}

impl Report for Staff {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["ADDRESS", "NAME", "ROLE", "STATUS", "LAST SEEN"]);
        for person in &self.people {
            table.row([
                Cell::from(&person.address),
                person.name.as_str().into(),
                person.role.as_str().into(),
                person.status.as_str().into(),
                person.last_seen.as_deref().unwrap_or("never").into(),
            ]);
        }
        for invited in &self.invited {
            let cells = [&invited.address, "", &invited.role, "invited", "never"].map(Cell::from);
            table.row(cells);
        }
        page.table(&table);
    }
}

/// `site staff list`.
pub(crate) fn list(context: &Context, args: &SiteArgs) -> Result<Staff, Failure> {
    let staff = at_door(context, &args.site, async |operator| operator.staff().await)?;
    let person = |person: sovereign_services::ghost::Person| Person {
        name: person.name,
        address: person.email,
        role: person.role,
        status: person.status,
        last_seen: person.last_seen,
    };
    let invited = |pending: sovereign_services::ghost::Pending| Invited { address: pending.email, role: pending.role };
    Ok(Staff {
        site: args.site.clone(),
        people: staff.people.into_iter().map(person).collect(),
        invited: staff.pending.into_iter().map(invited).collect(),
    })
}

/// Does something at the operator's door of a Ghost, here or on a host.
fn at_door<T>(
    context: &Context,
    name: &SiteName,
    act: impl AsyncFnOnce(&Operator) -> Result<T, OperatorError>,
) -> Result<T, Failure> {
    let declared = Declared::load(context)?;
    let site = with_staff(&declared.stack, name)?;
    let reach = hosts::reach(&declared)?;
    interrupt::run(&context.output, |_| async {
        let operator = match site.host(&declared.stack) {
            None => Operator::of(declared.state.site(&site.primary, &site.name).path()),
            Some(_) => reach.operator(&declared.stack, site).await?,
        };
        Ok(act(&operator).await?)
    })
}
