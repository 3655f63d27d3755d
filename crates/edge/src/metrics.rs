//! An edge's figures in Prometheus' text format (version 0.0.4): a pure function of its status.

use std::fmt::{self, Write};

use sovereign_model::edge_status::{EdgeStatus, LATENCY_BOUNDS_MS, Role, RoomReport, SiteStatus, Traffic};

/// All figures of an edge. Names in labels need no quoting: stack, data centers and sites are letters, digits, hyphens.
pub(crate) fn render(status: &EdgeStatus) -> String {
    let mut text = String::with_capacity(4096);
    write_all(&mut text, status).expect("writing to a string cannot fail");
    text
}

fn write_all(out: &mut String, status: &EdgeStatus) -> fmt::Result {
    family(out, "sovereign_edge_info", "gauge", "Always 1; the labels say which edge this is.")?;
    let EdgeStatus { stack, datacenter, version, generation, .. } = status;
    writeln!(out, "sovereign_edge_info{{stack=\"{stack}\",datacenter=\"{datacenter}\",version=\"{version}\"}} 1")?;
    one(out, "sovereign_edge_generation", "gauge", "The configuration served.", *generation)?;
    one(out, "sovereign_edge_connections", "gauge", "Open connections.", status.connections as u64)?;
    if let Some(traffic) = &status.traffic {
        write_traffic(out, traffic)?;
    }
    write_sites(out, &status.sites)
}

fn write_traffic(out: &mut String, traffic: &Traffic) -> fmt::Result {
    let name = "sovereign_edge_requests_total";
    family(out, name, "counter", "Answers to readers, by where they came from.")?;
    for (from, count) in [
        ("hit", traffic.hits),
        ("stale", traffic.stale),
        ("source-away", traffic.away),
        ("miss", traffic.misses),
        ("passed", traffic.passed),
        ("edge", traffic.own),
    ] {
        writeln!(out, "{name}{{from=\"{from}\"}} {count}")?;
    }
    let name = "sovereign_edge_fetches_total";
    family(out, name, "counter", "Questions to sources, by what came of them.")?;
    for (outcome, count) in [
        ("kept", traffic.kept),
        ("confirmed", traffic.confirmed),
        ("unkept", traffic.unkept),
        ("failed", traffic.unanswered),
    ] {
        writeln!(out, "{name}{{outcome=\"{outcome}\"}} {count}")?;
    }
    let name = "sovereign_edge_source_seconds";
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
    for (name, help, count) in [
        ("sovereign_edge_handshakes_total", "TLS handshakes that ended well.", traffic.handshakes),
        ("sovereign_edge_handshakes_failed_total", "TLS handshakes that did not.", traffic.handshakes_failed),
        ("sovereign_edge_connections_total", "Connections taken.", traffic.connections),
        ("sovereign_edge_connections_refused_total", "Connections too many.", traffic.connections_refused),
        ("sovereign_edge_received_bytes_total", "Bytes from readers and peers, TLS included.", traffic.received_bytes),
        ("sovereign_edge_sent_bytes_total", "Bytes to readers and peers, TLS included.", traffic.sent_bytes),
    ] {
        one(out, name, "counter", help, count)?;
    }
    Ok(())
}

/// What is said of a site: the family's name, its help, and how its figure is read.
type Figure = (&'static str, &'static str, fn(&SiteStatus) -> u64);

const SITE_FIGURES: &[Figure] = &[
    ("sovereign_site_primary", "Whether the site is written here.", |site| (site.role == Role::Primary).into()),
    ("sovereign_site_complete", "Whether every known page is kept.", |site| site.complete.into()),
    ("sovereign_site_private", "Whether it is closed to the public.", |site| site.private.into()),
    ("sovereign_site_pages_kept", "Pages on disk.", |site| site.pages_kept as u64),
    ("sovereign_site_pages_known", "Pages known, kept or not.", |site| site.pages_known as u64),
    ("sovereign_site_pages_stale", "Kept pages that wait to be confirmed.", |site| site.pages_stale as u64),
    ("sovereign_site_pages_left_out", "Pages that there was no room for.", |site| {
        room(site, |room| room.left_out as u64)
    }),
    ("sovereign_site_bytes", "Bytes on disk.", |site| site.bytes),
    ("sovereign_site_bytes_known", "Bytes known to belong to the site, kept or not.", |site| site.bytes_known),
    ("sovereign_site_bytes_limit", "Bytes it could take; 0: unknown.", |site| {
        room(site, |room| room.limit.unwrap_or(0))
    }),
    ("sovereign_site_source_up", "Whether its source answers.", |site| (site.source.reachable != Some(false)).into()),
];

fn room(site: &SiteStatus, figure: fn(&RoomReport) -> u64) -> u64 {
    site.room.as_ref().map_or(0, figure)
}

fn write_sites(out: &mut String, sites: &[SiteStatus]) -> fmt::Result {
    for (name, help, figure) in SITE_FIGURES {
        family(out, name, "gauge", help)?;
        for site in sites {
            writeln!(out, "{name}{{site=\"{}\"}} {}", site.site, figure(site))?;
        }
    }
    Ok(())
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
            "connections": 2,
            "traffic": {
                "hits": 10, "stale": 1, "away": 2, "misses": 3, "passed": 4, "own": 5, "kept": 6, "confirmed": 7,
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
                "oldest-fetch-unix": null, "newest-fetch-unix": null, "source": {"reachable": false, "last-error": null}, "pass": null,
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
