//! The smallest site: a folder of files, written at `home`, mirrored at `office`.

use super::Operator;

/// Its stack file.
pub(crate) fn stack(operator: &Operator) -> String {
    format!(
        r#"version = 1

[stack]
name = "leaf"

[[datacenter]]
name = "home"
engine = "embedded"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}
reach = "direct"

[[datacenter]]
name = "office"
engine = "embedded"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}
reach = "direct"

[[site]]
name = "leaf"
app = "static"
folder = "public"
canonical = "leaf.localhost"
names = ["other.localhost"]
primary = "home"
mirrors = ["office"]
"#,
        operator.home_port, operator.office_port
    )
}

/// An operator who has declared it.
pub(crate) fn operator_with_site() -> Operator {
    let operator = Operator::new();
    operator.write("stack.toml", &stack(&operator));
    let origin = format!("https://leaf.localhost:{}", operator.home_port);
    operator.write(
        "public/index.html",
        &format!(
            "<!doctype html><title>Leaf</title><link rel=stylesheet href=/style.css>\
             <a href=\"{origin}/about.html\">about</a><img src=\"/leaf.svg\">"
        ),
    );
    operator.write("public/about.html", &format!("<!doctype html><p>About</p><a href='{origin}/'>home</a>"));
    operator.write("public/style.css", "body { color: green }");
    operator.write("public/leaf.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    operator
}
