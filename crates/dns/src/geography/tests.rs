use std::io::Cursor;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use proptest::prelude::*;
use sovereign_model::names::Names;

use super::country::Country;
use super::*;

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
[[datacenter]]
name = "sydney"
location = { latitude = -33.9, longitude = 151.2 }
[[datacenter.uplink]]
name = "u"
address = "127.0.0.3"
port = 8443
[[site]]
name = "blog"
app = "ghost"
canonical = "blog.localhost"
primary = "vienna"
"#;

fn orders() -> &'static Orders {
    static ORDERS: LazyLock<Orders> = LazyLock::new(|| {
        Orders::new(&Names::of(&sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap()))
    });
    &ORDERS
}

fn compiled(ipv4: &[u8], ipv6: &[u8]) -> Result<Vec<u8>, GeographyError> {
    let source = |file, text| Source { file: Path::new(file), text: Cursor::new(text) };
    compile(orders(), source("geoip", ipv4), source("geoip6", ipv6), 1_790_000_000)
}

/// A reader of our own, as simple as the format is: what the table says of an address.
fn look_up(table: &[u8], address: u128) -> Option<String> {
    let marker = b"\xab\xcd\xefMaxMind.com";
    let metadata = table.windows(marker.len()).rposition(|window| window == marker).unwrap();
    let key = b"node_count";
    let at = metadata + table[metadata..].windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let size = usize::from(table[at] & 31);
    let count = table[at + 1..at + 1 + size].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut record = 0;
    for depth in 0..128 {
        if record >= count {
            break;
        }
        let at = record * 6 + if address >> (127 - depth) & 1 == 1 { 3 } else { 0 };
        record = table[at..at + 3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    }
    if record <= count {
        assert_eq!(record, count, "the tree ends after 128 bits");
        return None;
    }
    let at = count * 6 + record - count;
    assert_eq!(&table[at..at + 9], b"\xe1\x47nearest");
    let size = usize::from(table[at + 9] & 31);
    assert!(size < 29);
    Some(String::from_utf8(table[at + 10..at + 10 + size].to_vec()).unwrap())
}

/// What it should say.
fn expected(country: Option<&str>) -> Option<String> {
    let orders = orders();
    let class = orders.class(Country::from_code(country?.as_bytes()).unwrap())?;
    Some(orders.classes()[class].to_string())
}

const CODES: &[&str] = &["AT", "US", "AU", "NZ", "DE", "CA", "??", "XX", "EU", "JP"];

/// Ranges in ascending order, with gaps or none between.
fn ranges(lowest: u128, highest: u128) -> impl Strategy<Value = Vec<(u128, u128, &'static str)>> {
    let one = (0_u32..100, 0_u32..100, 0_usize..CODES.len(), any::<(u64, u64)>());
    prop::collection::vec(one, 1..40).prop_map(move |parts| {
        let mut free = Some(lowest);
        let mut all = Vec::new();
        for (gap, length, code, (low, high)) in parts {
            // Sometimes none, sometimes a few, sometimes of any size.
            let span = |kind: u32, random: u64| match kind {
                0..40 => 0,
                40..70 => u128::from(random % 300),
                _ => (u128::from(random) << 64 | u128::from(random)) >> (128 - (highest.ilog2() - 3).min(127)),
            };
            let Some(first) = free.and_then(|free| free.checked_add(span(gap, low))) else { break };
            let Some(last) = first.checked_add(span(length, high)).filter(|last| *last <= highest) else { break };
            all.push((first, last, CODES[code]));
            free = last.checked_add(1);
        }
        if all.is_empty() {
            all.push((lowest, lowest, "AT"));
        }
        all
    })
}

proptest! {
    #[test]
    fn every_address_has_the_class_of_its_country(
        ipv4 in ranges(0, u128::from(u32::MAX)),
        ipv6 in ranges(1 << 32, u128::MAX),
        elsewhere: [u32; 8],
    ) {
        let text4: String = ipv4.iter().map(|(first, last, code)| format!("{first},{last},{code}\n")).collect();
        let as6 = Ipv6Addr::from;
        let text6: String =
            ipv6.iter().map(|(first, last, code)| format!("{},{},{code}\n", as6(*first), as6(*last))).collect();
        let table = compiled(text4.as_bytes(), text6.as_bytes()).unwrap();
        let all: Vec<_> = ipv4.into_iter().chain(ipv6).collect();
        let country = |address: u128| {
            all.iter().find(|(first, last, _)| (*first..=*last).contains(&address)).map(|(_, _, code)| *code)
        };
        for (first, last, _) in &all {
            let edges = [*first, *last, first.saturating_sub(1), last.saturating_add(1), first + (last - first) / 2];
            for address in edges {
                prop_assert_eq!(look_up(&table, address), expected(country(address)), "{}", as6(address));
            }
        }
        for address in elsewhere {
            let address = u128::from(address);
            prop_assert_eq!(look_up(&table, address), expected(country(address)));
        }
    }

    #[test]
    fn damaged_text_is_refused_or_read_and_never_more(text: Vec<u8>, cut in 0_usize..60, at in 0_usize..60, byte: u8) {
        let whole = b"16777216,16777471,AU\n16777472,16778239,CN\n16778240,16779263,AU\n".to_vec();
        let six = b"2001:200::,2001:200:134::,JP\n";
        let mut changed = whole.clone();
        changed[at] = byte;
        for ipv4 in [&text, &whole[..cut].to_vec(), &changed] {
            match compiled(ipv4, six) {
                Ok(table) => prop_assert!(table.len() < 100_000),
                Err(error) => prop_assert!(error.to_string().contains("geoip") && error.help().is_some(), "{error}"),
            }
        }
    }
}

#[test]
fn what_is_wrong_is_told_with_its_file_and_line() {
    let six = "2001:200::,2001:200:134::,JP\n";
    let long = format!("{}\n", "1".repeat(5000));
    let broken = |ipv4: &str, ipv6: &str| compiled(ipv4.as_bytes(), ipv6.as_bytes()).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            broken("# nothing\n\n", six),
            broken("1,2,AT\n", ""),
            broken("# a\n1,2,AT\n3,4\n", six),
            broken("1,2,AT,x\n", six),
            broken("1,2,at\n", six),
            broken("1,4294967296,AT\n", six),
            broken("1,-2,AT\n", six),
            broken("5,2,AT\n", six),
            broken("1,5,AT\n5,6,AT\n", six),
            broken("8,9,AT\n5,6,AT\n", six),
            broken("1,2,AT\n", "2001:200::,2001:200:134::,JP\n2001:100::,2001:101::,JP\n"),
            broken("1,2,AT\n", "::1,::2,JP\n"),
            broken("1,2,AT\n", "ffff::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,JP\n2001::,2001::1,JP\n"),
            broken(&long, six),
        ]
        .join("\n")
    );
    let error = compiled(b"1,2,AT\n", b"\xff,\xfe,AT\n").unwrap_err();
    assert!(matches!(error, GeographyError::Line { line: 1, .. }), "{error}");
}

#[test]
fn addresses_that_look_alike_are_told_apart() {
    let number = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
    let four = u32::from(Ipv4Addr::new(32, 1, 2, 0));
    let text = format!("{four},{},AU\n", four + 255);
    let table = compiled(text.as_bytes(), b"2001:200::,2001:200:ffff:ffff:ffff:ffff:ffff:ffff,AT\n").unwrap();
    assert_eq!(look_up(&table, u128::from(four)), expected(Some("AU")));
    assert_eq!(look_up(&table, number("2001:200::5")), expected(Some("AT")));
    assert_eq!(look_up(&table, number("2001:201::")), None);
}
