//! The format of the stack file, declared once.
//!
//! The parser, the JSON Schema and the reference page are all made from these tables, so that they cannot disagree.
//! What a table cannot say (a mirror is another data center than the primary) is checked in the module `check` beside this one.

use super::form::Form;

/// The version of the format that this binary writes, and the newest it reads.
pub const VERSION: i64 = 1;

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its path in the file, dots between; empty for the file itself.
    pub path: &'static str,
    /// How it is written.
    pub shape: Shape,
    /// What it describes.
    pub about: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
}

impl Section {
    /// The table as its header is written: `[stack]`, `[[datacenter]]`.
    pub fn heading(&self) -> String {
        match self.shape {
            Shape::File => "the file".to_owned(),
            Shape::Table => format!("[{}]", self.path),
            Shape::Tables => format!("[[{}]]", self.path),
            Shape::Inline => self.path.rsplit('.').next().unwrap_or_default().to_owned(),
        }
    }

    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The tables directly below.
    pub fn below(&self) -> impl Iterator<Item = &'static Section> {
        self.keys.iter().filter_map(|key| match key.kind {
            Kind::Section(section) | Kind::Sections { of: section, .. } => Some(section),
            _ => None,
        })
    }
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The top of the file.
    File,
    /// `[name]`.
    Table,
    /// `[[name]]`, once for each.
    Tables,
    /// `{ ... }` on one line.
    Inline,
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it must be there.
    pub presence: Presence,
    /// What it means.
    pub about: &'static str,
    /// A value as written in the file; empty for tables.
    pub example: &'static str,
}

