//! What is served, and the origin that has it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::server::{Server, daemon, installed, spawn};
use crate::stack::{Ended, free_ports};

/// How many pages fill the stores.
pub(super) const PAGES: usize = 10_000;
/// A page.
const PAGE: usize = 20_000;
/// An asset: a picture or a script.
const ASSET: usize = 100_000;
/// For `wrk`: one of the pages, another each time.
pub(super) const SPREAD: &str = "spread.lua";
/// How long the page is fresh that is asked for while its origin is dead.
pub(super) const SHORT: Duration = Duration::from_secs(1);

/// Files, and room for whatever else is written.
pub(super) struct Site {
    pub(super) scratch: PathBuf,
    /// What the origin serves.
    pub(super) files: PathBuf,
}

impl Site {
    /// Writes it below `scratch`.
    ///
    /// # Errors
    /// When files cannot be written.
    pub(super) fn write(scratch: &Path) -> Result<Self> {
        let files = scratch.join("files");
        fs::create_dir_all(files.join("pages"))?;
        // `up` asks for the home page.
        fs::write(files.join("index.html"), page("index"))?;
        fs::write(files.join("page.html"), page("page"))?;
        fs::write(files.join("short.html"), page("short"))?;
        fs::write(files.join("asset.bin"), "0123456789abcdef".repeat(ASSET / 16))?;
        for number in 0..PAGES {
            fs::write(files.join(format!("pages/{number}.html")), page(&number.to_string()))?;
        }
        // Requests are made once: what wrk does between two answers is time that it does not ask.
        let script = format!(
            "local requests = {{}}\n\
             function init(args)\n\
             for n = 0, {PAGES} - 1 do requests[n] = wrk.format('GET', '/pages/' .. n .. '.html') end\n\
             end\n\
             function request() return requests[math.random(0, {PAGES} - 1)] end\n"
        );
        fs::write(scratch.join(SPREAD), script)?;
        Ok(Self { scratch: scratch.to_owned(), files })
    }

    /// Asks `server` for every one of the pages; how many it has answered.
    ///
    /// # Errors
    /// When curl cannot be run.
    pub(super) fn ask_for_all(&self, server: &Server) -> Result<usize> {
        let (scheme, port) = match (server.plain, server.tls) {
            (Some(port), _) => ("http", port),
            (None, Some(port)) => ("https", port),
            (None, None) => return Ok(0),
        };
        let mut curl = installed("curl")?;
        curl.args(["--silent", "--insecure", "--http1.1", "--parallel", "--parallel-max", "16"]);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}\\n"]);
        curl.arg(format!("{scheme}://localhost:{port}/pages/[0-{}].html", PAGES - 1));
        let said = curl.stdin(Stdio::null()).stderr(Stdio::null()).output()?.stdout;
        let whole = format!("200 {PAGE}");
        Ok(String::from_utf8_lossy(&said).lines().filter(|line| *line == whole).count())
    }
}

/// A page that no other one shares its bytes with.
fn page(name: &str) -> String {
    let mut text = format!("<!doctype html><title>{name}</title>\n");
    while text.len() < PAGE {
        writeln!(text, "<p>Page {name} has come to byte {} of its text.</p>", text.len()).expect("strings take text");
    }
    text.truncate(PAGE);
    text
}

/// The origin behind all that can cache: an nginx of its own, which serves the files. It dies when dropped.
pub(super) struct Origin {
    pub(super) port: u16,
    log: PathBuf,
    _running: Ended,
}

impl Origin {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let folder = super::server::folder(site, "origin")?;
        let [port] = free_ports()?;
        let (at, files) = (folder.display(), site.files.display());
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               include /etc/nginx/mime.types; access_log {at}/access.log; keepalive_requests 1000000;\n\
               client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
               uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
               server {{\n\
                 listen 127.0.0.1:{port}; root {files};\n\
                 add_header Cache-Control 'public, max-age=86400';\n\
                 location = /short.html {{ add_header Cache-Control 'public, max-age={}'; }}\n\
               }}\n\
             }}\n",
            SHORT.as_secs()
        );
        fs::write(folder.join("nginx.conf"), config)?;
        let mut command = daemon("nginx")?;
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        Ok(Self { port, log: folder.join("access.log"), _running: Ended(spawn(command, &folder, port)?) })
    }

    /// How often it was asked so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(super) fn questions(&self) -> Result<u64> {
        let log = fs::read_to_string(&self.log).context("the origin's log")?;
        Ok(log.lines().count() as u64)
    }
}
