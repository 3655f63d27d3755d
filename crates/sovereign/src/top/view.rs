//! The figures on a live terminal: a pure function from figures to a frame.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table};

use super::{EDGE_STATE, EDGES, Figures, SITE_STATE, SITES, UNIT_STATE, UNITS};

/// A header and what stands below it: each row with whether all is well in it.
struct Block<const N: usize> {
    header: [&'static str; N],
    state: usize,
    rows: Vec<([String; N], bool)>,
}

/// Draws everything that fits, edges first.
pub(crate) fn draw(frame: &mut Frame<'_>, figures: &Figures) {
    let edges = figures.edges.iter().map(|line| (line.cells(), line.well)).collect();
    let edges = Block { header: EDGES, state: EDGE_STATE, rows: edges };
    let sites = figures.sites.iter().map(|line| (line.cells(), line.well)).collect();
    let sites = Block { header: SITES, state: SITE_STATE, rows: sites };
    let units = figures.units.iter().map(|line| (line.cells(), line.well)).collect();
    let units = Block { header: UNITS, state: UNIT_STATE, rows: units };
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(edges.height()),
        Constraint::Length(sites.height()),
        Constraint::Length(units.height()),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    let [title, above, middle, below, _, foot] = areas.areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Line::styled(format!("Stack {}", figures.stack), bold), title);
    edges.draw(frame, above);
    sites.draw(frame, middle);
    units.draw(frame, below);
    frame.render_widget(Line::styled("q leaves", Style::new().add_modifier(Modifier::DIM)), foot);
}

