//! Addresses in style sheets: `url(…)` and `@import "…"`.

/// Longer ones are data, not addresses. Without a bound, a sheet of openings without an end takes the square of its length.
const LONGEST: usize = 4096;

/// Gives every address in `text`.
pub(super) fn addresses(text: &str, take: &mut impl FnMut(&str)) {
    for (at, _) in text.match_indices('(') {
        if ends_with_url(&text.as_bytes()[..at]) {
            argument(&text[at + 1..], take);
        }
    }
    for (at, import) in text.match_indices("@import") {
        let rest = text[at + import.len()..].trim_start();
        if rest.starts_with(['"', '\'']) {
            argument(rest, take);
        }
    }
}

fn ends_with_url(before: &[u8]) -> bool {
    before.last_chunk::<3>().is_some_and(|name| name.eq_ignore_ascii_case(b"url"))
}

/// One address, quoted or up to the closing parenthesis, on one line.
fn argument(text: &str, take: &mut impl FnMut(&str)) {
    let text = text.trim_start();
    let text = text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end]);
    let line = text.lines().next().unwrap_or_default();
    let (line, end) = match line.chars().next() {
        Some(quote @ ('"' | '\'')) => (&line[1..], quote),
        _ => (line, ')'),
    };
    if let Some((address, _)) = line.split_once(end) {
        take(address);
    }
}