/// Whether a key must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must.
    Required,
    /// It may be left out.
    Optional,
    /// It may be left out, and then has this value (as written in the file).
    Default(&'static str),
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number between the two, both included.
    Integer {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// A number between the two, both included.
    Number {
        /// The smallest.
        least: f64,
        /// The largest.
        most: f64,
    },
    /// `true` or `false`.
    Flag,
    /// A text of a form.
    Text(Form),
    /// A list of texts of a form.
    Texts(Form),
    /// One of some words.
    Words(&'static [Word]),
    /// A table.
    Section(&'static Section),
    /// Any number of tables, but not fewer than `least`.
    Sections {
        /// What each of them is.
        of: &'static Section,
        /// How many there must be.
        least: usize,
    },
}

/// A word that a key takes.
#[derive(Debug)]
pub struct Word {
    /// The word.
    pub text: &'static str,
    /// What it means.
    pub about: &'static str,
    /// `None` when it can be used; otherwise what to do instead.
    pub instead: Option<&'static str>,
}

impl Word {
    const fn new(text: &'static str, about: &'static str) -> Self {
        Self { text, about, instead: None }
    }
}

/// The whole file.
pub static FILE: Section = Section {
    path: "",
    shape: Shape::File,
    about: "Everything one operator declares.",
    keys: &[
        Key {
            name: "version",
            kind: Kind::Integer { least: 1, most: VERSION },
            presence: Presence::Required,
            about: "The version of this format. A binary refuses files that are newer than itself.",
            example: "1",
        },
        Key {
            name: "stack",
            kind: Kind::Section(&STACK),
            presence: Presence::Required,
            about: STACK.about,
            example: "",
        },
        Key {
            name: "datacenter",
            kind: Kind::Sections { of: &DATACENTER, least: 1 },
            presence: Presence::Required,
            about: DATACENTER.about,
            example: "",
        },
        Key {
            name: "domain",
            kind: Kind::Sections { of: &DOMAIN, least: 0 },
            presence: Presence::Optional,
            about: DOMAIN.about,
            example: "",
        },
        Key {
            name: "secondary",
            kind: Kind::Sections { of: &SECONDARY, least: 0 },
            presence: Presence::Optional,
            about: SECONDARY.about,
            example: "",
        },
        Key {
            name: "provider",
            kind: Kind::Sections { of: &PROVIDER, least: 0 },
            presence: Presence::Optional,
            about: PROVIDER.about,
            example: "",
        },
        Key {
            name: "site",
            kind: Kind::Sections { of: &SITE, least: 0 },
            presence: Presence::Optional,
            about: SITE.about,
            example: "",
        },
        Key {
            name: "archive",
            kind: Kind::Section(&ARCHIVE),
            presence: Presence::Optional,
            about: ARCHIVE.about,
            example: "",
        },
        Key { name: "edge", kind: Kind::Section(&EDGE), presence: Presence::Optional, about: EDGE.about, example: "" },
        Key {
            name: "authority",
            kind: Kind::Sections { of: &AUTHORITY, least: 0 },
            presence: Presence::Optional,
            about: AUTHORITY.about,
            example: "",
        },
    ],
};

const LABEL: Form = Form::Label { most: 63 };

static STACK: Section = Section {
    path: "stack",
    shape: Shape::Table,
    about: "The stack itself.",
    keys: &[Key {
        name: "name",
        kind: Kind::Text(LABEL),
        presence: Presence::Required,
        about: "Its name. The folder of its state and every secret made for it depend on the name, so choose it once.",
        example: "\"my-stack\"",
    }],
};

static DATACENTER: Section = Section {
    path: "datacenter",
    shape: Shape::Tables,
    about: "A place with hosts: a home, an office, a rack.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::Label { most: 40 }),
            presence: Presence::Required,
            about: "Its name, unique in the stack.",
            example: "\"home\"",
        },
        Key {
            name: "engine",
            kind: Kind::Words(ENGINES),
            presence: Presence::Default("\"embedded\""),
            about: "What applications run on there.",
            example: "\"embedded\"",
        },
        Key {
            name: "location",
            kind: Kind::Section(&LOCATION),
            presence: Presence::Optional,
            about: LOCATION.about,
            example: "{ latitude = 47.37, longitude = 8.54 }",
        },
        Key {
            name: "jurisdiction",
            kind: Kind::Text(Form::Jurisdiction),
            presence: Presence::Optional,
            about: "The jurisdiction it is under.",
            example: "\"CH\"",
        },
        Key {
            name: "proxy",
            kind: Kind::Section(&PROXY),
            presence: Presence::Optional,
            about: PROXY.about,
            example: "{ speaks = \"proxy-protocol\", from = [\"127.0.0.1\"] }",
        },
        Key {
            name: "metrics",
            kind: Kind::Integer { least: 1, most: 65535 },
            presence: Presence::Optional,
            about: "The TCP port on this machine's loopback address where its edge tells its figures to Prometheus.",
            example: "9464",
        },
        Key {
            name: "lan",
            kind: Kind::Texts(Form::Network),
            presence: Presence::Optional,
            about: "The networks that its own people and things are in, its hosts among them. Whoever asks its name server from \
                    there is led to the hosts themselves, and not to a public address that a router may lead nobody back \
                    in at. `sovereign dns lan` says what the router is told.",
            example: "[\"192.168.1.0/24\"]",
        },
        Key {
            name: "uplink",
            kind: Kind::Sections { of: &UPLINK, least: 1 },
            presence: Presence::Required,
            about: UPLINK.about,
            example: "",
        },
        Key {
            name: "host",
            kind: Kind::Sections { of: &HOST, least: 0 },
            presence: Presence::Optional,
            about: HOST.about,
            example: "",
        },
    ],
};

static ENGINES: &[Word] = &[
    Word::new("embedded", "supervised programs on this machine: for trying out, tests and rehearsal"),
    Word::new("incus", "an Incus on each of its hosts, which are reached over SSH: for real data centers"),
];

static LOCATION: Section = Section {
    path: "datacenter.location",
    shape: Shape::Inline,
    about: "Where it is, in degrees (WGS 84).",
    keys: &[
        Key {
            name: "latitude",
            kind: Kind::Number { least: -90.0, most: 90.0 },
            presence: Presence::Required,
            about: "Degrees north of the equator.",
            example: "47.37",
        },
        Key {
            name: "longitude",
            kind: Kind::Number { least: -180.0, most: 180.0 },
            presence: Presence::Required,
            about: "Degrees east of Greenwich.",
            example: "8.54",
        },
    ],
};

static UPLINK: Section = Section {
    path: "datacenter.uplink",
    shape: Shape::Tables,
    about: "An internet connection of the data center above it. The first one is the preferred one.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::Line),
            presence: Presence::Required,
            about: "Its name, the provider's say; unique in the data center.",
            example: "\"fibre\"",
        },
        Key {
            name: "address",
            kind: Kind::Text(Form::UplinkAddress),
            presence: Presence::Required,
            about: "The address readers connect to. A loopback address keeps the data center to this machine.",
            example: "\"192.0.2.7\"",
        },
        Key {
            name: "port",
            kind: Kind::Integer { least: 1, most: 65535 },
            presence: Presence::Default("443"),
            about: "The TCP port readers connect to. Ports below 1024 need privileges.",
            example: "8443",
        },
        Key {
            name: "listen",
            kind: Kind::Integer { least: 1, most: 65535 },
            presence: Presence::Optional,
            about: "The TCP port that the edge listens on, where a proxy or router has the other one. The same when left out.",
            example: "8443",
        },
        Key {
            name: "http",
            kind: Kind::Integer { least: 1, most: 65535 },
            presence: Presence::Optional,
            about: "The TCP port where readers who come over plain HTTP are pointed to HTTPS: 80, usually.",
            example: "80",
        },
        Key {
            name: "reach",
            kind: Kind::Words(REACHES),
            presence: Presence::Default("\"direct\""),
            about: "How a connection from outside comes in.",
            example: "\"forwarded\"",
        },
    ],
};

