//! Figures, not verdicts: how long, how much, how fast. Each prints a table for docs/benchmarks.md; `cargo xtask prove`
//! runs them on the release binary. The few limits the project has set itself are asserted.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Operator, leaf};

/// The smallest site's stack with a Ghost in its place.
fn ghost_stack(operator: &Operator) -> String {
    let files = "app = \"static\"\nfolder = \"public\"\ncanonical = \"leaf.localhost\"\nnames = [\"other.localhost\"]";
    leaf::stack(operator).replace(files, "app = \"ghost\"\ncanonical = \"leaf.localhost\"")
}

fn stages(stdout: &str) -> &str {
    stdout.find("Took\n").map_or(stdout, |at| &stdout[at + "Took\n".len()..])
}

#[test]
#[ignore = "fetches and builds Ghost: cargo xtask prove up"]
fn how_long_up_takes() {
    let operator = Operator::new();
    operator.write("stack.toml", &ghost_stack(&operator));
    eprintln!("\ncold: empty home, image fetched and built\n{}", stages(&operator.up().stdout()));
    operator.run(&["down"]).success();
    eprintln!("warm: image and data kept, everything started\n{}", stages(&operator.up().stdout()));
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let began = Instant::now();
            assert!(operator.up().stdout().contains("nothing has to change"));
            began.elapsed()
        })
        .collect();
    eprintln!("\"nothing has to change\", five times: {times:.0?}");
    assert!(times.iter().all(|time| *time <= Duration::from_secs(1)), "the limit is one second");
}

/// Bytes of a process: (RSS, PSS, of which its own and no file's).
fn memory(pid: i32) -> Option<[u64; 3]> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    };
    Some([field("Rss")?, field("Pss")?, field("Pss_Anon")?])
}

/// What one of our own processes is called, by its arguments; `None` for an application's.
fn part(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    words.first().filter(|program| program.ends_with("sovereign"))?;
    let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1).cloned();
    if words.iter().any(|word| word == "edge") {
        let datacenter =
            after("--config").and_then(|path| Some(path.split("/dc/").nth(1)?.split('/').next()?.to_owned()));
        return Some(format!("edge@{}", datacenter.unwrap_or_default()));
    }
    after("--part").map(|part| if part == "relief" { "keeper".to_owned() } else { part }).or(Some("keeper".to_owned()))
}

#[test]
#[ignore = "a figure of the release binary: cargo xtask prove memory"]
fn how_much_memory_our_processes_hold() {
    let operator = Operator::new().with_shared_images();
    operator.write("stack.toml", &ghost_stack(&operator));
    operator.up();
    // Not a condition to wait for: idle means that nothing happens for a while.
    std::thread::sleep(Duration::from_secs(10));
    let mut table = "| process | RSS | PSS | PSS, anonymous |\n|---|---:|---:|---:|\n".to_owned();
    let mut sums = [0; 3];
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let ours = operator.processes().into_iter().filter_map(|pid| Some((part(pid)?, memory(pid)?)));
    for (name, held) in ours.collect::<BTreeMap<_, _>>() {
        let [rss, pss, own] = held.map(megabytes);
        writeln!(table, "| {name} | {rss} | {pss} | {own} |").unwrap();
        sums.iter_mut().zip(held).for_each(|(sum, held)| *sum += held);
    }
    let [rss, pss, own] = sums.map(megabytes);
    eprintln!("\n{table}| **all together** | {rss} | {pss} | {own} |");
    assert!(sums[1] <= 40_000_000, "the aim is 40 MB for all of them together, what they share counted once");
}

/// nginx with a cached page, beside the edge: same machine, certificate and page.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(folder: &Path, pages: &Path, credentials: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (at, pages, keys) = (folder.display(), pages.display(), credentials.display());
        let config = format!(
            "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               access_log off; tcp_nopush on; keepalive_requests 100000000; types {{ text/html html; }}\n\
               client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
               uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
               proxy_cache_path {at}/cache levels=1:2 keys_zone=pages:10m;\n\
               server {{ listen unix:{at}/origin; root {pages}; }}\n\
               server {{\n\
                 listen 127.0.0.1:{port} ssl; ssl_certificate {keys}/chain.pem; ssl_certificate_key {keys}/key.pem;\n\
                 location / {{ proxy_pass http://unix:{at}/origin; proxy_cache pages; proxy_cache_valid 1h; }}\n\
               }}\n\
             }}\n"
        );
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null());
        let child = command.spawn().expect("nginx is installed: apt-get install nginx-light");
        support::eventually("nginx", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port }
    }

    fn processes(&self) -> Vec<i32> {
        let master = self.child.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        support::kill(i32::try_from(self.child.id()).unwrap(), "TERM");
        let _ = self.child.wait();
    }
}

/// Processor time of a process so far, all threads: proc_pid_stat(5), fields 14 and 15, at 100 ticks a second.
fn processor(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// One round of wrk: (requests a second, processor time of the server per request, what wrk calls latency at 99 %).
fn round(port: u16, host: &str, servers: &[i32]) -> (f64, Duration, String) {
    let before: Duration = servers.iter().copied().map(processor).sum();
    let output = Command::new("wrk")
        .args(["-t1", "-c64", "-d5s", "--latency", "-H", &format!("Host: {host}")])
        .arg(format!("https://127.0.0.1:{port}/page.html"))
        .output()
        .unwrap();
    let used = servers.iter().copied().map(processor).sum::<Duration>() - before;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    let word = |before: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(before)).unwrap_or_else(|| panic!("{said}"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let requests = said.lines().find(|line| line.contains(" requests in ")).unwrap_or_else(|| panic!("{said}"));
    let requests: u32 = requests.split_whitespace().next().unwrap().parse().unwrap();
    (word("Requests/sec:").parse().unwrap(), used / requests, word("99%"))
}

#[test]
#[ignore = "a figure of the release binary: cargo xtask prove speed"]
fn how_the_edge_stands_beside_nginx() {
    let operator = leaf::operator_with_site();
    let words = "All that one operator declares, in one file. ".repeat(20_000 / 45);
    operator.write("public/page.html", &format!("<!doctype html><title>Page</title><p>{words}"));
    operator.up();
    let host = format!("leaf.localhost:{}", operator.home_port);
    operator.curl(&host, operator.office_port, "/page.html", &[]).ok();
    let keys = operator.state().join("dc/office/edge");
    let nginx = Nginx::start(&operator.home().join("nginx"), &operator.home().join("public"), &keys);
    let edge = [operator.pid("edge@office")];
    let workers = nginx.processes();
    let mut rounds = BTreeMap::<&str, Vec<_>>::new();
    for turn in 0..6 {
        // In turns and in both orders, so that neither always has the quieter machine.
        let servers: [(&str, u16, &[i32]); 2] =
            [("sovereign edge", operator.office_port, &edge), ("nginx proxy_cache", nginx.port, &workers)];
        for (name, port, pids) in if turn % 2 == 0 { servers } else { [servers[1], servers[0]] } {
            rounds.entry(name).or_default().push(round(port, &host, pids));
        }
    }
    eprintln!("\n| server | requests/s | processor time per request | p99 |\n|---|---:|---:|---:|");
    for (name, mut rounds) in rounds {
        rounds.sort_by_key(|round| round.1);
        let (rate, used, p99) = &rounds[rounds.len() / 2];
        eprintln!("| {name} | {rate:.0} | {used:.1?} | {p99} |");
    }
}
