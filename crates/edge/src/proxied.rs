//! Another proxy in front: who the reader is, by the word of a proxy that the operator trusts, and of nobody else.
//!
//! | `speaks` | the connection begins with | the reader is |
//! |---|---|---|
//! | `proxy-protocol` | a header of the PROXY protocol, then TLS | in the header |
//! | `http` | an HTTP request, TLS was ended by the proxy | last in `X-Forwarded-For`, request by request |
//!
//! Promise: what a connection from any other address begins with is TLS, whatever it looks like. The header is bounded,
//! and read to its last byte and no further.
//!
//! Whom a proxy does not name is [`NOBODY`], and never the proxy: it may well stand on this machine, and a forgotten line
//! in its configuration would make every stranger a neighbour who may reach what is for neighbours only. So are the
//! proxy's own checks, and what else comes from loopback without a word: our own tools, the application's webhooks.
//!
//! Source: "The PROXY protocol, versions 1 & 2", by Willy Tarreau, 2020-03-05, sections 2.1 and 2.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use sovereign_model::edge_rules::{Proxy, ProxySpeech};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The 12 bytes a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, its line's end included (section 2.1).
const LONGEST_LINE: usize = 107;
/// Bytes of version 2 before addresses.
const FIXED: usize = 16;
/// Longest header of version 2 that is read: addresses, and extensions that are passed over.
const LONGEST: usize = 4096;
/// A reader whom nobody has named: the dummy address of RFC 7600 section 4.8, which no host has and no network routes.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));
/// A TLS record of a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Who opened it, as far as is known.
    pub(crate) reader: SocketAddr,
    pub(crate) speech: Speech,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Tls,
    /// HTTP/1.1 by a trusted proxy, which names a reader with each request.
    Http,
}

/// Whether `address` is one of the proxy's.
pub(crate) fn is_proxy(proxy: Option<&Proxy>, address: IpAddr) -> bool {
    proxy.is_some_and(|proxy| proxy.from.contains(&address.to_canonical()))
}

/// Finds out who is at the other end of `socket`, accepted from `peer`. What belongs to the proxy is read off it.
///
/// # Errors
/// When the connection breaks off, or a trusted proxy does not say what it should.
pub(crate) async fn arrive(socket: &mut TcpStream, peer: SocketAddr, proxy: Option<&Proxy>) -> io::Result<Arrival> {
    let Some(proxy) = proxy.filter(|proxy| is_proxy(Some(proxy), peer.ip())) else {
        return Ok(Arrival { reader: peer, speech: Speech::Tls });
    };
    let unnamed = Arrival { reader: SocketAddr::new(NOBODY, peer.port()), speech: Speech::Tls };
    let mut first = [0];
    let begins = if socket.peek(&mut first).await? == 1 { first[0] } else { return Err(closed()) };
    match (proxy.speaks, begins) {
        (ProxySpeech::Http, TLS_HANDSHAKE) => Ok(unnamed),
        (ProxySpeech::Http, _) => Ok(Arrival { speech: Speech::Http, ..unnamed }),
        (ProxySpeech::ProxyProtocol, TLS_HANDSHAKE) if peer.ip().to_canonical().is_loopback() => Ok(unnamed),
        (ProxySpeech::ProxyProtocol, _) => {
            let named = read_header(socket).await?;
            Ok(Arrival { reader: named.unwrap_or(unnamed.reader), ..unnamed })
        }
    }
}

async fn read_header(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    let mut ahead = [0; 256];
    loop {
        let seen = socket.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(closed());
        }
        let before = header.len();
        header.extend_from_slice(&ahead[..seen]);
        let (taken, named) = match parse(&header) {
            Header::Whole { length, reader } => (length - before, Some(reader)),
            Header::Begun => (seen, None),
            Header::Wrong => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a header of the PROXY protocol"));
            }
        };
        socket.read_exact(&mut ahead[..taken]).await?;
        if let Some(reader) = named {
            return Ok(reader);
        }
    }
}

