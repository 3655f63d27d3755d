//! An edge's figures in Prometheus' text format (version 0.0.4): a pure function of its status.

use std::fmt::{self, Write};

use sovereign_model::access_entry::CameFrom;
use sovereign_model::edge_status::{EdgeStatus, LATENCY_BOUNDS_MS, Role, SiteStatus, Traffic};

/// All figures of an edge. Names in labels need no quoting: stack, data centers, hosts and sites are letters, digits, hyphens.
pub(crate) fn render(status: &EdgeStatus) -> String {
    let mut text = String::with_capacity(4096);
    write_all(&mut text, status).expect("writing to a string cannot fail");
    text
}

fn write_all(out: &mut String, status: &EdgeStatus) -> fmt::Result {
    family(out, "sovereign_edge_info", "gauge", "Always 1; the labels say which edge this is.")?;
    let EdgeStatus { stack, datacenter, version, generation, .. } = status;
    let host = status.host.as_ref().map_or_else(String::new, |host| format!("host=\"{host}\","));
    let labels = format!("stack=\"{stack}\",datacenter=\"{datacenter}\",{host}version=\"{version}\"");
    writeln!(out, "sovereign_edge_info{{{labels}}} 1")?;
    one(out, "sovereign_edge_generation", "gauge", "The configuration served.", *generation)?;
    one(out, "sovereign_edge_store_owner", "gauge", "Whether it writes to the store.", status.owns_store.into())?;
    one(out, "sovereign_edge_connections_open", "gauge", "Connections, this one included.", status.connections as u64)?;
    if let Some(ends) = status.certificate_ends_unix {
        let name = "sovereign_edge_certificate_not_after_timestamp_seconds";
        one(out, name, "gauge", "When the certificate ends.", ends)?;
    }
    let public = status.public_certificates.iter().filter_map(|(name, told)| Some((name, told.ends_unix?)));
    let public: Vec<_> = public.collect();
    if !public.is_empty() {
        let metric = "sovereign_edge_public_certificate_not_after_timestamp_seconds";
        family(out, metric, "gauge", "When the certificate of a public authority for a name ends.")?;
        public.iter().try_for_each(|(name, ends)| writeln!(out, "{metric}{{name=\"{name}\"}} {ends}"))?;
    }
    if let Some(traffic) = &status.traffic {
        write_traffic(out, traffic)?;
    }
    if let Some(log) = &status.access_log {
        let name = "sovereign_edge_access_log_entries_total";
        let help = "Entries of the access log: in the file, or dropped because the disk did not take them.";
        labelled(out, name, help, "outcome", &[("written", log.written), ("dropped", log.dropped)])?;
        let up = u64::from(log.problem.is_none());
        one(out, "sovereign_edge_access_log_up", "gauge", "Whether the access log is being written.", up)?;
    }
    write_sites(out, &status.sites)
}

fn write_traffic(out: &mut String, traffic: &Traffic) -> fmt::Result {
    let answers = [
        (CameFrom::Hit, traffic.hits),
        (CameFrom::Stale, traffic.stale),
        (CameFrom::SourceAway, traffic.away),
        (CameFrom::Miss, traffic.misses),
        (CameFrom::Passed, traffic.passed),
        (CameFrom::Edge, traffic.own),
    ];
    let answers = answers.map(|(from, count)| (from.as_str(), count));
    let help = "Answers to readers, by where they came from.";
    labelled(out, "sovereign_edge_requests_total", help, "from", &answers)?;
    let help = "Answers that told a reader to ask less often; among those from the edge.";
    one(out, "sovereign_edge_requests_limited_total", "counter", help, traffic.limited)?;
    let help = "Questions of other edges.";
    one(out, "sovereign_edge_link_requests_total", "counter", help, traffic.asked_by_edges)?;
    let fetches = [
        ("kept", traffic.kept),
        ("confirmed", traffic.confirmed),
        ("unkept", traffic.unkept),
        ("failed", traffic.unanswered),
    ];
    let help = "Questions to sources, by what came of them.";
    labelled(out, "sovereign_edge_fetches_total", help, "outcome", &fetches)?;
    let name = "sovereign_edge_source_duration_seconds";
    family(out, name, "histogram", "How long sources took to begin an answer.")?;
    let mut sum = 0;
    for (bound, count) in LATENCY_BOUNDS_MS.iter().zip(&traffic.source_latency.buckets) {
        sum += count;
        writeln!(out, "{name}_bucket{{le=\"{}\"}} {sum}", *bound as f64 / 1000.0)?;
    }
    let count = traffic.source_latency.count();
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_sum {}", traffic.source_latency.microseconds as f64 / 1e6)?;
    writeln!(out, "{name}_count {count}")?;
    let handshakes = [("ok", traffic.handshakes), ("failed", traffic.handshakes_failed)];
    let help = "TLS handshakes, by how they ended.";
    labelled(out, "sovereign_edge_tls_handshakes_total", help, "outcome", &handshakes)?;
    for (name, help, count) in [
        ("sovereign_edge_connections_accepted_total", "Connections taken.", traffic.connections),
        ("sovereign_edge_connections_refused_total", "Connections too many.", traffic.connections_refused),
        ("sovereign_edge_received_bytes_total", "Bytes from readers and peers, TLS included.", traffic.received_bytes),
        ("sovereign_edge_sent_bytes_total", "Bytes to readers and peers, TLS included.", traffic.sent_bytes),
    ] {
        one(out, name, "counter", help, count)?;
    }
    Ok(())
}