static REACHES: &[Word] = &[
    Word::new("direct", "the host has the address"),
    Word::new("forwarded", "a router forwards the port to the host"),
    Word::new("outbound-only", "not at all: the data center can only dial out"),
];

static PROXY: Section = Section {
    path: "datacenter.proxy",
    shape: Shape::Inline,
    about: "Another proxy on the way to its edge, which has the public port. Only its word is taken for who a reader is.",
    keys: &[
        Key {
            name: "speaks",
            kind: Kind::Words(SPEECHES),
            presence: Presence::Required,
            about: "What it says to the edge.",
            example: "\"proxy-protocol\"",
        },
        Key {
            name: "from",
            kind: Kind::Texts(Form::Address),
            presence: Presence::Required,
            about: "The addresses it connects from.",
            example: "[\"127.0.0.1\"]",
        },
    ],
};

static SPEECHES: &[Word] = &[
    Word::new("proxy-protocol", "TLS as it comes, after a header of the PROXY protocol, version 1 or 2"),
    Word::new("http", "plain HTTP/1.1, with the reader's address last in `X-Forwarded-For`"),
];

static HOST: Section = Section {
    path: "datacenter.host",
    shape: Shape::Tables,
    about: "A machine of the data center above it. An `embedded` one has none but this machine, named `local` when it is left out. Of an `incus` one, the first has the applications, and all have an edge.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(LABEL),
            presence: Presence::Required,
            about: "Its name, unique in the data center.",
            example: "\"atlas\"",
        },
        Key {
            name: "address",
            kind: Kind::Text(Form::Address),
            presence: Presence::Optional,
            about: "How this machine reaches it: always with the engine `incus`, never with `embedded`, which is this machine.",
            example: "\"192.0.2.8\"",
        },
    ],
};

static DOMAIN: Section = Section {
    path: "domain",
    shape: Shape::Tables,
    about: "A registered DNS name, and the third parties behind it.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::HostName),
            presence: Presence::Required,
            about: "The registered name.",
            example: "\"example.org\"",
        },
        Key {
            name: "registrar",
            kind: Kind::Text(Form::Line),
            presence: Presence::Required,
            about: "Who it is registered with.",
            example: "\"Example Registrar\"",
        },
        Key {
            name: "provider",
            kind: Kind::Text(Form::Line),
            presence: Presence::Optional,
            about: "Who answers for it in DNS. Left out for the stack's own name servers. The name of a [[provider]] for one \
                    that `up` and the hosts tell what it is to have; any other for one that you tell.",
            example: "\"Example DNS\"",
        },
        Key {
            name: "secondaries",
            kind: Kind::Texts(LABEL),
            presence: Presence::Optional,
            about: "Those of the declared secondaries that have a copy of its zone; all of them when left out.",
            example: "[\"friend\"]",
        },
        Key {
            name: "jurisdiction",
            kind: Kind::Text(Form::Jurisdiction),
            presence: Presence::Optional,
            about: "The jurisdiction registrar and registry are under.",
            example: "\"IS\"",
        },
        Key {
            name: "mail",
            kind: Kind::Words(MAILS),
            presence: Presence::Optional,
            about: "Where mail for it goes. Left out: `none`, unless there are records about mail.",
            example: "\"none\"",
        },
        Key {
            name: "records",
            kind: Kind::Texts(Form::Record),
            presence: Presence::Default("[]"),
            about: "Your own records, beside those that the stack makes: as in a zone file, names relative to the domain.",
            example: "['@ TXT \"some-service=0123\"', 'shop 3600 CNAME shops.example.net.']",
        },
        Key {
            name: "drop",
            kind: Kind::Texts(Form::RecordSet),
            presence: Presence::Default("[]"),
            about: "What `sovereign dns adopt` found there and is to go: name, relative to the domain, and type.",
            example: "[\"old TXT\", \"@ MX\"]",
        },
    ],
};

