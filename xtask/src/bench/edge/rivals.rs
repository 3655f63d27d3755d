//! The four that an operator would install instead, from Debian's packages, each configured to do well.
//!
//! What is not obvious in these configurations was measured: with `tcp_nopush`, nginx answers 20 kB faster, and stalls
//! 44 ms on 100 kB over loopback, so each page has the better setting. Debian's Varnish speaks no TLS. Debian's Caddy has
//! no cache: it serves the files themselves, the one of the four with nothing behind it that can fail. All of them write an
//! access log, as ours does: nginx in blocks of 64 kB, HAProxy a line at a time, which is all it can, Varnish into the
//! memory that it shares with whoever reads it.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::server::{Role, Server, daemon, folder, spawn, version};
use super::site::{Origin, Site};
use crate::stack::{Ended, free_ports};

/// The certificate that all of them show.
pub(super) struct Credentials {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

/// nginx with `proxy_cache`, a worker per processor.
pub(super) fn nginx(site: &Site, origin: &Origin, credentials: &Credentials) -> Result<Server> {
    let folder = folder(site, "nginx")?;
    let [plain, tls] = free_ports()?;
    let at = folder.display();
    let config = format!(
        "daemon off; worker_processes auto; worker_rlimit_nofile 20000; pid {at}/pid; error_log {at}/error.log; {user}\n\
         events {{ worker_connections 8192; multi_accept on; }}\n\
         http {{\n\
           include /etc/nginx/mime.types; access_log {at}/access.log combined buffer=64k flush=1s; sendfile on; tcp_nopush on; tcp_nodelay on;\n\
           keepalive_timeout 75s; keepalive_requests 100000000; output_buffers 2 128k; http2_chunk_size 16k;\n\
           open_file_cache max=20000 inactive=600s; open_file_cache_valid 300s;\n\
           ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; ssl_buffer_size 16k;\n\
           ssl_session_cache shared:sessions:10m;\n\
           client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
           uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
           proxy_cache_path {at}/cache levels=1:2 keys_zone=pages:16m max_size=2g inactive=30d use_temp_path=off;\n\
           proxy_cache pages; proxy_cache_key $request_uri; proxy_cache_lock on; proxy_cache_revalidate on;\n\
           proxy_cache_background_update on;\n\
           proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;\n\
           proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host;\n\
           upstream origin {{ server 127.0.0.1:{origin}; keepalive 32; }}\n\
           server {{\n\
             listen 127.0.0.1:{plain} backlog=4096 reuseport; listen 127.0.0.1:{tls} ssl http2 backlog=4096 reuseport;\n\
             location / {{ proxy_pass http://origin; }}\n\
             location = /asset.bin {{ proxy_pass http://origin; tcp_nopush off; }}\n\
           }}\n\
         }}\n",
        user = if rustix::process::geteuid().is_root() { "user root;" } else { "" },
        chain = credentials.chain.display(),
        key = credentials.key.display(),
        origin = origin.port,
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = daemon("nginx")?;
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
    let child = spawn(command, &folder, tls)?;
    Ok(Server {
        name: "nginx",
        version: version("nginx", "-v")?,
        role: Role::Cache,
        plain: Some(plain),
        tls: Some(tls),
        asset: None,
        root: child.id(),
        folder,
        _running: Box::new(Ended(child)),
    })
}

/// Varnish with a gigabyte of memory, and stale pages for a day.
pub(super) fn varnish(site: &Site, origin: &Origin) -> Result<Server> {
    let folder = folder(site, "varnish")?;
    let [plain] = free_ports()?;
    let rules = format!(
        "vcl 4.1;\n\
         backend default {{ .host = \"127.0.0.1\"; .port = \"{}\"; }}\n\
         sub vcl_backend_response {{ set beresp.grace = 24h; }}\n",
        origin.port
    );
    fs::write(folder.join("default.vcl"), rules)?;
    let mut command = daemon("varnishd")?;
    command.args(["-F", "-j", "none", "-s", "malloc,1g", "-T", "none", "-a"]).arg(format!("127.0.0.1:{plain}"));
    command.arg("-f").arg(folder.join("default.vcl")).arg("-n").arg(folder.join("work"));
    // Enough threads at once for 512 busy connections; idle ones for as long as nginx keeps them.
    command.args(["-p", "thread_pool_min=300", "-p", "timeout_idle=75"]);
    let child = spawn(command, &folder, plain)?;
    Ok(Server {
        name: "Varnish",
        version: version("varnishd", "-V")?,
        role: Role::Cache,
        plain: Some(plain),
        tls: None,
        asset: None,
        root: child.id(),
        folder,
        _running: Box::new(Ended(child)),
    })
}

/// HAProxy with its cache, a thread per processor, buffers that hold the asset. It takes all of the cache's memory at once,
/// so that is not much more than the pages need.
pub(super) fn haproxy(site: &Site, origin: &Origin, credentials: &Credentials) -> Result<Server> {
    let folder = folder(site, "haproxy")?;
    let [plain, tls] = free_ports()?;
    let both = folder.join("both.pem");
    fs::write(&both, [fs::read(&credentials.chain)?, fs::read(&credentials.key)?].concat())?;
    let config = format!(
        "global\n  maxconn 8000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  tune.bufsize 131072\n\
         \x20 log stdout format raw local0\n\
         defaults\n  mode http\n  log global\n  option httplog\n  timeout connect 5s\n  timeout client 75s\n  timeout server 75s\n\
         cache pages\n  total-max-size 320\n  max-object-size 1000000\n  max-age 86400\n  process-vary on\n\
         frontend readers\n  bind 127.0.0.1:{plain}\n  bind 127.0.0.1:{tls} ssl crt {} alpn h2,http/1.1\n\
         \x20 http-request set-header Host localhost\n\
         \x20 http-request cache-use pages\n  http-response cache-store pages\n  default_backend origin\n\
         backend origin\n  server origin 127.0.0.1:{}\n",
        both.display(),
        origin.port
    );
    fs::write(folder.join("haproxy.cfg"), config)?;
    let mut command = daemon("haproxy")?;
    command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
    let child = spawn(command, &folder, tls)?;
    Ok(Server {
        name: "HAProxy",
        version: version("haproxy", "-v")?,
        role: Role::Cache,
        plain: Some(plain),
        tls: Some(tls),
        asset: None,
        root: child.id(),
        folder,
        _running: Box::new(Ended(child)),
    })
}

/// Caddy, serving the files.
pub(super) fn caddy(site: &Site, credentials: &Credentials) -> Result<Server> {
    let folder = folder(site, "caddy")?;
    let [plain, tls] = free_ports()?;
    let serve = format!(
        "bind 127.0.0.1\n root * {}\n file_server\n header Cache-Control \"public, max-age=86400\"\n\
         log {{\n output file {}\n }}",
        site.files.display(),
        folder.join("access.log").display()
    );
    let config = format!(
        "{{\n admin off\n auto_https off\n servers {{\n protocols h1 h2\n }}\n}}\n\
         http://localhost:{plain} {{\n {serve}\n}}\n\
         https://localhost:{tls} {{\n {serve}\n tls {} {}\n}}\n",
        credentials.chain.display(),
        credentials.key.display()
    );
    fs::write(folder.join("Caddyfile"), config)?;
    let mut command = daemon("caddy")?;
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
    command.env("XDG_DATA_HOME", &folder).env("XDG_CONFIG_HOME", &folder);
    let child = spawn(command, &folder, tls)?;
    Ok(Server {
        name: "Caddy",
        version: format!("Caddy {}, files", version("caddy", "version")?),
        role: Role::Files,
        plain: Some(plain),
        tls: Some(tls),
        asset: None,
        root: child.id(),
        folder,
        _running: Box::new(Ended(child)),
    })
}
