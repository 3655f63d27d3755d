//! The forms a text in the stack file can have: one place that says what is allowed, for the parser and for the schema.

use std::net::{IpAddr, SocketAddr};

use crate::archive_copy::{DiskUuid, SftpAddress};
use crate::authority::DirectoryUrl;
use crate::interval::{Interval, InvalidInterval};
use crate::name::{DnsName, InvalidName, SiteName};
use crate::network::{InvalidNetwork, Network};
use crate::size::ByteSize;
use crate::ssh::HostKey;

/// What a text must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text, a line break included.
    Prose,
    /// One line of text, not empty.
    Line,
    /// A DNS label (RFC 1123 section 2.1) of at most so many characters.
    Label {
        /// The limit, in characters.
        most: usize,
    },
    /// A host name (RFC 1123 section 2.1).
    HostName,
    /// An IPv4 or IPv6 address.
    Address,
    /// `dynamic`, or an IPv4 or IPv6 address.
    UplinkAddress,
    /// An IPv4 or IPv6 address with a TCP port.
    Socket,
    /// An IPv4 or IPv6 network.
    Network,
    /// A path of a site.
    Path,
    /// A folder; a relative one starts at the folder of the stack file.
    Folder,
    /// A file; a relative path starts at the folder of the stack file.
    File,
    /// An ISO 3166-1 alpha-2 code.
    Jurisdiction,
    /// A language tag in the shape of BCP 47 (RFC 5646 section 2.1).
    Language,
    /// A time zone in the shape of the IANA database (`Europe/Zurich`, `UTC`).
    Timezone,
    /// `#rrggbb`.
    Color,
    /// A number of bytes with a unit.
    Size,
    /// How often something is done.
    Interval,
    /// The UUID of a file system.
    Disk,
    /// `user@host:port/folder`.
    Sftp,
    /// The public key of an SSH host.
    HostKey,
    /// A record of a zone file (RFC 1035 section 5.1).
    Record,
    /// The address of an ACME directory.
    Directory,
    /// A name and a type of records.
    RecordSet,
}

/// Why a text does not have a form, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Complaint {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