static MAILS: &[Word] = &[
    Word::new(
        "none",
        "nobody takes mail for it, and the zone says so (RFC 7505, SPF, DMARC), so that nobody can pretend to send it",
    ),
    Word::new("elsewhere", "where your own `MX` records say"),
];

static SECONDARY: Section = Section {
    path: "secondary",
    shape: Shape::Tables,
    about: "A name server of somebody else's, a friend's say, that answers for your domains with a copy of their zones. It gets \
            them, whole (AXFR), only with a key that follows from the 24 words; `sovereign dns secondary` prints what its \
            owner needs.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::Label { most: 40 }),
            presence: Presence::Required,
            about: "Its name, unique in the stack, and no data center's.",
            example: "\"friend\"",
        },
        Key {
            name: "addresses",
            kind: Kind::Texts(Form::Address),
            presence: Presence::Required,
            about: "Where it answers: addresses that stay, as the registry is told them.",
            example: "[\"203.0.113.53\", \"2001:db8::53\"]",
        },
        Key {
            name: "host",
            kind: Kind::Text(Form::HostName),
            presence: Presence::Optional,
            about: "What it is called in NS records; `ns-` and its name, below each domain, when left out.",
            example: "\"ns1.friend.example\"",
        },
        Key {
            name: "notify",
            kind: Kind::Texts(Form::Socket),
            presence: Presence::Optional,
            about: "Where it takes notices that a zone has changed, in place of port 53 of its addresses.",
            example: "[\"203.0.113.54:53\"]",
        },
        Key {
            name: "key",
            kind: Kind::Text(Form::HostName),
            presence: Presence::Optional,
            about: "What the key is called there (TSIG, RFC 8945); its name, a dot and the stack's when left out.",
            example: "\"friend.my-stack\"",
        },
        Key {
            name: "algorithm",
            kind: Kind::Words(ALGORITHMS),
            presence: Presence::Default("\"hmac-sha256\""),
            about: "How the key is used.",
            example: "\"hmac-sha512\"",
        },
    ],
};

static ALGORITHMS: &[Word] = &[
    Word::new("hmac-sha256", "HMAC with SHA-256, which every server has"),
    Word::new("hmac-sha384", "HMAC with SHA-384"),
    Word::new("hmac-sha512", "HMAC with SHA-512"),
];

static PROVIDER: Section = Section {
    path: "provider",
    shape: Shape::Tables,
    about: "A provider of DNS that is told what your domains are to have: by `up`, and by the hosts when a data center dies. What \
            it gave you to prove yourself with is not written here: `sovereign dns login` takes it.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::Label { most: 40 }),
            presence: Presence::Required,
            about: "Its name, unique in the stack: the `provider` of domains.",
            example: "\"desec\"",
        },
        Key {
            name: "kind",
            kind: Kind::Words(PROVIDERS),
            presence: Presence::Required,
            about: "How it is told.",
            example: "\"desec\"",
        },
        Key {
            name: "server",
            kind: Kind::Text(Form::Socket),
            presence: Presence::Optional,
            about: "With `rfc2136`, which needs it: where updates are taken, over TCP.",
            example: "\"203.0.113.53:53\"",
        },
        Key {
            name: "key",
            kind: Kind::Text(Form::HostName),
            presence: Presence::Optional,
            about: "With `rfc2136`, which needs it: what the key is called there (TSIG, RFC 8945).",
            example: "\"my-stack.example.net\"",
        },
        Key {
            name: "algorithm",
            kind: Kind::Words(ALGORITHMS),
            presence: Presence::Optional,
            about: "With `rfc2136`: how the key is used; `hmac-sha256` when left out.",
            example: "\"hmac-sha512\"",
        },
    ],
};

