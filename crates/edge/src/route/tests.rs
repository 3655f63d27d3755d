//! Routing as a reader, an author or an attacker meets it.

use std::path::PathBuf;

use http::Request;
use proptest::prelude::*;
use sovereign_model::edge_config::{CertificateFiles, EdgeApp, Source};
use sovereign_model::edge_rules::{EdgeRules, Room};
use sovereign_model::stack::AdminReach;

use super::*;

fn site(name: &str, app: EdgeApp, names: &[&str]) -> EdgeSite {
    EdgeSite {
        site: name.parse().unwrap(),
        canonical: format!("https://{}:8443", names[0]).parse().unwrap(),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        app,
        source: Source::Unix(PathBuf::from("/run/ghost.sock")),
        admin: AdminReach::Local,
        webhook_key: None,
        mirrors: Vec::new(),
        epoch: 1,
        room: Room::default(),
        hsts_days: 0,
        epoch_proof: None,
        maintenance: false,
    }
}

fn routes() -> Routes {
    Routes::build(&config(vec![
        site("blog", EdgeApp::Ghost, &["blog.localhost", "blog.example.org"]),
        site("files", EdgeApp::Static, &["files.localhost"]),
    ]))
    .unwrap()
}

fn config(sites: Vec<EdgeSite>) -> EdgeConfig {
    EdgeConfig {
        stack: "demo".parse().unwrap(),
        datacenter: "home".parse().unwrap(),
        host: None,
        certificate: CertificateFiles { chain: PathBuf::new(), key: PathBuf::new() },
        public_certificates: None,
        public_authorities: None,
        store: PathBuf::new(),
        link_key: PathBuf::new(),
        peers: Vec::new(),
        sites,
        rules: EdgeRules::default(),
        access_log: None,
        proxy: None,
        https_port: 443,
    }
}

/// The question and, below it, what becomes of it.
fn story(method: &str, host: &str, target: &str, extra: Option<(&str, &str)>, reader: &str) -> String {
    let field = extra.map_or(String::new(), |(name, value)| format!(" ({name}: {value})"));
    format!(
        "{method} {host} {target}{field} from {reader}
  {}",
        say(method, host, target, extra, reader)
    )
}

