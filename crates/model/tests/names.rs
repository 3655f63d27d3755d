//! Names, origins and digests: what is accepted, and that text and value say the same.

use proptest::prelude::*;
use sovereign_model::{DatacenterName, Digest, DnsName, Origin, SiteName, UnitName};

#[test]
fn labels_are_dns_labels() {
    for good in ["a", "0", "a-b", "a--b", &"a".repeat(63)] {
        assert!(good.parse::<SiteName>().is_ok(), "{good}");
    }
    for bad in ["", "-", "a-", "-a", "A", "a.b", "a_b", "a b", "ä", "a/b", "..", &"a".repeat(64)] {
        assert!(bad.parse::<SiteName>().is_err(), "{bad}");
    }
}

#[test]
fn host_names_are_those_of_rfc_1123() {
    for good in ["localhost", "blog.localhost", "3com.com", "a.b.c.d.e", "xn--grn-hoa.example"] {
        assert_eq!(good.parse::<DnsName>().unwrap().as_str(), good);
    }
    assert_eq!("Blog.Example.ORG".parse::<DnsName>().unwrap().as_str(), "blog.example.org");
    let long = [&"a".repeat(63)[..]; 4].join(".");
    for bad in ["", ".", "a.", ".a", "a..b", "a_b.org", "*.org", "-a.org", "a-.org", "a.org:443", "grün.de", &long] {
        assert!(bad.parse::<DnsName>().is_err(), "{bad}");
    }
}

#[test]
fn units_are_named_by_what_and_where() {
    let home: DatacenterName = "home".parse().unwrap();
    assert_eq!(UnitName::at("edge", &home).unwrap().as_str(), "edge@home");
    for bad in ["edge@", "@home", "edge@home@office", "edge/x@home", "../x"] {
        assert!(bad.parse::<UnitName>().is_err(), "{bad}");
    }
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let origin: Origin = "https://Blog.localhost:8443".parse().unwrap();
    assert_eq!((origin.host().as_str(), origin.port()), ("blog.localhost", 8443));
    assert_eq!("https://a.org:443".parse::<Origin>().unwrap().to_string(), "https://a.org");
    for bad in ["http://a.org", "a.org", "https://a.org/", "https://a.org:", "https://a.org:0", "https://a.org:+443"] {
        assert!(bad.parse::<Origin>().is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_that_was_read_is_read_again(text in "[a-zA-Z0-9.@-]{0,20}") {
        if let Ok(name) = text.parse::<DnsName>() {
            prop_assert_eq!(name.as_str().parse::<DnsName>().unwrap(), name);
        }
        if let Ok(name) = text.parse::<UnitName>() {
            prop_assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn an_origin_that_was_written_is_read_again(host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}", port in 1u16..) {
        let origin = Origin::https(host.parse().unwrap(), port);
        prop_assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
    }

    #[test]
    fn a_digest_that_was_written_is_read_again(bytes in any::<Vec<u8>>()) {
        let digest = Digest::of(bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn text_that_is_no_digest_is_refused(text in any::<String>()) {
        prop_assert!(text.parse::<Digest>().is_err());
    }
}

#[test]
fn the_longest_site_name_still_makes_a_units_name() {
    let site: SiteName = "s".repeat(63).parse().unwrap();
    UnitName::at(&format!("ghost-{site}"), &"d".repeat(63).parse().unwrap()).unwrap();
}