/// What is said of a site: the family's name, its help, and how its figure is read, where it is known.
type Figure = (&'static str, &'static str, fn(&SiteStatus) -> Option<u64>);

const SITE_FIGURES: &[Figure] = &[
    ("sovereign_site_primary", "Whether it is written here.", |site| Some((site.role == Role::Primary).into())),
    ("sovereign_site_epoch", "Which primary this is, counted.", |site| Some(site.epoch)),
    ("sovereign_site_superseded", "Whether there is a newer primary.", |site| Some(site.superseded.into())),
    ("sovereign_site_private", "Whether it is closed to the public.", |site| Some(site.private.into())),
    ("sovereign_site_complete", "Whether every known page is kept.", |site| Some(site.complete.into())),
    ("sovereign_site_pages_kept", "Pages on disk.", |site| Some(site.pages_kept as u64)),
    ("sovereign_site_pages_known", "Pages known, kept or not.", |site| Some(site.pages_known as u64)),
    ("sovereign_site_pages_stale", "Kept pages that wait to be confirmed.", |site| Some(site.pages_stale as u64)),
    ("sovereign_site_pages_left_out", "Pages that there was no room for.", |site| {
        site.room.as_ref().map(|room| room.left_out as u64)
    }),
    ("sovereign_site_store_bytes", "Bytes of kept pages.", |site| Some(site.bytes)),
    ("sovereign_site_known_bytes", "Bytes of all pages known, kept or not.", |site| Some(site.bytes_known)),
    ("sovereign_site_limit_bytes", "Bytes that the site could take.", |site| site.room.as_ref()?.limit),
    (
        "sovereign_site_oldest_confirmed_timestamp_seconds",
        "When the page confirmed longest ago was confirmed.",
        |site| site.oldest_fetch_unix,
    ),
    ("sovereign_site_newest_confirmed_timestamp_seconds", "When a page was last confirmed.", |site| {
        site.newest_fetch_unix
    }),
    ("sovereign_site_source_up", "Whether its source answered last.", |site| site.source.reachable.map(u64::from)),
];

fn write_sites(out: &mut String, sites: &[SiteStatus]) -> fmt::Result {
    for (name, help, figure) in SITE_FIGURES {
        family(out, name, "gauge", help)?;
        for (site, figure) in sites.iter().filter_map(|site| Some((site, figure(site)?))) {
            writeln!(out, "{name}{{site=\"{}\"}} {figure}", site.site)?;
        }
    }
    Ok(())
}

/// A counter with one label.
fn labelled(out: &mut String, name: &str, help: &str, label: &str, counts: &[(&str, u64)]) -> fmt::Result {
    family(out, name, "counter", help)?;
    counts.iter().try_for_each(|(value, count)| writeln!(out, "{name}{{{label}=\"{value}\"}} {count}"))
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: u64) -> fmt::Result {
    family(out, name, kind, help)?;
    writeln!(out, "{name} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_figures() {
        let status = serde_json::json!({
            "healthy": true, "draining": false, "version": "1.2.3", "process": 7, "stack": "demo", "datacenter": "office",
            "generation": 3, "config-digest": format!("sha256:{}", "0".repeat(64)), "owns-store": true,
            "connections": 2, "certificate-ends-unix": 1_900_000_000,
            "access-log": {"written": 17, "dropped": 18, "problem": "the disk is full"},
            "traffic": {
                "hits": 10, "stale": 1, "away": 2, "misses": 3, "passed": 4, "own": 5, "limited": 1, "kept": 6, "confirmed": 7,
                "unkept": 8, "unanswered": 9, "handshakes": 11, "handshakes-failed": 12, "connections": 13,
                "connections-refused": 14, "received-bytes": 15, "sent-bytes": 16,
                "source-latency": {"buckets": [1, 0, 2, 0, 0, 0, 0, 0, 0, 1], "microseconds": 40_500_000},
            },
            "sites": [{
                "site": "blog", "canonical": "https://blog.localhost:8443", "app": "ghost", "role": "mirror",
                "primary": "home", "epoch": 1, "superseded": false, "private": false, "complete": true,
                "pages-kept": 90, "pages-known": 100, "pages-stale": 1, "bytes": 1000, "bytes-known": 1500,
                "room": {"keep": "budget", "budget": 1200, "limit": 1100, "page-bytes": 300, "left-out": 2,
                    "left-out-bytes": 500},
                "oldest-fetch-unix": 1_800_000_000, "newest-fetch-unix": null, "source": {"reachable": false, "last-error": null}, "pass": null,
                "last-pass": null,
            }],
        });
        let text = render(&serde_json::from_value(status).unwrap());
        let figures: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        insta::assert_snapshot!(figures.join("\n"));
        // Every family is announced once, before its figures.
        let mut families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        families.sort_unstable();
        assert!(families.windows(2).all(|pair| pair[0] != pair[1]), "{families:?}");
    }
}
