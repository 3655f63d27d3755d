//! A deployed edge behind another proxy, with a port for plain HTTP: the public port is the proxy's.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Command;

use support::{free_ports, leaf};

#[test]
fn an_edge_serves_behind_a_proxy_and_points_plain_http_to_https() {
    let operator = leaf::operator_with_site();
    let [listen, http] = free_ports();
    let port = format!("port = {}\n", operator.home_port);
    let proxied = format!("{port}listen = {listen}\nhttp = {http}\n");
    let behind = leaf::stack(&operator).replace(&port, &proxied).replacen(
        "engine = \"embedded\"\n",
        "engine = \"embedded\"\nproxy = { speaks = \"proxy-protocol\", from = [\"127.0.0.1\"] }\n",
        1,
    );
    operator.write("stack.toml", &behind);
    operator.up();
    assert!(operator.up().stdout().contains("nothing has to change"));

    // The public name keeps the public port, wherever the edge listens.
    let name = format!("leaf.localhost:{}", operator.home_port);
    let origin = format!("https://{name}");
    let page = operator.curl(&name, listen, "/", &["--haproxy-protocol"]).ok();
    assert!(page.text().contains(&format!("{origin}/about.html")), "{}", page.text());
    assert_eq!(operator.curl(&name, listen, "/", &[]).ok().text(), page.text(), "this machine needs no header");
    let other = format!("other.localhost:{}", operator.office_port);
    operator.curl(&other, operator.office_port, "/about.html", &[]).ok();
    // Nobody took the public port: it is the proxy's.
    std::net::TcpListener::bind(("127.0.0.1", operator.home_port)).unwrap();

    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--output", "/dev/null"])
        .args(["--resolve", &format!("leaf.localhost:{http}:127.0.0.1")])
        .args(["--write-out", "%{http_code} %{redirect_url}"])
        .arg(format!("http://leaf.localhost:{http}/about.html?a=b"))
        .output()
        .unwrap();
    let pointed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(pointed, format!("308 {origin}/about.html?a=b"), "{}", String::from_utf8_lossy(&output.stderr));

    // And back to an edge of its own.
    operator.write("stack.toml", &leaf::stack(&operator));
    operator.up();
    operator.curl(&name, operator.home_port, "/", &[]).ok();
}
