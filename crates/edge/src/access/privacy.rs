//! What a line may say of a reader: pure functions from what was sent to what is written.
//!
//! The rule errs on the safe side, since nobody knows what a site's addresses carry: a parameter's value is written only
//! where its name is on a short list and the value is short and plain; a path is written but for what looks like an
//! identifier that was made to be unguessable. What is left out is a `*`.
//!
//! Everything that comes out is visible ASCII: nothing a reader sends ends a line or steers a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use percent_encoding::percent_decode_str;
use sovereign_model::edge_rules::AccessLog;

/// Parameters whose values say what was shown, not to whom.
const SHOWN: [&str; 16] = [
    "action",
    "dpr",
    "format",
    "h",
    "height",
    "limit",
    "order",
    "page",
    "ref",
    "size",
    "success",
    "utm_campaign",
    "utm_medium",
    "utm_source",
    "v",
    "width",
];
/// Longest value of a parameter that is shown.
const LONGEST_VALUE: usize = 32;
/// Longest name of a parameter that is shown: a longer one may be the secret itself.
const LONGEST_NAME: usize = 24;
/// A piece of a path with a digit in it is shown when it is shorter: words have no digits, and dates are short.
const LONG_PIECE: usize = 16;
/// The same for pieces joined by hyphens that are neither words nor names: capitals, small letters and digits mixed.
const LONG_RUN: usize = 20;

const LEFT_OUT: char = '*';

/// Adds the network a reader's address is in, or all of it, to `line`.
pub(super) fn push_reader(line: &mut Vec<u8>, address: IpAddr, log: AccessLog) {
    match address.to_canonical() {
        whole if log == AccessLog::Full => push(line, format_args!("{whole}")),
        IpAddr::V4(v4) => push_network(line, v4),
        IpAddr::V6(v6) => {
            push(line, format_args!("{}/48", Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 48))));
        }
    }
}

fn push(line: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    line.write_fmt(text).expect("memory takes it");
}

/// Most readers come this way, and formatting takes as long as all else in a line.
fn push_network(line: &mut Vec<u8>, address: Ipv4Addr) {
    let [first, second, third, _] = address.octets();
    for octet in [first, second, third] {
        line.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
        line.push(b'.');
    }
    line.extend_from_slice(b"0/24");
}

/// The origin of a `Referer`; `None` when it has none.
pub(super) fn referrer(field: &[u8]) -> Option<String> {
    let uri = Uri::try_from(field).ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    Some(format!("{scheme}://{}", host(uri.authority()?.as_str().as_bytes())))
}

/// A host, without the name and password that a URL may carry before it.
pub(super) fn host(sent: &[u8]) -> Cow<'_, str> {
    plain(sent.rsplit(|byte| *byte == b'@').next().unwrap_or_default())
}

/// `sent` as visible ASCII and spaces.
pub(super) fn plain(sent: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(sent) {
        // Nearly always.
        Ok(text) if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => Cow::Borrowed(text),
        _ => {
            let visible = |c| if matches!(c, ' '..='~') { c } else { LEFT_OUT };
            Cow::Owned(String::from_utf8_lossy(sent).chars().map(visible).collect())
        }
    }
}

/// A request's target without what may be a secret.
pub(super) fn target(sent: &[u8]) -> Cow<'_, str> {
    let sent = plain(sent);
    // Without these a secret has no place: nearly all requests.
    if !sent.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b'?' | b'%')) {
        return sent;
    }
    let (path, query) = sent.split_once('?').map_or((&*sent, None), |(path, query)| (path, Some(query)));
    let mut shown = String::with_capacity(sent.len());
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            shown.push('/');
        }
        push_segment(&mut shown, segment);
    }
    for (at, parameter) in query.into_iter().flat_map(|query| query.split(['&', ';'])).enumerate() {
        shown.push(if at == 0 { '?' } else { '&' });
        push_parameter(&mut shown, parameter);
    }
    shown.into()
}

fn push_segment(shown: &mut String, segment: &str) {
    // Spelled otherwise, the place of a secret in it is not known.
    if segment.contains('%') {
        let decoded: Cow<'_, str> = percent_decode_str(segment).decode_utf8_lossy();
        if runs(&decoded).any(may_be_secret) {
            return shown.push(LEFT_OUT);
        }
    }
    for run in runs(segment) {
        if may_be_secret(run) { shown.push(LEFT_OUT) } else { shown.push_str(run) }
    }
}

/// The parts of `segment`: letters, digits, `-` and `_` together, and what stands between.
fn runs(segment: &str) -> impl Iterator<Item = &str> {
    segment.split_inclusive(is_between).flat_map(|part| {
        let end = part.strip_suffix(is_between).map_or(part.len(), str::len);
        [&part[..end], &part[end..]]
    })
}

fn is_between(c: char) -> bool {
    !(c.is_alphanumeric() || matches!(c, '-' | '_'))
}

fn may_be_secret(run: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
    if run.len() < LONG_PIECE || !has(u8::is_ascii_digit) {
        return false;
    }
    let digits_in = |piece: &str| piece.bytes().any(|byte| byte.is_ascii_digit());
    let uuid = run.len() >= 32 && run.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let mixed = run.len() >= LONG_RUN && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    uuid || mixed || run.split(['-', '_']).any(|piece| piece.len() >= LONG_PIECE && digits_in(piece))
}