static PROVIDERS: &[Word] = &[
    Word::new("rfc2136", "by dynamic updates (RFC 2136) with a key: Knot, BIND, PowerDNS and others take them"),
    Word::new(
        "cloudflare",
        "by Cloudflare's interface, with a token that may edit the zone; records live a minute at least",
    ),
    Word::new("desec", "by deSEC's interface, with a token; records live an hour at least"),
];

static SITE: Section = Section {
    path: "site",
    shape: Shape::Tables,
    about: "A website.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(Form::Label { most: 40 }),
            presence: Presence::Required,
            about: "Its name, unique in the stack.",
            example: "\"blog\"",
        },
        Key {
            name: "app",
            kind: Kind::Words(APPS),
            presence: Presence::Required,
            about: "What serves it.",
            example: "\"ghost\"",
        },
        Key {
            name: "folder",
            kind: Kind::Text(Form::Folder),
            presence: Presence::Optional,
            about: "The files of a `static` site, and only there: relative to the folder of this file, or absolute. `up` sends them to hosts.",
            example: "\"./public\"",
        },
        Key {
            name: "address",
            kind: Kind::Text(Form::Socket),
            presence: Presence::Optional,
            about: "Where the service of an `upstream` site listens, and only there: as the primary data center reaches it, plain HTTP.",
            example: "\"127.0.0.1:3000\"",
        },
        Key {
            name: "dump",
            kind: Kind::Texts(Form::Line),
            presence: Presence::Default("[]"),
            about: "The program, with its arguments, that writes the data of an `upstream` site to its standard output.",
            example: "[\"pg_dump\", \"--clean\", \"--if-exists\", \"wiki\"]",
        },
        Key {
            name: "load",
            kind: Kind::Texts(Form::Line),
            presence: Presence::Default("[]"),
            about: "The program, with its arguments, that reads such data from its standard input, in place of what is there.",
            example: "[\"psql\", \"--set=ON_ERROR_STOP=1\", \"--single-transaction\", \"--file=-\", \"wiki\"]",
        },
        Key {
            name: "mirror",
            kind: Kind::Section(&MIRROR),
            presence: Presence::Optional,
            about: MIRROR.about,
            example: "{ crawl = true, start = [\"/\"], never = [\"/private/\"] }",
        },
        Key {
            name: "canonical",
            kind: Kind::Text(Form::HostName),
            presence: Presence::Required,
            about: "The host name that links inside the site carry, together with the port of the primary's first uplink.",
            example: "\"blog.example.org\"",
        },
        Key {
            name: "names",
            kind: Kind::Texts(Form::HostName),
            presence: Presence::Default("[]"),
            about: "Other host names it is served under, in full and never redirected.",
            example: "[\"blog.example.net\"]",
        },
        Key {
            name: "primary",
            kind: Kind::Text(LABEL),
            presence: Presence::Required,
            about: "The data center where it is written.",
            example: "\"home\"",
        },
        Key {
            name: "mirrors",
            kind: Kind::Texts(LABEL),
            presence: Presence::Default("[]"),
            about: "Data centers that keep a complete copy of it for readers.",
            example: "[\"office\"]",
        },
        Key {
            name: "admin",
            kind: Kind::Words(ADMINS),
            presence: Presence::Default("\"local\""),
            about: "From where its admin interface may be reached.",
            example: "\"lan\"",
        },
        Key {
            name: "keep",
            kind: Kind::Words(KEEPS),
            presence: Presence::Default("\"all\""),
            about: "What an edge does when the site takes more than its `budget`.",
            example: "\"budget\"",
        },
        Key {
            name: "budget",
            kind: Kind::Text(Form::Size),
            presence: Presence::Optional,
            about: "How much room the site may take at each edge that keeps it. Left out, as much as the disk has.",
            example: "\"20 GB\"",
        },
        Key {
            name: "hsts",
            kind: Kind::Integer { least: 0, most: 730 },
            presence: Presence::Default("365"),
            about: "For how many days a browser that was here uses nothing but HTTPS for this name. Said on port 443 only, where no other service of the name can be meant; 0 for not at all.",
            example: "30",
        },
        Key {
            name: "settings",
            kind: Kind::Section(&SETTINGS),
            presence: Presence::Optional,
            about: SETTINGS.about,
            example: "",
        },
    ],
};

static APPS: &[Word] = &[
    Word::new("ghost", "Ghost, with a database of its own"),
    Word::new("static", "a folder of files"),
    Word::new("upstream", "an HTTP service that the operator already runs"),
];