impl Form {
    /// The form in words, for the reference.
    pub fn about(self) -> &'static str {
        match self {
            Self::Prose => "text",
            Self::Line => "one line of text",
            Self::Label { .. } => "name: a-z, 0-9 and `-`",
            Self::HostName => "host name",
            Self::Address => "IP address",
            Self::UplinkAddress => "`\"dynamic\"` or IP address",
            Self::Socket => "IP address and port",
            Self::Network => "network: `\"192.168.1.0/24\"`",
            Self::Path => "path: begins with `/`",
            Self::Folder => "folder",
            Self::File => "file",
            Self::Jurisdiction => "two-letter code (ISO 3166-1)",
            Self::Language => "language tag (BCP 47)",
            Self::Timezone => "time zone (IANA)",
            Self::Color => "color `#rrggbb`",
            Self::Size => "size: `\"20 GB\"`",
            Self::Interval => "interval: `\"6h\"`, `\"weekly\"`, `\"never\"`",
            Self::Disk => "UUID of a file system",
            Self::Sftp => "`\"user@host:port/folder\"`",
            Self::HostKey => "public key of an SSH host",
            Self::Record => "record of a zone file, on one line",
            Self::Directory => "address: `\"https://...\"`",
            Self::RecordSet => "name, and type of records",
        }
    }

    /// A regular expression (ECMA 262) that every text of this form matches; `None` where none helps.
    pub fn pattern(self) -> Option<String> {
        const LABEL: &str = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
        Some(match self {
            Self::Prose | Self::Address | Self::UplinkAddress | Self::Socket => return None,
            Self::Network => "^[0-9A-Fa-f.:]+/[0-9]{1,3}$".to_owned(),
            Self::Path => "^/[!-~]*$".to_owned(),
            Self::Line | Self::Record | Self::RecordSet => "^[^\\n\\r]+$".to_owned(),
            Self::Label { most } => format!("^(?=.{{1,{most}}}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?$"),
            Self::HostName => format!("^(?=.{{1,253}}$){LABEL}(\\.{LABEL})*$"),
            Self::Folder | Self::File => "^[^~]".to_owned(),
            Self::Jurisdiction => "^[A-Za-z]{2}$".to_owned(),
            Self::Language => "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$".to_owned(),
            Self::Timezone => "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$".to_owned(),
            Self::Color => "^#[0-9A-Fa-f]{6}$".to_owned(),
            Self::Size => "^[0-9]+ ?([kKmMgGtT]([iI])?)?[bB]$".to_owned(),
            Self::Interval => "^([0-9]+[mhdw]|hourly|daily|weekly|monthly|never)$".to_owned(),
            Self::Disk => "^[0-9A-Fa-f-]{4,64}$".to_owned(),
            Self::Sftp => "^[A-Za-z0-9._+][A-Za-z0-9._+-]*@[^/@]+/.+$".to_owned(),
            Self::Directory => "^https://[^/@]+(/.*)?$".to_owned(),
            Self::HostKey => "^(ssh|ecdsa|sk)-[A-Za-z0-9.@-]+ +AAAA[A-Za-z0-9+/=]+( .*)?$".to_owned(),
        })
    }

    /// Checks a text.
    pub(super) fn check(self, text: &str) -> Result<(), Complaint> {
        match self {
            Self::Prose => Ok(()),
            Self::Line | Self::Record | Self::RecordSet if text.trim().is_empty() => {
                Err(Complaint::new("this cannot be empty", "write a word or two"))
            }
            Self::Line | Self::Record | Self::RecordSet if text.chars().any(char::is_control) => {
                Err(Complaint::new("this must fit on one line", "leave out line breaks and tabs"))
            }
            // Names in it are relative to its domain, which is known where domains are checked.
            Self::Line | Self::Record | Self::RecordSet => Ok(()),
            Self::Label { most } => label(text, most),
            Self::HostName => host_name(text),
            Self::Address => address(text, "write an IPv4 or IPv6 address, \"192.0.2.1\" say"),
            Self::UplinkAddress if text == "dynamic" => Ok(()),
            Self::UplinkAddress => address(text, "write an address, or \"dynamic\" when the provider changes it"),
            Self::Socket => socket(text),
            Self::Network => network(text),
            Self::Path => path(text),
            Self::Folder if text.is_empty() => {
                Err(Complaint::new("a folder cannot be empty", "write \".\" for the folder of this file"))
            }
            Self::File if text.is_empty() => Err(Complaint::new("this cannot be empty", "write the name of a file")),
            Self::Folder | Self::File if text.starts_with('~') => Err(Complaint::new(
                "`~` has no meaning here",
                "write the whole path, or one relative to the folder of this file",
            )),
            Self::Folder | Self::File if text.contains('\0') => {
                Err(Complaint::new("a path cannot contain a NUL", "leave it out"))
            }
            Self::Folder | Self::File => Ok(()),
            Self::Jurisdiction if text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic()) => Ok(()),
            Self::Jurisdiction => Err(Complaint::new(
                format!("{text:?} is not a jurisdiction"),
                "write the two letters of ISO 3166-1, \"CH\" for Switzerland say",
            )),
            Self::Language => language(text),
            Self::Timezone => timezone(text),
            Self::Color => color(text),
            Self::Size => size(text),
            Self::Interval => interval(text),
            Self::Disk => text.parse::<DiskUuid>().map(drop).map_err(|not| {
                Complaint::new(
                    not.to_string(),
                    "`lsblk --output NAME,LABEL,UUID` prints them; `ls /dev/disk/by-uuid` too",
                )
            }),
            Self::Sftp => text.parse::<SftpAddress>().map(drop).map_err(|not| {
                let help = "write \"user@host:port/folder\"; the port may be left out, and a folder of the user's home \
                            is written \"user@host/~/folder\"";
                Complaint::new(not.to_string(), help)
            }),
            Self::Directory => text.parse::<DirectoryUrl>().map(drop).map_err(|not| {
                Complaint::new(not.to_string(), "write it whole: \"https://ca.example.org/acme/directory\"")
            }),
            Self::HostKey => text.parse::<HostKey>().map(drop).map_err(|not| {
                let help = "write what is in /etc/ssh/ssh_host_ed25519_key.pub on that host: \"ssh-ed25519 AAAA...\"";
                Complaint::new(not.to_string(), help)
            }),
        }
    }
}

fn label(text: &str, most: usize) -> Result<(), Complaint> {
    if text.len() > most {
        return Err(Complaint::new(
            format!("{text:?} has {} characters, {most} are allowed", text.len()),
            "choose a shorter name",
        ));
    }
    text.parse::<SiteName>().map(drop).map_err(|invalid| {
        let fit = fitting(text, false);
        Complaint { message: invalid.to_string(), help: fit.map(|fit| format!("`{fit}` would do")) }
    })
}

