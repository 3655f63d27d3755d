//! Figures, not verdicts: how long, how much, how fast. Each prints a table for docs/benchmarks.md; `cargo xtask prove`
//! runs them on the release binary. The few limits the project has set itself are asserted.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::staff::Staff;
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

/// Processor time of a process so far, all threads: proc_pid_stat(5), fields 14 and 15, at 100 ticks a second.
fn processor(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// Posts of a site that has been written on for years.
const POSTS: usize = 1000;

/// What Ghost imports: posts of three paragraphs, with one of twenty tags each.
fn archive() -> Value {
    let paragraph = |text: String| {
        let text = json!({ "detail": 0, "format": 0, "mode": "normal", "style": "", "text": text,
            "type": "extended-text", "version": 1 });
        json!({ "children": [text], "direction": "ltr", "format": "", "indent": 0, "type": "paragraph", "version": 1 })
    };
    let posts: Vec<Value> = (1..=POSTS)
        .map(|n| {
            let text: Vec<_> = (0..3).map(|_| paragraph(format!("Post {n} says this. ").repeat(20))).collect();
            let root = json!({ "children": text, "direction": "ltr", "format": "", "indent": 0, "type": "root",
                "version": 1 });
            let date = format!("2024-{:02}-{:02}T{:02}:00:00.000Z", 1 + n / 90, 1 + n / 4 % 28, n % 4);
            json!({ "id": n.to_string(), "title": format!("Post {n}"), "slug": format!("post-{n}"), "type": "post",
                "lexical": json!({ "root": root }).to_string(), "status": "published", "visibility": "public",
                "published_at": date, "created_at": date, "updated_at": date })
        })
        .collect();
    let tags: Vec<_> = (0..20).map(|n| json!({ "id": format!("t{n}"), "name": format!("Tag {n}") })).collect();
    let tagged: Vec<_> =
        (1..=POSTS).map(|n| json!({ "post_id": n.to_string(), "tag_id": format!("t{}", n % 20) })).collect();
    let data = json!({ "posts": posts, "tags": tags, "posts_tags": tagged });
    json!({ "db": [{ "meta": { "exported_on": 1_700_000_000_000_u64, "version": "6.65.0" }, "data": data }] })
}

/// Home with a Ghost, and three mirrors of it; with their ports.
fn ghost_with_mirrors(operator: &Operator) -> (String, Vec<u16>) {
    let two: Vec<u16> =
        (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()).collect();
    let mut stack =
        ghost_stack(operator).replace("mirrors = [\"office\"]", "mirrors = [\"office\", \"cabin\", \"vault\"]");
    for (name, port) in ["cabin", "vault"].into_iter().zip(&two) {
        write!(
            stack,
            "\n[[datacenter]]\nname = \"{name}\"\nengine = \"embedded\"\n\n[[datacenter.uplink]]\n\
             name = \"loopback\"\naddress = \"127.0.0.1\"\nport = {port}\nreach = \"direct\"\n"
        )
        .unwrap();
    }
    (stack, [&[operator.office_port][..], &two].concat())
}

#[test]
#[ignore = "a figure with 1,000 posts in a real Ghost: cargo xtask prove publish"]
fn how_soon_a_post_of_ghost_is_everywhere() {
    let operator = Operator::new().with_shared_images();
    let (stack, mirrors) = ghost_with_mirrors(&operator);
    operator.write("stack.toml", &stack);
    operator.up();
    let host = format!("leaf.localhost:{}", operator.home_port);
    let staff = Staff::log_in(&operator, &host, operator.home_port);
    let file = operator.write("archive.json", &archive().to_string());
    let import = format!("importfile=@{};type=application/json", file.display());
    let answer = staff.send_form("/ghost/api/admin/db/", &[&import]);
    assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.text());
    let long = Duration::from_secs(1800);
    support::eventually("all posts are in Ghost", long, || {
        let posts = staff.call("GET", "/ghost/api/admin/posts/?limit=1&fields=id", None).json();
        (posts["meta"]["pagination"]["total"].as_u64() >= Some(POSTS as u64)).then_some(())
    });
    // Imported posts are said by nothing; a setting that is saved is.
    let setting = json!({ "settings": [{ "key": "description", "value": "Written for years." }] });
    staff.call("PUT", "/ghost/api/admin/settings/", Some(&setting)).ok();
    let began = Instant::now();
    let shows = |port: u16, path: &str, words: &str| {
        let answer = operator.curl(&host, port, path, &[]);
        answer.status == 200 && answer.text().contains(words)
    };
    let passes = || operator.run(&["logs", "edge@home", "--lines", "400"]).stdout();
    let last_pass = |reason: &str, since: usize| {
        let said = passes();
        let ended = said.lines().filter(|line| line.contains("a pass has ended") && line.contains(reason));
        let ended: Vec<_> = ended.map(str::to_owned).collect();
        (ended.len() > since).then(|| ended.last().cloned().unwrap())
    };
    let count = |reason: &str| {
        passes().lines().filter(|line| line.contains("a pass has ended") && line.contains(reason)).count()
    };
    support::eventually("every post is kept", long, || {
        let line = last_pass("Change", 0)?;
        (number(&line, "known") > POSTS as u64).then_some(())
    });
    eprintln!("\neverything of a Ghost with {POSTS} posts, fetched anew: {:.0?}", began.elapsed());
    let mut fresh: Vec<Duration> = (0..20)
        .map(|n| {
            let (title, path) = (format!("Breaking {n}."), format!("/breaking-{n}/"));
            let published = Instant::now();
            staff.publish(&title, &format!("breaking-{n}"), "<p>It has happened.</p>");
            for port in &mirrors {
                for path in [path.as_str(), "/", "/rss/"] {
                    support::eventually(path, Duration::from_secs(60), || shows(*port, path, &title).then_some(()));
                }
            }
            published.elapsed()
        })
        .collect();
    fresh.sort();
    eprintln!("post, home and feed at the last of three mirrors: median {:.2?}, longest {:.2?}", fresh[10], fresh[19]);
    let ghost = operator.pid("ghost-leaf@home");
    // One may be under way since the first of them; the next has the site to itself.
    let before = count("Sweep") + 1;
    let mut samples = vec![(Instant::now(), processor(ghost))];
    let line = support::eventually("a sweep has ended", long, || {
        samples.push((Instant::now(), processor(ghost)));
        last_pass("Sweep", before)
    });
    let took = Duration::from_millis(number(&line, "milliseconds"));
    let (end, used) = *samples.last().unwrap();
    let (start, used_before) = *samples.iter().rev().find(|(at, _)| end - *at >= took).unwrap_or(&samples[0]);
    let share = (used - used_before).as_secs_f64() / (end - start).as_secs_f64() * 100.0;
    eprintln!(
        "a sweep of {} pages: {took:.0?}, Ghost worked {share:.0} % of one core meanwhile",
        number(&line, "known")
    );
    assert!(fresh[10] <= Duration::from_secs(2), "the limit is two seconds: {fresh:.2?}");
}

/// The number that a line of a log gives for `name`.
fn number(line: &str, name: &str) -> u64 {
    let value = line.split(&format!("{name}=")).nth(1);
    let digits: String = value.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no {name} in {line}"))
}