fn say(method: &str, host: &str, target: &str, extra: Option<(&str, &str)>, reader: &str) -> String {
    let mut request = Request::builder().method(method).uri(target).header("host", host);
    if let Some((name, value)) = extra {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else {
        return "not a request".into();
    };
    decide(&request, reader)
}

fn decide(request: &Request<()>, reader: &str) -> String {
    let asked = Asked {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        reader: reader.parse().unwrap(),
    };
    match routes().resolve(&asked) {
        Decision::Refused(refusal) => refusal.status.as_u16().to_string(),
        Decision::Hook(site) => format!("hook {site}"),
        Decision::Health => "health".to_owned(),
        Decision::Site(route) => {
            let class = match &route.class {
                Class::Read { key, fallback: None } => format!("read {}", key.target),
                Class::Read { key, fallback: Some(other) } => format!("read {} or {}", key.target, other.target),
                Class::Live { copy: None } => "live".into(),
                Class::Live { copy: Some(key) } => format!("live or {}", key.target),
                Class::Admin => "admin".into(),
            };
            format!("{} as {}{}: {class}", route.site.site, route.origin, if route.rewritten() { "*" } else { "" })
        }
    }
}

#[test]
fn stories() {
    let local = "127.0.0.1";
    let cookie = |value| Some(("cookie", value));
    let lines = [
        story("GET", "blog.localhost:8443", "/", None, local),
        story("GET", "blog.localhost:8444", "/about/?utm_source=x", None, local),
        story("GET", "BLOG.example.ORG.", "/about/?page=2", None, local),
        story("HEAD", "blog.localhost:8443", "/assets/a.css?v=1", None, local),
        story("GET", "blog.localhost:8443", "/", cookie("theme=dark; ghost-members-ssr=abc"), local),
        story("GET", "blog.localhost:8443", "/", cookie("theme=dark"), local),
        story("GET", "blog.localhost:8443", "/", Some(("authorization", "Basic x")), local),
        story("POST", "blog.localhost:8443", "/", None, local),
        story("GET", "blog.localhost:8443", "/members/api/member/x.css", None, local),
        story("GET", "blog.localhost:8443", "/ghost/", None, local),
        story("GET", "blog.localhost:8443", "/GHOST/api/admin/site/", None, "192.0.2.1"),
        story("GET", "blog.localhost:8443", "/%67host", None, "192.0.2.1"),
        story("GET", "blog.localhost:8443", "/ghost/api/content/posts/?key=1", None, "192.0.2.1"),
        story("GET", "blog.localhost:8443", "/ghost/..;/x.css", None, local),
        story("GET", "files.localhost", "/a?b", cookie("ghost-members-ssr=x"), local),
        story("POST", "files.localhost", "/a", None, local),
        story("POST", "127.0.0.1:8443", "/.sovereign/hooks/blog", None, local),
        story("GET", "127.0.0.1:8443", "/.sovereign/hooks/blog", None, local),
        story("POST", "127.0.0.1:8443", "/.sovereign/hooks/other", None, local),
        story("GET", "192.0.2.9", "/.sovereign/health", None, "192.0.2.1"),
        story("POST", "192.0.2.9", "/.sovereign/health", None, "192.0.2.1"),
        story("GET", "blog.localhost:8443", "/.Sovereign/x", None, local),
        story("GET", "other.localhost", "/", None, local),
        story("GET", "127.0.0.1:8443", "/", None, local),
        story("GET", "blog.localhost:8443", "/", Some(("host", "evil.example")), local),
        story("GET", "a@blog.localhost", "/", None, local),
        story("GET", "blog.localhost:", "/", None, local),
        story("GET", "blog.localhost:99999", "/", None, local),
        story("GET", "blog.localhost:8443", "https://files.localhost/", None, local),
        story("GET", "files.localhost", "https://files.localhost/", None, local),
        story("OPTIONS", "blog.localhost:8443", "*", None, local),
        story("CONNECT", "blog.localhost:8443", "blog.localhost:8443", None, local),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_name_belongs_to_one_site() {
    let sites = vec![site("a", EdgeApp::Ghost, &["x.test"]), site("b", EdgeApp::Ghost, &["y.test", "x.test"])];
    assert!(matches!(Routes::build(&config(sites)), Err(RouteError::SharedName { .. })));
    let sites = vec![site("a", EdgeApp::Ghost, &["x.test"]), site("a", EdgeApp::Ghost, &["y.test"])];
    assert!(matches!(Routes::build(&config(sites)), Err(RouteError::SharedSite { .. })));
}

#[test]
fn reach_of_the_admin_interface() {
    let admits = |reach, address: &str| admits(reach, address.parse().unwrap());
    assert!(admits(AdminReach::Local, "::1") && admits(AdminReach::Local, "::ffff:127.0.0.1"));
    assert!(!admits(AdminReach::Local, "10.0.0.1"));
    assert!(admits(AdminReach::Lan, "10.0.0.1") && admits(AdminReach::Lan, "fe80::1"));
    assert!(admits(AdminReach::Lan, "fd00::1") && admits(AdminReach::Lan, "127.0.0.1"));
    assert!(!admits(AdminReach::Lan, "192.0.2.1") && !admits(AdminReach::Lan, "2001:db8::1"));
    assert!(admits(AdminReach::Public, "192.0.2.1"));
}

proptest! {
    /// Nothing of one reader comes near the store.
    #[test]
    fn personal_requests_are_never_reads(
        path in "/[a-zA-Z0-9/._~-]{0,20}",
        before in "([a-z]+=[a-z]*; ?){0,3}",
        name in "(ghost|Ghost|GHOST)-[a-z.-]{1,20}",
    ) {
        let cookie = format!("{before}{name}=1");
        let line = say("GET", "blog.localhost", &path, Some(("cookie", &cookie)), "127.0.0.1");
        prop_assert!(!line.contains(": read"), "{}", line);
    }

    #[test]
    fn the_admin_interface_is_not_found_by_spelling(spelling in "/(g|G|%67|%47)(h|H|%68)(o|%6f|%6F)(s|S|%53)(t|%74)(/|/api/admin/[a-z]{0,9})?") {
        prop_assert_eq!(say("GET", "blog.localhost", &spelling, None, "192.0.2.1"), "403");
    }
}
