//! `sovereign site dump` and `sovereign site load`.

use std::collections::BTreeMap;
use std::io::Seek as _;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use serde::Serialize;
use sovereign_engine::incus::Reach;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, DataCommands, Site};
use sovereign_model::{DatacenterName, EdgeName, SiteName, Stack};
use sovereign_runtime::control::{Request, request_async};

use super::site;
use crate::cli::{DumpArgs, LoadArgs};
use crate::context::Context;
use crate::data::{self, Checked, Child, DataError, NewFile, Sink, folder_of};
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::output::{Page, Report, figures};

/// How far a load has come is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// An edge answers from memory.
const EDGE_PATIENCE: Duration = Duration::from_secs(3);

/// The site's data is not for a program of the operator's.
#[derive(Debug, thiserror::Error)]
enum NoData {
    #[error("site {name} is Ghost: no program of yours writes its data")]
    Ghost { name: SiteName, folder: PathBuf },
    #[error("site {name} is Ghost: no program of yours writes its data")]
    GhostOnHost { name: SiteName, host: EdgeName },
    #[error("site {name} is a folder of files: those are its data")]
    Folder { name: SiteName, folder: PathBuf },
    #[error("the stack file has no `{key}` for site {name}")]
    NoCommand { name: SiteName, key: &'static str },
    #[error("with `--to -` standard output is the data, and has no room for a JSON object")]
    TwoAnswers,
}

impl Reason for NoData {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Ghost { folder, .. } => {
                format!(
                    "it lies in {}; `sovereign backup` and `sovereign restore` take it out and in",
                    folder.display()
                )
            }
            Self::GhostOnHost { host, .. } => format!("it lies in volumes of the Incus of {host}"),
            Self::Folder { folder, .. } => format!("copy {}", folder.display()),
            Self::NoCommand { key, .. } => {
                format!("add `{key} = [\"program\", \"argument\"]` to the site; docs/services.md has examples")
            }
            Self::TwoAnswers => "leave out one of both".to_owned(),
        })
    }
}

fn commands<'s>(
    stack: &'s Stack,
    state: &StateFolder,
    name: &SiteName,
) -> Result<(&'s Site, &'s DataCommands), Failure> {
    let site = site::find(stack, Some(name))?;
    let name = name.clone();
    match &site.app {
        App::Upstream { data, .. } => Ok((site, data)),
        App::Ghost if site.host(stack).is_some() => Err(NoData::GhostOnHost { name, host: site.place(stack) }.into()),
        App::Ghost => Err(NoData::Ghost { folder: state.site(&site.primary, &name).path().to_owned(), name }.into()),
        App::Static { folder } => Err(NoData::Folder { folder: folder.clone(), name }.into()),
    }
}

/// What was written.
#[derive(Debug, Serialize)]
pub(crate) struct Dumped {
    site: SiteName,
    datacenter: DatacenterName,
    /// `None` for standard output.
    file: Option<PathBuf>,
    bytes: u64,
    sha256: String,
    seconds: f64,
}

impl Report for Dumped {
    fn show(&self, page: &mut Page) {
        // Where standard output is the data, the conversation has said it.
        if let Some(file) = &self.file {
            page.line(format_args!("{}  {}", file.display(), figures::bytes(self.bytes)));
            page.line(format_args!("sha256 {}", self.sha256));
        }
    }
}

/// `site dump`.
pub(crate) fn dump(context: &Context, args: &DumpArgs) -> Result<Dumped, Failure> {
    let declared = Declared::load(context)?;
    let (site, commands) = commands(&declared.stack, &declared.state, &args.site)?;
    if commands.dump.is_empty() {
        return Err(NoData::NoCommand { name: site.name.clone(), key: "dump" }.into());
    }
    let place = args.to.clone().unwrap_or_else(|| format!("{}.dump", site.name).into());
    let to_stdout = place.as_os_str() == "-";
    if to_stdout && context.output.is_json() {
        return Err(NoData::TwoAnswers.into());
    }
    let mut sink = if to_stdout { Sink::Stdout(context.output.clone()) } else { Sink::File(NewFile::begin(&place)?) };
    let progress = context.output.progress();
    let stage = progress.stage(format!("dump {}", site.name));
    stage.expect_bytes(0);
    let (bytes, digest) = interrupt::run(&context.output, |stop| async move {
        let reach = |bytes| stage.reach(bytes);
        let (bytes, digest) = data::dump(context, &declared.file, commands, &mut sink, reach, &stop).await?;
        if let Sink::File(file) = sink {
            file.keep(digest)?;
        }
        stage.finish();
        Ok((bytes, digest))
    })?;
    Ok(Dumped {
        site: site.name.clone(),
        datacenter: site.primary.clone(),
        file: (!to_stdout).then_some(place),
        bytes,
        sha256: digest.hex(),
        seconds: seconds(&progress),
    })
}

