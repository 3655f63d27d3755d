//! The table of addresses, made of Debian's own files and read by somebody else.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use sovereign_dns::geography::country::Country;
use sovereign_dns::geography::nearest::Orders;
use sovereign_dns::geography::{IPV4_FILE, IPV6_FILE, Source, compile};
use sovereign_model::names::Names;

const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "vienna"
location = { latitude = 48.2, longitude = 16.4 }
[[datacenter.uplink]]
name = "u"
address = "127.0.0.1"
port = 8443
[[datacenter]]
name = "denver"
location = { latitude = 39.7, longitude = -105.0 }
[[datacenter.uplink]]
name = "u"
address = "127.0.0.2"
port = 8443
[[site]]
name = "blog"
app = "ghost"
canonical = "blog.localhost"
primary = "vienna"
"#;

/// Every so many lines of Debian's files one is looked at.
const EACH: usize = 6000;

#[test]
fn mmdblookup_finds_in_it_what_debians_files_say() {
    let stack = sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap();
    let orders = Orders::new(&Names::of(&stack));
    let open = |file| {
        let text = File::open(file).expect("Debian's tor-geoipdb is installed");
        Source { file: Path::new(file), text: BufReader::new(text) }
    };
    let table = compile(&orders, open(IPV4_FILE), open(IPV6_FILE), 1_790_000_000).unwrap();
    assert!(table.len() < 12 << 20, "{} bytes", table.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &table).unwrap();
    let (mut looked, mut found) = (0, 0);
    for name in [IPV4_FILE, IPV6_FILE] {
        let lines = open(name).text.lines().map(Result::unwrap).filter(|line| !line.starts_with('#'));
        for line in lines.step_by(EACH) {
            let fields: Vec<&str> = line.split(',').collect();
            let address = |text: &str| match text.parse::<u32>() {
                Ok(number) => IpAddr::V4(number.into()),
                Err(_) => text.parse().unwrap(),
            };
            let class = orders.class(Country::from_code(fields[2].as_bytes()).unwrap());
            let wanted = class.map(|class| orders.classes()[class].to_string());
            for ip in [address(fields[0]), address(fields[1])] {
                let said = Command::new("mmdblookup")
                    .args(["--file", &file.path().display().to_string(), "--ip", &ip.to_string(), "nearest"])
                    .output()
                    .expect("mmdblookup runs");
                let text = String::from_utf8_lossy(&said.stdout);
                let answer = text.trim().strip_suffix(" <utf8_string>").map(|text| text.trim_matches('"').to_owned());
                assert_eq!(answer, wanted, "{ip} of {line}: {said:?}");
                looked += 1;
                found += usize::from(answer.is_some());
            }
        }
    }
    assert!(looked > 100 && found * 10 > looked * 8, "{found} of {looked}");
}