impl<const N: usize> Block<N> {
    /// Header, rows, and an empty line below.
    fn height(&self) -> u16 {
        if self.rows.is_empty() { 0 } else { u16::try_from(self.rows.len()).unwrap_or(u16::MAX).saturating_add(2) }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let right = self.header.map(|name| name.starts_with('>'));
        let cell = |text: String, column: usize| {
            let side = if right[column] { Alignment::Right } else { Alignment::Left };
            Cell::from(Line::from(text).alignment(side))
        };
        let header = self.header.iter().enumerate().map(|(at, name)| cell(name.trim_start_matches('>').to_owned(), at));
        let header = Row::new(header).style(Style::new().add_modifier(Modifier::DIM));
        let rows = self.rows.iter().map(|(cells, well)| {
            Row::new(cells.iter().enumerate().map(|(at, text)| {
                let color = if *well { Color::Green } else { Color::Yellow };
                let style = if at == self.state { Style::new().fg(color) } else { Style::new() };
                cell(text.clone(), at).style(style)
            }))
        });
        let widths = (0..self.header.len()).map(|column| {
            let cells = self.rows.iter().map(|(cells, _)| cells[column].chars().count());
            let widest = cells.chain([self.header[column].trim_start_matches('>').len()]).max().unwrap_or(0);
            Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))
        });
        frame.render_widget(Table::new(rows, widths).header(header).column_spacing(2), area);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use sovereign_model::edge_status::EdgeStatus;

    use super::*;
    use crate::backup::Record;
    use crate::gather::Gathered;
    use crate::output::{Page, Report, Theme};
    use crate::top::Moment;

    /// The home edge after so many hits, misses and bytes.
    fn home(process: u32, hits: u64, misses: u64, sent: u64) -> EdgeStatus {
        let status = json!({
            "healthy": true, "draining": false, "version": "1", "process": process, "stack": "demo",
            "datacenter": "home", "generation": 1, "config-digest": format!("sha256:{}", "0".repeat(64)),
            "owns-store": true, "connections": 12,
            "traffic": {"hits": hits, "misses": misses, "stale": 1, "limited": misses, "connections-refused": hits / 100, "sent-bytes": sent, "received-bytes": 10},
            "sites": [{
                "site": "blog", "canonical": "https://blog.localhost:8443", "app": "ghost", "role": "primary",
                "primary": null, "epoch": 1, "superseded": false, "private": false, "complete": true,
                "pages-kept": 90, "pages-known": 100, "pages-stale": 1, "bytes": 1_234_567, "oldest-fetch-unix": 1_799_999_000,
                "newest-fetch-unix": null, "source": {"reachable": true, "last-error": null},
                "pass": {"reason": "sweep", "done": 30, "known": 100, "failed": 0}, "last-pass": null,
            }],
        });
        serde_json::from_value(status).unwrap()
    }

    fn moment(seconds: u64, home: EdgeStatus, cpu_ms: u64) -> Moment {
        let digest = format!("sha256:{}", "0".repeat(64));
        let usage = |cpu_ms| json!({"rss_bytes": 12_000_000, "pss_bytes": 9_000_000, "cpu_ms": cpu_ms});
        let supervisor = json!({
            "pid": 1, "incarnation": 1, "version": "1", "usage": usage(0), "keeper": null,
            "units": [{
                "name": "edge", "datacenter": "home", "state": "healthy", "problem": null, "wanted": digest,
                "running": digest, "pid": 7, "running_seconds": 5, "restarts": 2, "last_exit": null,
                "next_try_ms": null, "confinement": null, "confined": null, "usage": usage(cpu_ms), "sockets": [],
                "refused": null,
            }],
        });
        let edges = BTreeMap::from([
            ("home".parse().unwrap(), Ok(home)),
            ("office".parse().unwrap(), Err("it does not run".to_owned())),
        ]);
        let supervisor = Some(serde_json::from_value(supervisor).unwrap());
        let gathered = Gathered {
            supervisor,
            edges,
            agents: BTreeMap::new(),
            name_servers: BTreeMap::new(),
            renewers: BTreeMap::new(),
            hosts: BTreeMap::new(),
            evacuated: BTreeMap::new(),
            certificates: BTreeMap::new(),
            public: crate::certificates::known::Known::default(),
            outgoing: BTreeMap::new(),
            words_seen: None,
            backups: Record::default(),
            copies: crate::backup::copies::Copies::default(),
            decided: crate::datacenters::Datacenters::default(),
            zone_keys: crate::zone_keys::ZoneKeys::default(),
        };
        Moment { at: Duration::from_secs(seconds), unix: 1_800_000_000 + seconds, gathered }
    }

    fn figures(before: Option<&Moment>, now: &Moment) -> Figures {
        Figures::between("demo".parse().unwrap(), before, now)
    }

    fn drawn(figures: &Figures, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, figures)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_busy_second() {
        let (before, now) = (moment(10, home(7, 100, 10, 1000), 100), moment(12, home(7, 397, 13, 4_001_000), 600));
        let figures = figures(Some(&before), &now);
        insta::assert_snapshot!(drawn(&figures, 100, 16));
        let mut page = Page::new(Theme::PLAIN);
        figures.show(&mut page);
        insta::assert_snapshot!(page.into_text());
    }

    #[test]
    fn what_cannot_be_known_is_not_shown() {
        let first = moment(10, home(7, 100, 10, 1000), 100);
        insta::assert_snapshot!(drawn(&figures(None, &first), 100, 16));
        // Another process counts anew, and nobody asked anything.
        let line = figures(Some(&first), &moment(11, home(8, 3, 0, 5), 100)).edges.remove(0);
        assert_eq!((line.requests, line.sent_bytes), (None, None));
        let line = figures(Some(&first), &moment(11, home(7, 100, 10, 1000), 100)).edges.remove(0);
        assert_eq!((line.requests, line.hit_rate), (Some(0.0), None));
    }

    #[test]
    fn a_terminal_that_is_too_small_shows_what_fits() {
        let now = moment(10, home(7, 1, 1, 1), 1);
        for (width, height) in [(1, 1), (20, 3), (200, 5)] {
            drawn(&figures(None, &now), width, height);
        }
    }
}