static MIRROR: Section = Section {
    path: "site.mirror",
    shape: Shape::Inline,
    about: "What mirrors keep of an `upstream` site. What readers ask for is kept as far as its answers allow.",
    keys: &[
        Key {
            name: "crawl",
            kind: Kind::Flag,
            presence: Presence::Default("true"),
            about: "Whether links are followed, so that pages are kept before anyone reads them.",
            example: "false",
        },
        Key {
            name: "start",
            kind: Kind::Texts(Form::Path),
            presence: Presence::Default("[\"/\"]"),
            about: "The paths that following begins with.",
            example: "[\"/\", \"/sitemap.xml\"]",
        },
        Key {
            name: "never",
            kind: Kind::Texts(Form::Path),
            presence: Presence::Default("[]"),
            about: "Paths that are passed through and never kept, with everything below them.",
            example: "[\"/private/\"]",
        },
    ],
};

static ADMINS: &[Word] = &[
    Word::new("public", "from anywhere"),
    Word::new("lan", "from private addresses and from this machine"),
    Word::new("local", "from this machine only"),
];

static KEEPS: &[Word] = &[
    Word::new(
        "all",
        "nothing that is kept is let go: what has no room is passed through, and `status` warns well before",
    ),
    Word::new("budget", "images, video and the like that were read least are let go, pages never"),
];

static SETTINGS: Section = Section {
    path: "site.settings",
    shape: Shape::Table,
    about: "How the `ghost` site above it presents itself. What is left out stays as it is in the application.",
    keys: &[
        Key {
            name: "title",
            kind: Kind::Text(Form::Line),
            presence: Presence::Optional,
            about: "Its title.",
            example: "\"My Blog\"",
        },
        Key {
            name: "description",
            kind: Kind::Text(Form::Prose),
            presence: Presence::Optional,
            about: "What it is about, in a sentence.",
            example: "\"Notes from the garden\"",
        },
        Key {
            name: "language",
            kind: Kind::Text(Form::Language),
            presence: Presence::Optional,
            about: "The language it is written in.",
            example: "\"en\"",
        },
        Key {
            name: "timezone",
            kind: Kind::Text(Form::Timezone),
            presence: Presence::Optional,
            about: "The time zone of its dates.",
            example: "\"Europe/Zurich\"",
        },
        Key {
            name: "accent-color",
            kind: Kind::Text(Form::Color),
            presence: Presence::Optional,
            about: "The color of its buttons and links.",
            example: "\"#15171a\"",
        },
        Key {
            name: "private",
            kind: Kind::Flag,
            presence: Presence::Optional,
            about: "Whether readers need a password.",
            example: "false",
        },
    ],
};

static ARCHIVE: Section = Section {
    path: "archive",
    shape: Shape::Table,
    about: "The encrypted backups on this machine.",
    keys: &[
        Key {
            name: "folder",
            kind: Kind::Text(Form::Folder),
            presence: Presence::Optional,
            about: "Where they are kept, when not in the folder of the stack's state.",
            example: "\"/srv/archive\"",
        },
        Key {
            name: "every",
            kind: Kind::Text(Form::Interval),
            presence: Presence::Default("\"6h\""),
            about: "How often `sovereign tick` makes a backup.",
            example: "\"1h\"",
        },
        Key {
            name: "prove",
            kind: Kind::Text(Form::Interval),
            presence: Presence::Default("\"weekly\""),
            about: "How often `sovereign tick` restores all of the newest backups and compares it, not only what is new.",
            example: "\"daily\"",
        },
        Key {
            name: "keep",
            kind: Kind::Section(&KEEP),
            presence: Presence::Optional,
            about: KEEP.about,
            example: "{ last = 3, hourly = 24, daily = 7, weekly = 5, monthly = 12, yearly = 10 }",
        },
        Key {
            name: "images",
            kind: Kind::Flag,
            presence: Presence::Default("false"),
            about: "Whether what applications run is backed up too, so that nothing has to be fetched when everything is brought back. Half a gigabyte for each version of Ghost, a third of it in the archive.",
            example: "true",
        },
        Key {
            name: "copy",
            kind: Kind::Sections { of: &COPY, least: 0 },
            presence: Presence::Optional,
            about: "Its copies, which `sovereign backup` brings in step. Without any and with several data centers, one is \
                    kept at the first of them that is no site's primary (at the first two when each is one); `copy = []` \
                    says that there is none.",
            example: "",
        },
    ],
};

