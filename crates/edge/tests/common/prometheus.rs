//! A strict reader of Prometheus' text format: what its own tools complain about fails here too.
//!
//! Source: "Exposition formats" of Prometheus' documentation, and the rules of `promtool check metrics`.

use std::collections::BTreeMap;

/// One family.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    /// By what follows the family's name: a suffix of a histogram, and the labels.
    pub samples: BTreeMap<String, f64>,
}

/// All families of `text`, by name.
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line ends too");
    let mut families = BTreeMap::<String, Family>::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, help) = help.strip_prefix("# HELP ").expect(help).split_once(' ').expect(help);
        assert!(!help.is_empty() && is_name(name), "{name}");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect(name).to_owned();
        assert!(["counter", "gauge", "histogram"].contains(&&*kind), "{name}: {kind}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        for unit in ["_ms", "_milliseconds", "_minutes", "_kilobytes", "_percent"] {
            assert!(!name.contains(unit), "{name}: base units only");
        }
        let mut samples = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').expect(line);
            let rest = sample.strip_prefix(name).expect(line);
            let (suffix, labels) = rest.find('{').map_or((rest, ""), |at| rest.split_at(at));
            check_labels(labels);
            assert!(kind == "histogram" || suffix.is_empty(), "{line}");
            let value: f64 = value.parse().expect(line);
            assert!(value >= 0.0 && samples.insert(rest.to_owned(), value).is_none(), "{line}");
        }
        if kind == "histogram" {
            check_histogram(name, &samples);
        }
        assert!(families.insert(name.to_owned(), Family { kind, samples }).is_none(), "{name} comes twice");
    }
    families
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let inside = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).expect(labels);
    for pair in inside.split(',') {
        let (name, value) = pair.split_once('=').expect(pair);
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(pair);
        assert!(is_name(name) && !value.contains(['"', '\\', '\n']), "{pair}");
    }
}

fn check_histogram(name: &str, samples: &BTreeMap<String, f64>) {
    let bucket = |key: &str| Some(key.strip_prefix("_bucket{le=\"")?.strip_suffix("\"}")?.parse::<f64>().unwrap());
    let mut buckets: Vec<_> = samples.iter().filter_map(|(key, value)| Some((bucket(key)?, *value))).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: buckets add up");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, samples["_count"])), "{name}");
    assert!(samples.contains_key("_sum") && samples.len() == buckets.len() + 2, "{name}");
}