fn host_name(text: &str) -> Result<(), Complaint> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(Complaint::new(format!("{text:?} is an address, not a host name"), "a site is reached by name"));
    }
    text.parse::<DnsName>().map(drop).map_err(|invalid| {
        let help = if text.contains("://") {
            Some("write the host name alone, without `https://`".to_owned())
        } else if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            Some("write the host name alone: the port is the uplink's".to_owned())
        } else if text.ends_with('.') {
            Some("leave out the dot at the end".to_owned())
        } else if !text.is_ascii() {
            Some("write the name as it stands in DNS, in ASCII (`xn--...`)".to_owned())
        } else {
            fitting(text, true).map(|fit| format!("`{fit}` would do"))
        };
        let message = match invalid {
            InvalidName::Empty => "a host name cannot be empty".to_owned(),
            other => format!("bad host name: {other}"),
        };
        Complaint { message, help }
    })
}

/// The nearest text that is a name, when there is one.
fn fitting(text: &str, dots: bool) -> Option<String> {
    let mapped: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || (dots && c == '.') { c } else { '-' })
        .collect();
    let parts: Vec<&str> =
        mapped.split('.').map(|part| part.trim_matches('-')).filter(|part| !part.is_empty()).collect();
    let fit = parts.join(".");
    let valid = if dots { fit.parse::<DnsName>().is_ok() } else { fit.parse::<SiteName>().is_ok() };
    valid.then_some(fit)
}

fn address(text: &str, help: &str) -> Result<(), Complaint> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let with_port = text.parse::<SocketAddr>().is_ok();
    let help = if with_port { "write the port under a key of its own, `port`" } else { help };
    Err(Complaint::new(format!("{text:?} is not an address"), help))
}

fn socket(text: &str) -> Result<(), Complaint> {
    match text.parse::<SocketAddr>() {
        Ok(place) if place.port() != 0 && !place.ip().is_unspecified() => Ok(()),
        _ => Err(Complaint::new(
            format!("{text:?} is not where a service can be reached"),
            "write its address and port, \"127.0.0.1:3000\" or \"[::1]:3000\" say",
        )),
    }
}

fn network(text: &str) -> Result<(), Complaint> {
    text.parse::<Network>().map(drop).map_err(|invalid| {
        let help = match &invalid {
            InvalidNetwork::Senseless(_) => {
                "write an address and how many bits of it all have in common: \"192.168.1.0/24\"".to_owned()
            }
            InvalidNetwork::Everything(_) => "write the network of the data center's own people alone".to_owned(),
            InvalidNetwork::Amid { network, .. } => format!("`{network}` would do"),
        };
        Complaint::new(invalid.to_string(), help)
    })
}

fn path(text: &str) -> Result<(), Complaint> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let help = "begin with a slash and write it as it stands in an address, \"/private/\" say";
    Err(Complaint::new(format!("{text:?} is not a path of a site"), help))
}

fn language(text: &str) -> Result<(), Complaint> {
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    let well_formed = (2..=8).contains(&first.len())
        && first.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if well_formed {
        return Ok(());
    }
    Err(Complaint::new(format!("{text:?} is not a language tag"), "write it like \"en\" or \"pt-BR\" (BCP 47)"))
}

fn timezone(text: &str) -> Result<(), Complaint> {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-'))
    };
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.split('/').all(part) {
        return Ok(());
    }
    Err(Complaint::new(format!("{text:?} is not a time zone"), "write it like \"Europe/Zurich\" or \"UTC\""))
}

fn color(text: &str) -> Result<(), Complaint> {
    let digits = text.strip_prefix('#').unwrap_or_default();
    if digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Complaint::new(format!("{text:?} is not a color"), "write it like \"#15171a\""))
}

fn size(text: &str) -> Result<(), Complaint> {
    text.parse::<ByteSize>().map(drop).map_err(|invalid| {
        Complaint::new(invalid.to_string(), "write a whole number and a unit: \"500 MB\", \"20 GB\", \"32 KiB\"")
    })
}

fn interval(text: &str) -> Result<(), Complaint> {
    text.parse::<Interval>().map(drop).map_err(|invalid| {
        let help = match invalid {
            InvalidInterval::Senseless(_) => {
                "write a whole number of minutes, hours, days or weeks, as \"30m\", \"6h\", \"2d\", \"1w\", or \
                 \"hourly\", \"daily\", \"weekly\", \"monthly\" or \"never\""
            }
            InvalidInterval::Bounds(_) => "write something between \"15m\" and \"366d\", or \"never\"",
        };
        Complaint::new(invalid.to_string(), help)
    })
}