/// More than a year of hours; nothing is gained by larger numbers.
const MOST_KEPT: i64 = 10_000;

static KEEP: Section = Section {
    path: "archive.keep",
    shape: Shape::Inline,
    about: "Which snapshots of each site stay when `sovereign archive prune` is run, as restic's `--keep-*`. One rule is \
            enough to stay; hours, days and so on are those of UTC, and only those count that have a snapshot. What is \
            left out has its default, 0 switches a rule off; not all of them can be 0.",
    keys: &[
        Key {
            name: "last",
            kind: Kind::Integer { least: 0, most: MOST_KEPT },
            presence: Presence::Default("3"),
            about: "So many of the newest, whenever they were made.",
            example: "10",
        },
        Key {
            name: "hourly",
            kind: Kind::Integer { least: 0, most: MOST_KEPT },
            presence: Presence::Default("24"),
            about: "The newest of each of the last so many hours.",
            example: "48",
        },
        Key {
            name: "daily",
            kind: Kind::Integer { least: 0, most: MOST_KEPT },
            presence: Presence::Default("7"),
            about: "The newest of each of the last so many days.",
            example: "14",
        },
        Key {
            name: "weekly",
            kind: Kind::Integer { least: 0, most: MOST_KEPT },
            presence: Presence::Default("5"),
            about: "The newest of each of the last so many weeks, which begin on Monday (ISO 8601).",
            example: "10",
        },
        Key {
            name: "monthly",
            kind: Kind::Integer { least: 0, most: MOST_KEPT },
            presence: Presence::Default("12"),
            about: "The newest of each of the last so many months.",
            example: "24",
        },
        Key {
            name: "yearly",
            kind: Kind::Integer { least: 0, most: MOST_KEPT },
            presence: Presence::Default("10"),
            about: "The newest of each of the last so many years.",
            example: "30",
        },
    ],
};

static COPY: Section = Section {
    path: "archive.copy",
    shape: Shape::Tables,
    about: "A copy of the archive in another place: one of `folder`, `disk`, `sftp` and `datacenter`. It is encrypted as \
            the archive is, and its place needs no key to it.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(LABEL),
            presence: Presence::Required,
            about: "Its name, unique in the stack.",
            example: "\"nas\"",
        },
        Key {
            name: "folder",
            kind: Kind::Text(Form::Folder),
            presence: Presence::Optional,
            about: "A folder of this machine that is empty at first. With `disk`: the folder on that disk, from where the \
                    disk is mounted.",
            example: "\"/mnt/nas/archive\"",
        },
        Key {
            name: "disk",
            kind: Kind::Text(Form::Disk),
            presence: Presence::Optional,
            about: "The UUID of a file system on a disk that is not always there: used when it is plugged in and mounted, \
                    passed over when not.",
            example: "",
        },
        Key {
            name: "sftp",
            kind: Kind::Text(Form::Sftp),
            presence: Presence::Optional,
            about: "A folder of a host of yours that speaks SFTP. It begins at the host's root; `user@host/~/folder` is one \
                    in the user's home.",
            example: "",
        },
        Key {
            name: "key",
            kind: Kind::Text(Form::Folder),
            presence: Presence::Optional,
            about: "With `sftp`, which needs it: the file with the private key that logs in there, without a passphrase.",
            example: "",
        },
        Key {
            name: "host-key",
            kind: Kind::Text(Form::HostKey),
            presence: Presence::Optional,
            about: "With `sftp`, which needs it: that host's public key. With no other one is it talked to.",
            example: "",
        },
        Key {
            name: "datacenter",
            kind: Kind::Text(LABEL),
            presence: Presence::Optional,
            about: "A data center of this stack.",
            example: "",
        },
        Key {
            name: "format",
            kind: Kind::Words(FORMATS),
            presence: Presence::Default("\"restic\""),
            about: "What it consists of.",
            example: "",
        },
        Key {
            name: "full",
            kind: Kind::Text(Form::Interval),
            presence: Presence::Optional,
            about: "With `format = \"duplicity\"`: how long increments go on from one full backup; `\"monthly\"` when left out.",
            example: "",
        },
    ],
};

