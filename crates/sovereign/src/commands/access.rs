//! `sovereign logs --access`: the access logs of the edges, for people, or line by line as they are.

mod on_hosts;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use sovereign_model::access_entry::{AccessEntry, Cut, KEPT, rotated};
use sovereign_model::edge_rules::AccessLog;
use sovereign_model::{DatacenterName, EdgeName, SiteName};

use super::away::Silent;
use crate::cli::LogsArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::output::{Page, Report, figures, printable};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The last requests, oldest first.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Requests {
    requests: Vec<Request>,
    /// What could not be read on hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<Silent>,
    /// How wide the names of edges are.
    #[serde(skip)]
    width: usize,
}

/// An entry, as the edge has written it.
#[derive(Debug, Serialize)]
struct Request {
    datacenter: EdgeName,
    #[serde(flatten)]
    raw: Map<String, Value>,
    #[serde(skip)]
    entry: AccessEntry,
}

impl Report for Requests {
    fn show(&self, page: &mut Page) {
        for request in &self.requests {
            page.line(request.line(self.width));
        }
        for silent in &self.silent {
            silent.show(page);
        }
    }

    fn exit(&self) -> Exit {
        if self.silent.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

impl Request {
    /// An entry of `site`, or of any; `None` for another's, and for a line that is none.
    fn read(datacenter: &EdgeName, line: &[u8], site: Option<&SiteName>) -> Option<Self> {
        let raw: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let entry: AccessEntry = serde_json::from_value(Value::Object(raw.clone())).ok()?;
        let wanted = site.is_none_or(|site| entry.site.as_ref() == Some(site));
        wanted.then(|| Self { datacenter: datacenter.clone(), raw, entry })
    }

    /// Those of `site`, or of any, among whole lines.
    fn all(datacenter: &EdgeName, text: &[u8], site: Option<&SiteName>) -> Vec<Self> {
        text.split(|byte| *byte == b'\n').filter_map(|line| Self::read(datacenter, line, site)).collect()
    }

    /// Edges write visible ASCII only, but a file is a file.
    fn line(&self, width: usize) -> String {
        let AccessEntry { time, host, method, target, status, bytes, duration_ms, from, cut, reader, .. } = &self.entry;
        let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let bytes = figures::bytes(*bytes);
        let cut = match cut {
            Some(Cut::Reader) => "  (the reader left)",
            Some(Cut::Edge) => "  (broke off)",
            None => "",
        };
        let line = format!(
            "{time}  {:<width$}  {status:>3}  {:<11}  {duration_ms:>8.1} ms  {bytes:>8}  {reader:<18}  {method} {host}{target}{cut}",
            self.datacenter,
            from.as_str()
        );
        printable(&line)
    }
}

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
enum AccessError {
    #[error("no access log is written")]
    Off,
    #[error("there is no site {name} in the stack file")]
    NoSite { name: String, sites: Vec<String> },
    #[error("there is no data center {name} in the stack file")]
    NoDatacenter { name: DatacenterName, datacenters: Vec<String> },
    #[error("cannot read the access log of {datacenter}")]
    Unreadable { datacenter: EdgeName, source: io::Error },
}

impl Reason for AccessError {
    fn exit(&self) -> Exit {
        match self {
            Self::Off | Self::NoSite { .. } | Self::NoDatacenter { .. } => Exit::Usage,
            Self::Unreadable { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Off => {
                Some("say access-log = \"truncated\" below [edge] in the stack file, then `sovereign up`".into())
            }
            Self::NoSite { sites, .. } => Some(format!("its sites are {}", sites.join(", "))),
            Self::NoDatacenter { datacenters, .. } => Some(format!("its data centers are {}", datacenters.join(", "))),
            Self::Unreadable { .. } => None,
        }
    }
}

/// `logs --access`, without `--follow`.
pub(crate) fn run(context: &Context, args: &LogsArgs) -> Result<Requests, Failure> {
    let Wanted { declared, site, here, there, width } = wanted(context, args)?;
    let here = here.into_iter().map(|mut log| log.tail(args.lines, site.as_ref()));
    let mut requests = here.collect::<Result<Vec<_>, _>>()?;
    let mut silent = Vec::new();
    if !there.is_empty() {
        let reach = hosts::reach(&declared)?;
        let read = interrupt::run(&context.output, |_| async {
            Ok(on_hosts::read(&there, &reach, &declared.stack, args.lines, site.as_ref()).await)
        })?;
        for outcome in read {
            match outcome {
                Ok(read) => requests.push(read),
                Err(without) => silent.push(without),
            }
        }
    }
    Ok(Requests { requests: last(args.lines, requests), silent, width })
}

/// The last of what several edges have answered, in the order of time.
fn last(lines: usize, requests: Vec<Vec<Request>>) -> Vec<Request> {
    let mut requests: Vec<_> = requests.into_iter().flatten().collect();
    requests.sort_by(|a, b| a.entry.time.cmp(&b.entry.time));
    requests.drain(..requests.len().saturating_sub(lines));
    requests
}

/// `logs --access --follow`: writes requests as they come, until Ctrl-C; with `--json` an object per line.
pub(crate) fn follow(context: &Context, args: &LogsArgs) -> Result<Requests, Failure> {
    let Wanted { declared, site, here, there, width } = wanted(context, args)?;
    let show = |requests: &[Request]| stream(context, requests, width);
    interrupt::run(&context.output, |cancel| async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            ended = follow_here(here, args.lines, site.as_ref(), &show) => ended?,
            () = on_hosts::follow(&there, &declared, args.lines, site.as_ref(), context, &show) => {}
        }
        Ok(Requests::default())
    })
}

/// Goes on until nobody reads any longer.
async fn follow_here(
    mut logs: Vec<Log>,
    lines: usize,
    site: Option<&SiteName>,
    show: &impl Fn(&[Request]) -> io::Result<()>,
) -> Result<(), AccessError> {
    let tails = logs.iter_mut().map(|log| log.tail(lines, site));
    let mut requests = last(lines, tails.collect::<Result<_, _>>()?);
    while show(&requests).is_ok() {
        tokio::time::sleep(LOOK).await;
        let new = logs.iter_mut().map(|log| log.read_new(site));
        requests = last(usize::MAX, new.collect::<Result<_, _>>()?);
    }
    Ok(())
}

/// Writes requests, for people or for programs.
fn stream(context: &Context, requests: &[Request], width: usize) -> io::Result<()> {
    for request in requests {
        let line = if context.output.is_json() {
            serde_json::to_string(request).unwrap_or_default()
        } else {
            request.line(width)
        };
        context.output.stream(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// Whose requests are asked for, and the logs they are in.
struct Wanted {
    declared: Declared,
    site: Option<SiteName>,
    here: Vec<Log>,
    /// The edges on hosts.
    there: Vec<EdgeName>,
    width: usize,
}

/// The names of most data centers are no longer.
const USUAL_WIDTH: usize = 8;

fn wanted(context: &Context, args: &LogsArgs) -> Result<Wanted, Failure> {
    let declared = Declared::load(context)?;
    let Declared { stack, state, .. } = &declared;
    if stack.edge.access_log == AccessLog::Off {
        return Err(AccessError::Off.into());
    }
    let site = args.what.as_ref().map(|name| {
        let found = stack.sites.keys().find(|site| site.as_str() == name).cloned();
        let sites = || stack.sites.keys().map(ToString::to_string).collect();
        found.ok_or_else(|| AccessError::NoSite { name: name.clone(), sites: sites() })
    });
    let site = site.transpose()?;
    if let Some(name) = args.at.as_ref().filter(|name| !stack.datacenters.contains_key(*name)) {
        let datacenters = stack.datacenters.keys().map(ToString::to_string).collect();
        return Err(AccessError::NoDatacenter { name: name.clone(), datacenters }.into());
    }
    let datacenters = stack.datacenters.iter().filter(|(name, _)| args.at.as_ref().is_none_or(|at| at == *name));
    let edges = datacenters.flat_map(|(_, datacenter)| datacenter.edges());
    let (there, here): (Vec<EdgeName>, Vec<EdgeName>) = edges.partition(|edge| edge.host.is_some());
    let width = here.iter().chain(&there).map(|edge| edge.to_string().len()).chain([USUAL_WIDTH]).max();
    let width = width.unwrap_or(USUAL_WIDTH);
    let log = |edge: EdgeName| Log::at(state.edge(&edge.datacenter).access_log(), edge);
    let here = here.into_iter().map(log).collect();
    Ok(Wanted { site, here, there, width, declared })
}

/// An edge's log, being read. The edge writes on meanwhile, and rotates it.
struct Log {
    datacenter: EdgeName,
    path: PathBuf,
    file: Option<File>,
    /// Up to where whole lines have been read.
    at: u64,
}

impl Log {
    fn at(path: PathBuf, datacenter: EdgeName) -> Self {
        Self { datacenter, path, file: None, at: 0 }
    }

    /// The last `lines` requests. What is asked for next begins after them.
    fn tail(&mut self, lines: usize, site: Option<&SiteName>) -> Result<Vec<Request>, AccessError> {
        self.try_tail(lines, site).map_err(|source| self.unreadable(source))
    }

    /// What was added since.
    fn read_new(&mut self, site: Option<&SiteName>) -> Result<Vec<Request>, AccessError> {
        let new = self.try_read_new().map_err(|source| self.unreadable(source))?;
        Ok(Request::all(&self.datacenter, &new, site))
    }

    fn unreadable(&self, source: io::Error) -> AccessError {
        AccessError::Unreadable { datacenter: self.datacenter.clone(), source }
    }

    fn try_tail(&mut self, lines: usize, site: Option<&SiteName>) -> io::Result<Vec<Request>> {
        let mut found = VecDeque::new();
        let newest = self.try_read_new()?;
        let open = self.file.as_ref().map(File::metadata).transpose()?.map(|file| file.ino());
        for times in 0..=KEPT {
            let text = if times == 0 { &newest } else { &self.read_older(times, open)? };
            for line in text.split(|byte| *byte == b'\n').rev() {
                if found.len() == lines {
                    return Ok(found.into());
                }
                if let Some(request) = Request::read(&self.datacenter, line, site) {
                    found.push_front(request);
                }
            }
        }
        Ok(found.into())
    }

    /// A file that was rotated away so many times, unless it is the one that is `open`: it may have been rotated since.
    fn read_older(&self, times: u32, open: Option<u64>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        if let Some(mut older) = existing(File::open(rotated(&self.path, times)))?
            && Some(older.metadata()?.ino()) != open
        {
            older.read_to_end(&mut text)?;
        }
        Ok(text)
    }

    /// Whole lines that were added.
    fn try_read_new(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = existing(File::open(&self.path))?;
            self.at = 0;
        }
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        if file.metadata()?.len() < self.at {
            // Somebody has emptied it.
            self.at = 0;
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        new.truncate(whole);
        self.at += whole as u64;
        let open = file.metadata()?.ino();
        if new.is_empty() && existing(std::fs::metadata(&self.path))?.is_none_or(|named| named.ino() != open) {
            // Rotated away and read to its end; its successor is read from its beginning.
            self.file = None;
        }
        Ok(new)
    }
}

/// `None` for what is not there.
fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    fn line(site: &str, number: u32) -> String {
        let entry = json!({
            "time": format!("2026-11-25T10:00:{number:02}.000Z"), "site": site, "host": "blog.localhost:8443",
            "method": "GET", "target": format!("/{number}/"), "version": "HTTP/2", "status": 200, "bytes": 1234,
            "duration-ms": 0.25, "from": "hit", "reader": "203.0.113.0/24", "of-a-newer-edge": true,
        });
        format!("{entry}\n")
    }

    fn log(folder: &tempfile::TempDir) -> Log {
        Log::at(folder.path().join("access.jsonl"), "home".parse().unwrap())
    }

    fn targets(requests: Result<Vec<Request>, AccessError>) -> Vec<String> {
        requests.unwrap().into_iter().map(|request| request.entry.target).collect()
    }

    fn add(log: &Log, text: &str) {
        fs::OpenOptions::new().append(true).create(true).open(&log.path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_last_requests_of_a_site_are_found_in_older_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(&folder);
        assert!(targets(log.tail(5, None)).is_empty(), "none yet");
        fs::write(rotated(&log.path, KEPT), line("blog", 1) + &line("blog", 2)).unwrap();
        fs::write(rotated(&log.path, 1), line("shop", 3) + "{\"torn\": \n" + &line("blog", 4)).unwrap();
        fs::write(&log.path, line("shop", 5)).unwrap();
        let blog = "blog".parse().unwrap();
        assert_eq!(targets(log.tail(2, Some(&blog))), ["/2/", "/4/"]);
        assert_eq!(
            targets(super::Log::at(log.path, log.datacenter).tail(9, None)),
            ["/1/", "/2/", "/3/", "/4/", "/5/"]
        );
    }

    #[test]
    fn a_log_is_followed_across_a_rotation_and_half_a_line_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(&folder);
        add(&log, &line("blog", 1));
        assert_eq!(targets(log.tail(9, None)), ["/1/"]);
        let next = line("blog", 2);
        add(&log, &next[..20]);
        assert!(targets(log.read_new(None)).is_empty());
        add(&log, &next[20..]);
        fs::rename(&log.path, rotated(&log.path, 1)).unwrap();
        add(&log, &line("blog", 3));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend(targets(log.read_new(None)));
        }
        assert_eq!(seen, ["/2/", "/3/"]);
    }

    #[test]
    fn a_line_for_people_and_one_for_programs() {
        let forged = line("blog", 1).replace("/1/", "/\\u001b[2J/");
        let request = Request::read(&"home".parse().unwrap(), forged.as_bytes(), None).unwrap();
        insta::assert_snapshot!(request.line(8), @"2026-11-25T10:00:01.000Z  home      200  hit               0.2 ms    1.2 kB  203.0.113.0/24      GET blog.localhost:8443//");
        let raw = serde_json::to_value(&request).unwrap();
        assert_eq!(
            (&raw["datacenter"], &raw["of-a-newer-edge"], &raw["bytes"]),
            (&"home".into(), &true.into(), &1234.into())
        );
    }
}