fn closed() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// What a connection's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A whole header.
    Whole {
        /// Its bytes; what follows is not the proxy's.
        length: usize,
        /// Who the proxy speaks for; `None` for itself, or for somebody it cannot name.
        reader: Option<SocketAddr>,
    },
    /// The beginning of one.
    Begun,
    /// Something else.
    Wrong,
}

/// Reads the header that `bytes` begin with. Never looks beyond it.
pub fn parse(bytes: &[u8]) -> Header {
    let shared = bytes.len().min(SIGNATURE.len());
    if bytes[..shared] == SIGNATURE[..shared] {
        return if bytes.len() < FIXED { Header::Begun } else { version_2(bytes) };
    }
    match bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') {
        Some(end) => version_1(&bytes[..=end]),
        None if bytes.len() < LONGEST_LINE && b"PROXY ".iter().zip(bytes).all(|(wanted, found)| wanted == found) => {
            Header::Begun
        }
        None => Header::Wrong,
    }
}

/// `PROXY TCP4 192.0.2.7 192.0.2.1 51234 443`
fn version_1(line: &[u8]) -> Header {
    let length = line.len();
    let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let Some(rest) = text.and_then(|text| text.strip_prefix("PROXY ")) else { return Header::Wrong };
    let mut words = rest.split(' ');
    let reader = match words.next() {
        // Whatever else stands there is to be passed over.
        Some("UNKNOWN") => return Header::Whole { length, reader: None },
        Some(family @ ("TCP4" | "TCP6")) => (|| {
            let address: IpAddr = words.next()?.parse().ok()?;
            let _own: IpAddr = words.next()?.parse().ok()?;
            let (port, _own) = (words.next()?.parse::<u16>().ok()?, words.next()?.parse::<u16>().ok()?);
            (words.next().is_none() && address.is_ipv4() == (family == "TCP4")).then(|| SocketAddr::new(address, port))
        })(),
        _ => None,
    };
    reader.map_or(Header::Wrong, |reader| Header::Whole { length, reader: Some(reader) })
}

fn version_2(bytes: &[u8]) -> Header {
    let (command, family) = (bytes[12], bytes[13]);
    let length = FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if command >> 4 != 2 || command & 0xf > 1 || length > LONGEST {
        return Header::Wrong;
    }
    let Some(rest) = bytes.get(FIXED..length) else { return Header::Begun };
    // The reader's address, our own, the reader's port, our own.
    let reader = match (command & 0xf, family) {
        // The proxy asks for itself: a health check.
        (0, _) => return Header::Whole { length, reader: None },
        // TCP over IPv4.
        (_, 0x11) => rest.first_chunk::<12>().map(|[a, b, c, d, _, _, _, _, port @ .., _, _]| {
            SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes(*port)))
        }),
        // TCP over IPv6.
        (_, 0x21) => rest.first_chunk::<36>().and_then(|addresses| {
            let (ip, ports) = (addresses.first_chunk::<16>()?, addresses.last_chunk::<4>()?);
            Some(SocketAddr::from((Ipv6Addr::from(*ip), u16::from_be_bytes([ports[0], ports[1]]))))
        }),
        _ => return Header::Whole { length, reader: None },
    };
    reader.map_or(Header::Wrong, |reader| Header::Whole { length, reader: Some(reader) })
}