static FORMATS: &[Word] = &[
    Word::new("restic", "the files of the archive"),
    Word::new("duplicity", "a chain of duplicity's for each site, in a folder or on a disk"),
];

static EDGE: Section = Section {
    path: "edge",
    shape: Shape::Table,
    about: "What holds for every edge of the stack.",
    keys: &[
        Key {
            name: "access-log",
            kind: Kind::Words(ACCESS_LOGS),
            presence: Presence::Default("\"truncated\""),
            about: "What is written down of requests.",
            example: "\"off\"",
        },
        Key {
            name: "limits",
            kind: Kind::Section(&LIMITS),
            presence: Presence::Optional,
            about: LIMITS.about,
            example: "",
        },
    ],
};

static ACCESS_LOGS: &[Word] = &[
    Word::new("off", "nothing"),
    Word::new("truncated", "a line per request, readers' addresses cut to /24 (IPv4) and /48 (IPv6)"),
    Word::new("full", "a line per request with whole addresses"),
];

static LIMITS: Section = Section {
    path: "edge.limits",
    shape: Shape::Table,
    about: "What a stranger may cost an edge. An address is an IPv4 address or a /64 of IPv6.",
    keys: &[
        Key {
            name: "connections",
            kind: Kind::Integer { least: 16, most: 1_000_000 },
            presence: Presence::Default("4096"),
            about: "Open connections. Each takes about 40 kB when idle.",
            example: "20000",
        },
        Key {
            name: "connections-per-address",
            kind: Kind::Integer { least: 1, most: 1_000_000 },
            presence: Presence::Default("512"),
            about: "Open connections of one address.",
            example: "64",
        },
        Key {
            name: "requests-per-address",
            kind: Kind::Integer { least: 1, most: 1_000_000 },
            presence: Presence::Default("1000"),
            about: "Requests of one address per second; four seconds' worth at once. What is beyond gets status 429.",
            example: "100",
        },
        Key {
            name: "head",
            kind: Kind::Text(Form::Size),
            presence: Presence::Default("\"32 KiB\""),
            about: "All fields of a request together: from 8 KiB to 1 MiB.",
            example: "\"64 KiB\"",
        },
        Key {
            name: "head-within",
            kind: Kind::Integer { least: 1, most: 3600 },
            presence: Presence::Default("30"),
            about: "Seconds until a request's head must be there, and that a kept connection may be idle.",
            example: "10",
        },
        Key {
            name: "body",
            kind: Kind::Text(Form::Size),
            presence: Presence::Default("\"5 GB\""),
            about: "The longest body of a request: an upload, say.",
            example: "\"100 MB\"",
        },
        Key {
            name: "body-within",
            kind: Kind::Integer { least: 1, most: 3600 },
            presence: Presence::Default("60"),
            about: "Seconds that a request's body may stand still.",
            example: "20",
        },
    ],
};

static AUTHORITY: Section = Section {
    path: "authority",
    shape: Shape::Tables,
    about: "An authority that certificates are asked for by ACME (RFC 8555), the preferred one first; declaring it agrees to \
            its terms of service. It issues for names of sites within domains that the stack's own name servers answer for. \
            Without any, the stack's own authority issues all certificates.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text(LABEL),
            presence: Presence::Required,
            about: "Its name, unique in the stack. Of \"letsencrypt\" it is known where it is, and what it calls itself.",
            example: "\"letsencrypt\"",
        },
        Key {
            name: "directory",
            kind: Kind::Text(Form::Directory),
            presence: Presence::Optional,
            about: "The address of its ACME directory. Every authority needs one that is not known by its name.",
            example: "",
        },
        Key {
            name: "roots",
            kind: Kind::Text(Form::File),
            presence: Presence::Optional,
            about: "A file with certificates (PEM): what it issues must begin from one of them. Without, it must begin from one \
                    that the machine believes in.",
            example: "",
        },
        Key {
            name: "profile",
            kind: Kind::Text(Form::Line),
            presence: Presence::Optional,
            about: "Which of its kinds of certificate, by its own word for it; its usual one when left out.",
            example: "\"shortlived\"",
        },
        Key {
            name: "caa",
            kind: Kind::Text(Form::HostName),
            presence: Presence::Optional,
            about: "What it calls itself in CAA records (RFC 8659), where it heeds them.",
            example: "",
        },
    ],
};