fn push_parameter(shown: &mut String, parameter: &str) {
    let (name, value) = match parameter.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (parameter, None),
    };
    let listed = SHOWN.contains(&name);
    // A name without a value may be the value.
    let plain_name = name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b'.'));
    if listed || (value.is_some() && name.len() <= LONGEST_NAME && plain_name) {
        shown.push_str(name);
    } else if !name.is_empty() {
        shown.push(LEFT_OUT);
    }
    let Some(value) = value else { return };
    shown.push('=');
    let plain_value = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if listed && value.len() <= LONGEST_VALUE && plain_value && !runs(value).any(may_be_secret) {
        shown.push_str(value);
    } else if !value.is_empty() {
        shown.push(LEFT_OUT);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(sent: &str) -> String {
        target(sent.as_bytes()).into_owned()
    }

    #[test]
    fn parameters_of_members_are_left_out() {
        for (sent, expected) in [
            ("/?token=IhTxz&action=signin&r=%2Fpost%2F", "/?token=*&action=signin&r=*"),
            ("/unsubscribe/?uuid=f1e2&key=abc&newsletter=7", "/unsubscribe/?uuid=*&key=*&newsletter=*"),
            ("/?TOKEN=x", "/?TOKEN=*"),
            ("/?%74oken=x", "/?*=*"),
            ("/?a=1;token=x", "/?a=*&token=*"),
            ("/?f00dcafef00dcafe", "/?*"),
            ("/?sesame", "/?*"),
            ("/?f00dcafef00dcafe=1", "/?*=*"),
            ("/?token=a?token=b&page=2", "/?token=*&page=2"),
            ("/?page=2&v=1a2b3c", "/?page=2&v=1a2b3c"),
            ("/?page=f00dcafef00dcafe", "/?page=*"),
            ("/?v=%0d%0a", "/?v=*"),
            ("/?page=&token=", "/?page=&token="),
            ("/?", "/?"),
            ("/?page", "/?page"),
        ] {
            assert_eq!(shown(sent), expected, "{sent}");
        }
    }

    #[test]
    fn what_cannot_be_guessed_is_left_out_of_a_path_and_titles_are_not() {
        for (sent, expected) in [
            ("/p/3d4e5f60-1a2b-4c3d-8e9f-0a1b2c3d4e5f/", "/p/*/"),
            ("/p/3d4e5f601a2b4c3d8e9f0a1b2c3d4e5f/", "/p/*/"),
            ("/p/3d4e5f60%2d1a2b-4c3d-8e9f-0a1b2c3d4e5f/", "/p/*/"),
            ("/reset/aGVsbG8-d29ybGQ_aGVsbG8/", "/reset/*/"),
            ("/s/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.sig/", "/s/*.*.sig/"),
            ("/assets/app-b1946ac92492d234.js", "/assets/*.js"),
            ("/our-trip-to-the-2024-olympics-in-paris-part-2/", "/our-trip-to-the-2024-olympics-in-paris-part-2/"),
            ("/content/images/size/w600/IMG_20251101_120000.jpg", "/content/images/size/w600/IMG_20251101_120000.jpg"),
            ("/content/images/2025/11/winter.jpg", "/content/images/2025/11/winter.jpg"),
            ("/caf%C3%A9/", "/caf%C3%A9/"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(shown(sent), expected, "{sent}");
        }
    }

    fn reader(address: IpAddr, log: AccessLog) -> String {
        let mut line = Vec::new();
        push_reader(&mut line, address, log);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn addresses_are_cut_unless_the_operator_wants_them_whole() {
        for (address, network, whole) in [
            ("203.0.113.77", "203.0.113.0/24", "203.0.113.77"),
            ("::ffff:203.0.113.77", "203.0.113.0/24", "203.0.113.77"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48", "2001:db8:1:2:3:4:5:6"),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(reader(address, AccessLog::Truncated), network);
            assert_eq!(reader(address, AccessLog::Full), whole);
        }
    }

    #[test]
    fn of_a_referrer_the_origin_stays() {
        for (sent, expected) in [
            ("https://news.example/item?id=7&token=x#y", Some("https://news.example")),
            ("https://me:secret@news.example:8443/", Some("https://news.example:8443")),
            ("https://news.example", Some("https://news.example")),
            ("android-app://com.example/", None),
            ("/only/a/path", None),
            ("about:blank", None),
            ("\u{fffd}", None),
        ] {
            assert_eq!(referrer(sent.as_bytes()).as_deref(), expected, "{sent}");
        }
    }

    #[test]
    fn nothing_that_is_written_steers_a_terminal() {
        assert_eq!(plain(b"a\x1b[2J\n\x9b\xe2\x80\xaeb\x7f"), "a*[2J***b*");
        assert_eq!(shown("/\u{9b}2J"), "/*2J");
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_visible_ascii(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for text in [target(&bytes), plain(&bytes), host(&bytes), referrer(&bytes).unwrap_or_default().into()] {
                prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
            }
        }

        #[test]
        fn a_value_of_an_unknown_name_is_never_written(name in "[a-z]{1,12}", value in "[A-Za-z0-9%._-]{5,60}") {
            prop_assume!(!SHOWN.contains(&&*name) && !SHOWN.contains(&&*value) && !name.contains(&*value));
            let shown = shown(&format!("/?page=1&{name}={value}&{value}"));
            prop_assert!(!shown.contains(&*value), "{shown}");
        }
    }
}
