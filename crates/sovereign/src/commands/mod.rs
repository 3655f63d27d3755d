//! The commands, one file each: take arguments, call the rooms, return a report. Printing is not theirs.

mod access;
mod archive;
mod archive_copy;
mod archive_diff;
mod archive_prune;
mod archive_repair;
mod audit;
mod away;
pub(crate) mod backup;
mod ca;
mod cert;
mod check;
mod completions;
mod daemons;
mod dc;
mod dns;
mod dns_adopt;
mod dns_drift;
mod dns_lan;
mod dns_login;
mod dns_secondary;
mod down;
mod drill;
mod drill_on_host;
mod drill_recover;
mod ds;
mod host;
mod images;
mod images_build;
mod images_lock;
mod images_lock_ghost;
mod import;
mod lab;
mod logs;
mod open;
mod plan;
mod recover;
mod restore;
mod restore_in_place;
mod rotate;
mod rotate_zone;
mod schema;
mod seed;
mod service;
mod site;
mod site_data;
mod site_move;
mod status;
pub(crate) mod tick;
mod top;
pub(crate) mod up;

use crate::cli::{
    ArchiveCommand, CaCommand, CertCommand, Command, DcCommand, DnsCommand, DrillCommand, HostCommand, ImagesCommand,
    LabCommand, SeedCommand, ServiceCommand, SiteCommand, StaffCommand,
};
use crate::context::Context;
use crate::failure::Failure;
use crate::ghost_lock;
use crate::output::Answer;