/// The reader that a trusted proxy names: it appends whom it sees, so only the last one is its own word.
pub(crate) fn forwarded_for(fields: &HeaderMap) -> IpAddr {
    let last = fields.get_all("x-forwarded-for").iter().next_back().and_then(|field| field.to_str().ok());
    let last = last.and_then(|field| field.rsplit(',').next()).unwrap_or_default().trim();
    let address = last.parse().or_else(|_| last.parse::<SocketAddr>().map(|address| address.ip()));
    address.unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn version_2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    fn named(header: &[u8]) -> Option<String> {
        match parse(header) {
            Header::Whole { length, reader } if length == header.len() => {
                Some(reader.map_or("itself".into(), |reader| reader.to_string()))
            }
            _ => None,
        }
    }

    #[test]
    fn version_1_names_the_reader() {
        let line = |text: &str| named(format!("{text}\r\n").as_bytes());
        assert_eq!(line("PROXY TCP4 192.0.2.7 192.0.2.1 51234 443").as_deref(), Some("192.0.2.7:51234"));
        assert_eq!(line("PROXY TCP6 2001:db8::7 ::1 51234 443").as_deref(), Some("[2001:db8::7]:51234"));
        assert_eq!(line("PROXY UNKNOWN").as_deref(), Some("itself"));
        assert_eq!(line("PROXY UNKNOWN ffff::1 ffff::2 1 2").as_deref(), Some("itself"));
        for wrong in [
            "PROXY",
            "PROXY TCP4",
            "PROXY TCP4 192.0.2.7 192.0.2.1 51234",
            "PROXY TCP4 2001:db8::7 ::1 1 2",
            "PROXY TCP4 192.0.2.7 192.0.2.1 51234 443 x",
            "PROXY TCP4 192.0.2.7 192.0.2.1 65536 443",
            "PROXY UDP4 192.0.2.7 192.0.2.1 1 2",
            "proxy TCP4 192.0.2.7 192.0.2.1 1 2",
            "GET / HTTP/1.1",
        ] {
            assert_eq!(line(wrong), None, "{wrong}");
        }
        assert_eq!(parse(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n"), Header::Wrong, "a line ends with both");
        assert_eq!(parse(&[b'P'; 200]), Header::Wrong);
    }

    #[test]
    fn version_2_names_the_reader() {
        let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0xc8, 0x22, 1, 0xbb];
        assert_eq!(named(&version_2_header(1, 0x11, &v4)).as_deref(), Some("192.0.2.7:51234"));
        let extended = [&v4[..], &[0x04, 0, 2, 1, 1]].concat();
        assert_eq!(named(&version_2_header(1, 0x11, &extended)).as_deref(), Some("192.0.2.7:51234"));
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::LOCALHOST.octets()[..], &[0, 80, 1, 0xbb]].concat();
        assert_eq!(named(&version_2_header(1, 0x21, &v6)).as_deref(), Some("[::1]:80"));
        assert_eq!(named(&version_2_header(0, 0, &[])).as_deref(), Some("itself"));
        assert_eq!(named(&version_2_header(1, 0x31, &[0; 216])).as_deref(), Some("itself"), "a unix socket");
        assert_eq!(parse(&version_2_header(1, 0x11, &v4[..11])), Header::Wrong, "too short for its family");
        assert_eq!(parse(&version_2_header(2, 0x11, &v4)), Header::Wrong);
        assert_eq!(parse(&version_2_header(0, 0, &[0; 5000])), Header::Wrong, "beyond the bound");
    }

    #[test]
    fn only_the_last_word_of_x_forwarded_for_is_the_proxys() {
        let said = |lines: &[&'static str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            forwarded_for(&fields).to_string()
        };
        assert_eq!(said(&["10.0.0.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(said(&["10.0.0.1", "2001:db8::7"]), "2001:db8::7");
        assert_eq!(said(&["192.0.2.7:51234"]), "192.0.2.7");
        assert_eq!(said(&["10.0.0.1, unknown"]), NOBODY.to_string());
        assert_eq!(said(&[]), NOBODY.to_string());
    }

    proptest! {
        /// Every header is found whole wherever it is cut, and nothing behind it is taken for its own.
        #[test]
        fn a_header_may_come_in_pieces(
            ports in any::<(u16, u16)>(),
            address in any::<u32>(),
            two in any::<bool>(),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let ip = Ipv4Addr::from(address);
            let header = if two {
                let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
                version_2_header(1, 0x11, &[&ip.octets()[..], &[192, 0, 2, 1], &ports[..]].concat())
            } else {
                format!("PROXY TCP4 {ip} 192.0.2.1 {} {}\r\n", ports.0, ports.1).into_bytes()
            };
            for cut in 1..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Header::Begun);
            }
            let whole = Header::Whole { length: header.len(), reader: Some((ip, ports.0).into()) };
            prop_assert_eq!(parse(&[&header[..], &behind[..]].concat()), whole);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Header::Whole { length, .. } = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