/// What was read in.
#[derive(Debug, Serialize)]
pub(crate) struct Loaded {
    site: SiteName,
    datacenter: DatacenterName,
    file: PathBuf,
    bytes: u64,
    sha256: String,
    seconds: f64,
    /// Where the edge fetches every page anew.
    told: Vec<EdgeName>,
    /// Where it could not be told, and why: copies there grow old as they would have.
    untold: BTreeMap<EdgeName, String>,
}

impl Report for Loaded {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("site {} has the data of {}", self.site, self.file.display()));
        if !self.told.is_empty() {
            let told: Vec<_> = self.told.iter().map(ToString::to_string).collect();
            page.line(format_args!("pages are fetched anew at {}", told.join(", ")));
        }
        for (edge, why) in &self.untold {
            page.line(format_args!("the edge at {edge} was not told: {why}"));
        }
    }
}

/// `site load`.
pub(crate) fn load(context: &Context, args: &LoadArgs) -> Result<Loaded, Failure> {
    let declared = &Declared::load(context)?;
    let (site, data) = commands(&declared.stack, &declared.state, &args.site)?;
    if data.load.is_empty() {
        return Err(NoData::NoCommand { name: site.name.clone(), key: "load" }.into());
    }
    let progress = context.output.progress();
    let checking = progress.stage(format!("check {}", args.from.display()));
    let Checked { file, length, digest } = Checked::open(&args.from, |read, of| {
        checking.expect_bytes(of);
        checking.reach(read);
    })?;
    checking.finish();
    let (path, size) = (args.from.display(), figures::bytes(length));
    let question = format!("Replace all data of site {} by what is in {path} ({size})?", site.name);
    context.output.confirm(&question, args.yes)?;
    let stage = progress.stage(format!("load {}", site.name));
    stage.expect_bytes(length);
    let reach = hosts::reach(declared)?;
    let (told, untold) = interrupt::run(&context.output, |cancel| async move {
        let lost = |source| DataError::File { action: "read", path: args.from.clone(), source };
        // Both share one position: how far the program has read.
        let mut shared = file.try_clone().map_err(lost)?;
        let folder = folder_of(&declared.file);
        let mut child = Child::reading(&data.load, folder, &context.environment, file, &context.output)?;
        let program = child.program().to_owned();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let stopped = {
            let mut end = pin!(child.end());
            loop {
                tokio::select! {
                    () = cancel.cancelled() => break true,
                    ended = &mut end => {
                        ended?;
                        break false;
                    }
                    _ = look.tick() => stage.reach(shared.stream_position().map_err(lost)?),
                }
            }
        };
        if stopped {
            return Err(child.stop().await.into());
        }
        let read = shared.stream_position().map_err(lost)?;
        if read < length {
            return Err(DataError::Unread { program, read, of: length }.into());
        }
        stage.reach(read);
        stage.finish();
        Ok(tell(declared, &reach, site).await)
    })?;
    Ok(Loaded {
        site: site.name.clone(),
        datacenter: site.primary.clone(),
        file: args.from.clone(),
        bytes: length,
        sha256: digest.hex(),
        seconds: seconds(&progress),
        told,
        untold,
    })
}

/// Tells the edges, the primary's first: the others ask it.
async fn tell(declared: &Declared, reach: &Reach, site: &Site) -> (Vec<EdgeName>, BTreeMap<EdgeName, String>) {
    let (mut told, mut untold) = (Vec::new(), BTreeMap::new());
    let datacenters = site.datacenters();
    for edge in datacenters.flat_map(|name| declared.stack.datacenters[name].edges()) {
        match tell_one(declared, reach, &edge, site).await {
            Ok(()) => told.push(edge),
            Err(why) => drop(untold.insert(edge, why)),
        }
    }
    (told, untold)
}

async fn tell_one(declared: &Declared, reach: &Reach, edge: &EdgeName, site: &Site) -> Result<(), String> {
    let request = Request::new("fill").with("site", site.name.as_str()).with("replaced", true);
    let socket = hosts::control(&declared.state, reach, edge).await;
    let socket = socket.map_err(|error| Failure::from(error).chain().join(": "))?;
    match request_async(&socket, &request, EDGE_PATIENCE).await {
        Ok(_) => Ok(()),
        Err(error) if error.nobody_listens() => Err("it does not run".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(progress: &crate::output::Progress) -> f64 {
    let time: Duration = progress.times().iter().map(|stage| stage.time).sum();
    time.as_millis() as f64 / 1000.0
}
