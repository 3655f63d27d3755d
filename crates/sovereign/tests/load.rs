//! No reader notices a deploy: a constant load of 200 requests a second while `up` changes what is served and replaces
//! the supervisor and both edges by those of another binary.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

#[path = "support/load.rs"]
mod load;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use load::Load;
use support::{Operator, leaf};

/// Another binary that does the same: one byte longer, so its digest is another one.
fn another(operator: &Operator) -> PathBuf {
    let path = operator.home().join("another-sovereign");
    fs::copy(Operator::program(), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
    path
}

fn up_with(program: &PathBuf, operator: &Operator) -> String {
    let as_usual = operator.command(&["up", "--yes"]);
    let mut command = Command::new(program);
    command.args(as_usual.get_args()).current_dir(operator.home()).env_clear();
    command.envs(as_usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout
}

/// Changes the stack file under load and applies it, then lets another binary take everything over.
fn deploy_under_load(operator: &Operator, host: &str, change: impl FnOnce(), lasting: Duration) {
    let (home, office) = (operator.home_port, operator.office_port);
    let before = ["edge@home", "edge@office"].map(|unit| (unit, operator.pid(unit)));
    let load = Load::start(operator, host, [home, office], "/");
    std::thread::sleep(lasting / 8);
    change();
    let began = Instant::now();
    let changed = operator.up().stdout();
    assert!(!changed.contains("nothing has to change"), "{changed}");
    eprintln!("up with another setting: {:.1?}", began.elapsed());
    std::thread::sleep(lasting / 8);
    let began = Instant::now();
    up_with(&another(operator), operator);
    eprintln!("up with another binary: {:.1?}", began.elapsed());
    for (unit, pid) in before {
        assert_ne!(operator.pid(unit), pid, "{unit} is another process now");
    }
    let borne = load.until(lasting);
    eprintln!("\n{borne}");
    borne.without_failure();
}

#[test]
fn no_reader_of_files_notices_a_deploy() {
    let operator = leaf::operator_with_site();
    operator.up();
    let change = || {
        let stack = leaf::stack(&operator).replace("other.localhost", "another.localhost");
        operator.write("stack.toml", &stack);
    };
    deploy_under_load(&operator, "leaf.localhost", change, Duration::from_secs(20));
}

fn stack_with_ghost(operator: &Operator, title: &str) -> String {
    let site = "app = \"static\"\nfolder = \"public\"\ncanonical = \"leaf.localhost\"\nnames = [\"other.localhost\"]";
    let ghost = "app = \"ghost\"\ncanonical = \"leaf.localhost\"";
    format!("{}\n[site.settings]\ntitle = \"{title}\"\n", leaf::stack(operator).replace(site, ghost))
}

#[test]
#[ignore = "a drill with a real Ghost and 300 MB: cargo xtask bench archive"]
fn no_reader_notices_a_backup() {
    let operator = Operator::new().with_shared_images();
    operator.write("stack.toml", &stack_with_ghost(&operator, "Before"));
    operator.up();
    let pictures = operator.state().join("dc/home/sites/leaf/content/images/many");
    fs::create_dir_all(&pictures).unwrap();
    let noise = fs::File::open("/dev/urandom").unwrap();
    for number in 0..30 {
        let mut picture = fs::File::create(pictures.join(format!("{number}.jpg"))).unwrap();
        std::io::copy(&mut (&noise).take(10_000_000), &mut picture).unwrap();
    }
    let load = Load::start(&operator, "leaf.localhost", [operator.home_port, operator.office_port], "/");
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    operator.run(&["backup"]).success();
    let took = began.elapsed();
    let borne = load.until(Duration::from_secs(6) + took);
    eprintln!("\na backup of 300 MB in {took:.1?}\n\n{borne}");
    eprintln!("the slowest request took {:.1} times the median (aim: 2)", borne.slowest());
    borne.without_failure();
}

#[test]
#[ignore = "a drill of more than a minute: cargo xtask prove load"]
fn no_reader_of_ghost_notices_a_deploy() {
    let operator = Operator::new().with_shared_images();
    operator.write("stack.toml", &stack_with_ghost(&operator, "Before"));
    operator.up();
    let change = || drop(operator.write("stack.toml", &stack_with_ghost(&operator, "After")));
    deploy_under_load(&operator, "leaf.localhost", change, Duration::from_secs(60));
    let page = operator.curl(&format!("leaf.localhost:{}", operator.home_port), operator.office_port, "/", &[]).ok();
    assert!(page.text().contains("After"), "the mirror shows the new title");
}