/// Runs one command.
///
/// # Errors
/// Whatever the command failed with.
pub(crate) fn run(context: &Context, command: Command) -> Result<Answer, Failure> {
    Ok(match command {
        Command::Check => check::run(context)?.into(),
        Command::Schema => schema::run().into(),
        Command::Plan(args) => plan::run(context, &args)?.into(),
        Command::Up(args) => up::run(context, &args)?.into(),
        Command::Down(args) => down::run(context, &args)?.into(),
        Command::Status => status::run(context)?.into(),
        Command::Audit(args) => audit::run(context, &args)?.into(),
        Command::Top => top::run(context)?.into(),
        Command::Logs(args) if args.access && args.follow => access::follow(context, &args)?.into(),
        Command::Logs(args) if args.access => access::run(context, &args)?.into(),
        Command::Logs(args) if args.follow => logs::follow(context, &args)?.into(),
        Command::Logs(args) => logs::run(context, &args)?.into(),
        Command::Open(args) => open::run(context, &args)?.into(),
        Command::Seed(SeedCommand::Show(args)) => seed::show(context, &args)?.into(),
        Command::Seed(SeedCommand::Verify(_)) => seed::verify(context)?.into(),
        Command::Seed(SeedCommand::Restore(args)) => seed::restore(context, &args)?.into(),
        Command::Rotate(args) => rotate::run(context, &args)?.into(),
        Command::Ca(CaCommand::Show) => ca::show(context)?.into(),
        Command::Cert(CertCommand::List) => cert::list(context)?.into(),
        Command::Cert(CertCommand::Renew(args)) => cert::renew(context, &args)?.into(),
        Command::Cert(CertCommand::Import(args)) => cert::import(context, &args)?.into(),
        Command::Dns(DnsCommand::Show(args)) => dns::show(context, &args)?.into(),
        Command::Dns(DnsCommand::Ds(args)) => ds::print(context, &args)?.into(),
        Command::Dns(DnsCommand::Drift(args)) => dns_drift::run(context, &args)?.into(),
        Command::Dns(DnsCommand::Secondary(args)) => dns_secondary::run(context, &args)?.into(),
        Command::Dns(DnsCommand::Lan(args)) => dns_lan::run(context, &args)?.into(),
        Command::Dns(DnsCommand::Login(args)) => dns_login::run(context, &args)?.into(),
        Command::Dns(DnsCommand::Adopt(args)) => dns_adopt::run(context, &args)?.into(),
        Command::Images(ImagesCommand::List) => images::list(context)?.into(),
        Command::Images(ImagesCommand::Lock(args)) if args.role == ghost_lock::NAME => {
            images_lock_ghost::run(context, &args)?.into()
        }
        Command::Images(ImagesCommand::Lock(args)) => images_lock::run(context, &args)?.into(),
        Command::Images(ImagesCommand::Build(args)) => images_build::run(context, &args)?.into(),
        Command::Images(ImagesCommand::Prune) => images::prune(context)?.into(),
        Command::Images(ImagesCommand::Verify) => images::verify(context)?.into(),
        Command::Images(ImagesCommand::Restore) => images::restore(context)?.into(),
        Command::Site(SiteCommand::Credentials(args)) => site::credentials(context, &args)?.into(),
        Command::Site(SiteCommand::Dump(args)) => site_data::dump(context, &args)?.into(),
        Command::Site(SiteCommand::Load(args)) => site_data::load(context, &args)?.into(),
        Command::Site(SiteCommand::Move(args)) => site_move::run(context, &args)?.into(),
        Command::Site(SiteCommand::Staff(StaffCommand::Invite(args))) => site::invite(context, args)?.into(),
        Command::Site(SiteCommand::Staff(StaffCommand::Reset(args))) => site::reset(context, args)?.into(),
        Command::Site(SiteCommand::Staff(StaffCommand::List(args))) => site::list(context, &args)?.into(),
        Command::Dc(DcCommand::List) => dc::list(context)?.into(),
        Command::Dc(DcCommand::Drain(args)) => dc::drain(context, &args)?.into(),
        Command::Dc(DcCommand::Undrain(args)) => dc::undrain(context, &args)?.into(),
        Command::Dc(DcCommand::Maintenance(args)) => dc::maintenance(context, &args)?.into(),
        Command::Dc(DcCommand::Check(args)) => dc::check(context, &args)?.into(),
        Command::Host(HostCommand::Add(args)) => host::add(context, &args)?.into(),
        Command::Host(HostCommand::List) => host::list(context)?.into(),
        Command::Host(HostCommand::Check(args)) => host::check(context, &args)?.into(),
        Command::Host(HostCommand::Evacuate(args)) => host::evacuate(context, &args)?.into(),
        Command::Host(HostCommand::Restore(args)) => host::restore(context, &args)?.into(),
        Command::Host(HostCommand::Upgrade(args)) => host::upgrade(context, &args)?.into(),
        Command::Host(HostCommand::Remove(args)) => host::remove(context, &args)?.into(),
        Command::Backup(args) => backup::run(context, &args)?.into(),
        Command::Archive(ArchiveCommand::List(args)) => archive::list(context, &args)?.into(),
        Command::Archive(ArchiveCommand::Show(args)) => archive::show(context, &args)?.into(),
        Command::Archive(ArchiveCommand::Diff(args)) => archive_diff::run(context, &args)?.into(),
        Command::Archive(ArchiveCommand::Copy(args)) => archive_copy::run(context, &args)?.into(),
        Command::Archive(ArchiveCommand::Check(args)) => match &args.copy {
            Some(copy) => archive_copy::check(context, &args, copy)?.into(),
            None if args.repair => archive_repair::run(context, &args)?.into(),
            None => archive::check(context, &args)?.into(),
        },
        Command::Archive(ArchiveCommand::Prune(args)) => archive_prune::run(context, &args)?.into(),
        Command::Archive(ArchiveCommand::Key(args)) => archive::key(context, &args)?.into(),
        Command::Drill(DrillCommand::Restore(args)) => drill::restore(context, &args)?.into(),
        Command::Drill(DrillCommand::Recover(args)) => drill_recover::run(context, &args)?.into(),
        Command::Recover(args) => recover::run(context, &args)?.into(),
        Command::Restore(args) => restore::run(context, &args)?,
        Command::Import(args) => import::run(context, &args)?.into(),
        Command::Service(ServiceCommand::Install) => service::install(context)?.into(),
        Command::Service(ServiceCommand::Uninstall) => service::uninstall(context)?.into(),
        Command::Lab(LabCommand::Up(args)) => lab::up(context, args)?.into(),
        Command::Lab(LabCommand::Status(args)) => lab::status(context, &args)?.into(),
        Command::Lab(LabCommand::Down(args)) => lab::down(context, &args)?.into(),
        Command::Lab(LabCommand::Cut(args)) => lab::cut(context, &args)?.into(),
        Command::Lab(LabCommand::Slow(args)) => lab::slow(context, &args)?.into(),
        Command::Lab(LabCommand::Kill(args)) => lab::kill(context, &args)?.into(),
        Command::Lab(LabCommand::Close(args)) => lab::close(context, &args)?.into(),
        Command::Lab(LabCommand::Readdress(args)) => lab::readdress(context, &args)?.into(),
        Command::Lab(LabCommand::Heal(args)) => lab::heal(context, &args)?.into(),
        Command::Tick(args) => tick::run(context, &args)?.into(),
        Command::Completions(args) => completions::run(&args).into(),
        Command::Edge(args) => daemons::edge(&args)?.into(),
        Command::Agent(args) => daemons::agent(&args)?.into(),
        Command::NameServer(args) => daemons::name_server(&args)?.into(),
        Command::Renewer(args) => daemons::renewer(&args)?.into(),
        Command::Supervise(args) => daemons::supervise(context, &args)?.into(),
        Command::ArchiveSource(args) => archive::source(&args)?.into(),
        Command::Shim => daemons::shim()?.into(),
    })
}
