//! A site in instances of its own, with its database: real images, a real Incus, a real Ghost. Its data comes from a Ghost
//! that ran as a process with SQLite; its database is replaced under it; two of it run beside each other.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

#[path = "instances/old.rs"]
mod old;
mod support;
#[path = "instances/world.rs"]
mod world;

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use old::Old;
use serde_json::{Value, json};
use sovereign_engine::incus::instances::Ran;
use sovereign_images::{Store, ghost as image};
use sovereign_incus::InstanceName;
use sovereign_incus::image::Source;
use sovereign_model::Digest;
use sovereign_model::instance::{bridge, users};
use sovereign_model::name::Origin;
use sovereign_model::stack::{AdminReach, App, Site, SiteSettings};
use sovereign_services::ghost::{
    Described, Door, Instances, OUTGOING_LOG, Operator as Ghost, Owner, PORT, Placed, Role, SetUp, TAKEOVER_REFUSED,
    Taken, Webhooks, dump_command, instances, load_command, pause_command, resume_command, setup, takeover_command,
};
use sovereign_services::secret::Secret;
use sovereign_testkit::incusd::Incusd;
use support::{debian, eventually};
use tokio::runtime::Runtime;
use world::{World, built};

const PASSWORD: &str = "nine-Wild-geese-0";

fn site(canonical: &str) -> Site {
    Site {
        name: "blog".parse().unwrap(),
        app: App::Ghost,
        canonical: Origin::https(canonical.parse().unwrap(), 443),
        edge_port: 443,
        names: Vec::new(),
        primary: "home".parse().unwrap(),
        mirrors: Vec::new(),
        admin: AdminReach::Public,
        room: sovereign_model::edge_rules::Room::default(),
        hsts_days: 0,
        settings: SiteSettings { title: Some("Geese & <others>".to_owned()), ..SiteSettings::default() },
    }
}

fn set_up(runtime: &Runtime, ghost: &Ghost, site: &Site, target: String) -> SetUp {
    let owner =
        Owner { name: "Owner".to_owned(), email: "owner@blog.example".to_owned(), password: Secret::new(PASSWORD) };
    let webhooks = Webhooks { target, key: Secret::new("a key") };
    runtime.block_on(setup(ghost, site, &owner, &webhooks, None)).unwrap()
}

/// Asks a Ghost through its door.
#[track_caller]
fn ask(runtime: &Runtime, door: &dyn Door, operation: &str, data: Value, options: Value) -> Value {
    let body = json!({ "data": data, "options": options }).to_string().into_bytes();
    let answered = runtime.block_on(door.post(&format!("/api/{operation}"), body)).unwrap();
    let body = String::from_utf8_lossy(&answered.body);
    assert!(answered.status.is_success(), "{operation}: {} {body}", answered.status);
    serde_json::from_str(&body).unwrap()
}

#[track_caller]
fn publish(runtime: &Runtime, door: &dyn Door, slug: &str, more: &Value) {
    let mut post = json!({ "title": slug, "slug": slug, "status": "published", "html": format!("<p>{slug}</p>") });
    post.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(runtime, door, "posts/add", json!({ "posts": [post] }), json!({ "source": "html" }));
}

/// What a page says, whichever Ghost gives it: its address is left out, and what each start makes anew.
fn same(page: &str, address: &str) -> String {
    let page = page.replace(address, "ADDRESS");
    let without_date = match (page.find("<lastBuildDate>"), page.find("</lastBuildDate>")) {
        (Some(from), Some(to)) => format!("{}{}", &page[..from], &page[to..]),
        _ => page,
    };
    let mut parts = without_date.split("?v=");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_hexdigit()))
}

struct Running<'a> {
    world: &'a World,
    name: InstanceName,
    described: &'a Described,
    host: String,
}

impl Running<'_> {
    fn get(&self, path: &str) -> (u16, String) {
        self.world.get(self.described.spec.address, PORT, &self.host, path)
    }

    fn status(&self, path: &str) -> u16 {
        self.get(path).0
    }
}

#[test]
#[ignore = "two minutes long, and `deployed.rs` has the same parts: `cargo xtask prove hosts`"]
fn a_site_moves_into_instances_and_outlives_its_database() {
    let nsenter = std::process::Command::new("nsenter").arg("--version").output();
    let missing = Incusd::missing().or_else(|| nsenter.is_err().then(|| "there is no nsenter here".to_owned()));
    if let Some(why) = missing {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        return eprintln!("SKIPPED: {why}, nothing was tested");
    }
    let began = Instant::now();
    let note = |what: &str| eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let (operator, cache) = debian::operator();
    for role in ["database", "site"] {
        debian::lock(&operator, &cache, role);
    }
    let ghost_image = image::find(&Store::open(cache.join("images")).unwrap(), image::lock()).unwrap().unwrap();
    note("images are there");

    // The site as it was; it starts while the others do.
    let before = site("old.example");
    let mut old = Old::start(&before, &ghost_image.root);

    let world = World::begin();
    let runtime = &world.runtime;
    let (database_image, database_source) = built(runtime, &operator, "database");
    let (site_image, site_source) = built(runtime, &operator, "site");
    let after = site("new.example");
    let password = Secret::new("0123456789abcdef");
    let placed = Placed {
        site: &after,
        datacenter: &after.primary,
        host: &"atlas".parse().unwrap(),
        site_image: &site_image,
        database_image: &database_image,
        ghost_version: "6.65.0",
        ca_certificate: "",
        database_password: &password,
        edge: SocketAddrV4::new(bridge::HOST, after.edge_port),
    };
    let Instances { database, ghost } = instances(&placed).unwrap();
    let (_, ran) = world.run(&database, &database_source);
    assert_eq!(ran, Ran::New { after_stop: false });
    note("the database is well");
    let (name, _) = world.run(&ghost, &site_source);
    note("Ghost is well");

    // The old one is set up and has something to lose.
    old.well(runtime, "old.example");
    set_up(runtime, &old.operator(), &before, "https://127.0.0.1/.sovereign/hooks/blog".to_owned());
    let door = old.door();
    let picture = "https://old.example/content/images/goose.svg";
    publish(runtime, &*door, "first", &json!({ "tags": ["Geese", "Ducks"], "feature_image": picture }));
    publish(
        runtime,
        &*door,
        "second",
        &json!({ "html": "<p>\u{1f986} o'\"\\ <a href='https://old.example/first/'>first</a></p>" }),
    );
    let member = json!({ "members": [{ "name": "Ann", "email": "ann@example.org", "labels": [{ "name": "vip" }] }] });
    ask(runtime, &*door, "members/add", member, json!({}));
    let paths = ["/", "/first/", "/second/", "/about/", "/tag/geese/", "/rss/", "/sitemap-posts.xml", "/author/owner/"];
    let pages = paths.map(|path| {
        let (status, page) = old.get(runtime, "old.example", path);
        assert_eq!(status, 200, "{path}");
        same(&page, "old.example")
    });
    let copy = old.database();
    old.stop();
    note("the old one is set up, read and copied");

    let ghost_1 = Running { world: &world, name, described: &ghost, host: "new.example".to_owned() };
    takeover(&world, &ghost_1.name, &old, &copy);
    note("its data is taken over");
    world.says(&ghost_1.name, "install -d -o ghost -g ghost -m 0700 /srv/data/content/images");
    world.push(&ghost_1.name, "/srv/data/content/images/goose.svg", b"<svg/>".to_vec(), users::GHOST);
    assert_eq!(world.run(&ghost, &site_source).1, Ran::Already, "it is well again");

    let door: Arc<dyn Door> = Arc::new(world.door(&ghost_1.name));
    let through = Ghost::through(Arc::clone(&door));
    let done = set_up(runtime, &through, &after, placed.webhook_url());
    assert!(!done.owner_made, "the owner came along");
    assert_eq!(done.changed, ["webhooks"], "they go to another edge");
    assert_eq!(set_up(runtime, &through, &after, placed.webhook_url()).changed, Vec::<String>::new());
    note("it is set up twice");
    for (path, page) in paths.iter().zip(pages) {
        let (status, now) = ghost_1.get(path);
        assert_eq!((status, same(&now, "new.example")), (200, page), "{path}");
    }
    assert_eq!(ghost_1.get("/content/images/goose.svg"), (200, "<svg/>".to_owned()));
    runtime.block_on(through.invite("bob@example.org", Role::Author)).unwrap();
    let staff = runtime.block_on(through.staff()).unwrap();
    assert_eq!((staff.people[0].email.as_str(), staff.pending.len()), ("owner@blog.example", 1));
    assert!(runtime.block_on(through.invite("nobody", Role::Author)).is_err());
    assert_eq!(world.says(&ghost_1.name, "ls /run/operator"), "", "what was asked, and answered, is gone");
    note("pages, pictures and staff are the same");

    publish(runtime, &*door, "third", &json!({}));
    eventually("the post is there", Duration::from_secs(10), || (ghost_1.status("/third/") == 200).then_some(()));
    scheduled(runtime, &*door, &ghost_1);
    uploads(&ghost_1);
    note("posts and pictures are published");

    // Nobody but Ghost reads what is secret, and nobody is called.
    let reads = "su -s /bin/sh nobody -c 'cat /srv/site/config.production.json' 2>&1 || true";
    assert!(world.says(&ghost_1.name, reads).contains("Permission denied"));
    assert_eq!(world.says(&ghost_1.name, &format!("cat {OUTGOING_LOG} 2> /dev/null || true")), "");

    // Its database is replaced under it.
    let mut other = database.clone();
    other.spec.inputs.insert("another".to_owned(), Digest::of("image"));
    assert_eq!(other.spec.clone().addressed(), other.spec, "it is found where the one before was");
    let away = Instant::now();
    let (database_name, ran) = world.run(&other, &database_source);
    assert_eq!(ran, Ran::New { after_stop: true });
    // Sooner than anybody's memory of where it was fades, which takes half a minute.
    eventually("Ghost has its database again", Duration::from_secs(15), || {
        (ghost_1.status("/third/") == 200).then_some(())
    });
    note(&format!("its database was replaced, away for {:.1} s", away.elapsed().as_secs_f64()));
    publish(runtime, &*door, "fourth", &json!({}));

    let other = instances(&Placed { ca_certificate: "# another\n", ..placed }).unwrap().ghost;
    let ghost_2 = beside(&other, &site_source, &ghost_1, &*door);
    note("two ran beside each other");
    dumped(&world, &database_name, &ghost_2);
    note("its data went out and in again");
}

/// Taken over, after attempts that must change nothing.
fn takeover(world: &World, ghost: &InstanceName, old: &Old, copy: &Path) {
    let to = Path::new("/run/operator/old.db");
    let count = "node=/opt/ghost/node/bin/node; cd /opt/ghost/app && $node -e \"const c = \
        JSON.parse(require('fs').readFileSync('/srv/site/config.production.json')).database.connection; \
        require('mysql2/promise').createConnection(c).then(async (d) => { const [[r]] = \
        await d.query('SELECT COUNT(*) AS n FROM posts'); console.log(r.n); d.end() })\"";
    let run = |database: &Path| {
        world.push(ghost, to.to_str().unwrap(), std::fs::read(database).unwrap(), 0);
        world.exec(ghost, takeover_command(to))
    };
    world.exec(ghost, pause_command());
    let door = Ghost::through(Arc::new(world.door(ghost)));
    let error = world.runtime.block_on(door.staff()).unwrap_err();
    assert!(error.help().is_some_and(|help| help.contains("whether Ghost runs")), "{error:?}");
    assert_eq!(world.says(ghost, "ls /run/operator"), "", "nothing was left behind");
    let fresh = world.says(ghost, count);

    // Of another version, and of one with two texts that MariaDB holds for equal.
    for (change, why) in [
        ("DELETE FROM migrations WHERE id = (SELECT max(id) FROM migrations)", "must be of one version of Ghost"),
        ("UPDATE posts SET slug = upper('first') WHERE slug = 'second'", "MariaDB does not take a row of posts"),
    ] {
        let ran = run(&old.change(copy, change));
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.code == TAKEOVER_REFUSED && said.contains(why), "{} {said}", ran.code);
        assert_eq!(world.says(ghost, count), fresh, "nothing was changed");
    }

    let ran = run(copy);
    assert_eq!(ran.code, 0, "{}", String::from_utf8_lossy(&ran.stderr));
    let taken: Taken = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((taken.tables["posts"], taken.tables["members"], taken.tables["users"]), (4, 1, 1));
    world.says(ghost, "rm /run/operator/old.db");
    world.exec(ghost, resume_command());
}

/// What is due soon, by the same clock as Ghost's.
fn scheduled(runtime: &Runtime, door: &dyn Door, ghost: &Running<'_>) {
    let at = (SystemTime::now() + Duration::from_secs(3)).duration_since(UNIX_EPOCH).unwrap().as_millis();
    let due = ghost.world.says(&ghost.name, &format!("date -u -d @{} +%FT%TZ", at / 1000));
    publish(runtime, door, "due", &json!({ "status": "scheduled", "published_at": due }));
    assert_eq!(ghost.status("/due/"), 404);
    eventually("the post is published", Duration::from_secs(20), || (ghost.status("/due/") == 200).then_some(()));
}

/// A picture, as an author uploads it: from `tmp` into `content`, on the volume.
fn uploads(ghost: &Running<'_>) {
    let address = ghost.described.spec.address;
    let origin = format!("origin: https://{}", ghost.host);
    let sign_in = json!({ "username": "owner@blog.example", "password": PASSWORD }).to_string();
    let json = "content-type: application/json";
    let post = ["--include", "--header", &origin, "--header", json, "--data", &sign_in];
    let (status, said) = ghost.world.curl(address, PORT, &ghost.host, "/ghost/api/admin/session/", &post);
    assert_eq!(status, 201, "{said}");
    let cookie = said.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
    let cookie = format!("cookie: {}", cookie.split(';').next().unwrap());
    let png = ghost.world.incusd.file("dot.png");
    std::fs::write(&png, PNG).unwrap();
    let file = format!("file=@{};type=image/png", png.display());
    let post = ["--header", &origin, "--header", &cookie, "--form", &file];
    let (status, said) = ghost.world.curl(address, PORT, &ghost.host, "/ghost/api/admin/images/upload/", &post);
    assert_eq!(status, 201, "{said}");
    let url: Value = serde_json::from_str(&said).unwrap();
    let url = url["images"][0]["url"].as_str().unwrap().strip_prefix("https://new.example").unwrap();
    assert_eq!(ghost.status(url), 200);
}

/// One pixel.
const PNG: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90\x77\x53\xde\x00\x00\x00\x0c\x49\x44\x41\x54\x78\x9c\x63\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// Another of the same version takes its place.
fn beside<'a>(other: &'a Described, image: &Source, first: &Running<'a>, door: &dyn Door) -> Running<'a> {
    let world = first.world;
    assert_ne!(other.spec.address, first.described.spec.address);
    let well = AtomicBool::new(false);
    let (name, ran) = thread::scope(|scope| {
        // Readers are answered by the first all the time.
        let readers = scope.spawn(|| {
            let mut pages = 0;
            while !well.load(Ordering::Relaxed) {
                assert_eq!(first.status("/fourth/"), 200);
                pages += 1;
            }
            pages
        });
        let ran = world.run(other, image);
        well.store(true, Ordering::Relaxed);
        assert!(readers.join().unwrap() > 0);
        ran
    });
    assert_eq!(ran, Ran::New { after_stop: false });
    let second = Running { world, name, described: other, host: first.host.clone() };
    assert_eq!(second.status("/fourth/"), 200);
    assert_eq!(second.status("/content/images/goose.svg"), 200);
    // What is written at one of them, the other has too.
    publish(&world.runtime, door, "fifth", &json!({}));
    assert_eq!(second.status("/fifth/"), 200);
    publish(&world.runtime, &world.door(&second.name), "sixth", &json!({}));
    assert_eq!(first.status("/sixth/"), 200);
    world.retire(&other.spec.name);
    assert_eq!(second.status("/sixth/"), 200);
    second
}

/// A dump is the same each time, is refused when it is cut short, and brings back what was there.
fn dumped(world: &World, database: &InstanceName, ghost: &Running<'_>) {
    world.exec(&ghost.name, pause_command());
    for file in ["/run/a.sql", "/run/b.sql"] {
        let ran = world.exec(database, dump_command(Path::new(file)));
        assert_eq!(ran.code, 0, "{}", String::from_utf8_lossy(&ran.stderr));
    }
    world.says(database, "cmp /run/a.sql /run/b.sql && head -c -100 /run/a.sql > /run/cut.sql");
    let count = "mariadb ghost -Ne 'SELECT COUNT(*) FROM posts'";
    let posts = world.says(database, count);
    let ran = world.exec(database, load_command(Path::new("/run/cut.sql")));
    assert_eq!(
        (ran.code, world.says(database, count)),
        (65, posts.clone()),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    world
        .says(database, "mariadb ghost -e 'SET foreign_key_checks = 0; DELETE FROM posts; CREATE TABLE stray (a INT)'");
    let ran = world.exec(database, load_command(Path::new("/run/a.sql")));
    assert_eq!(ran.code, 0, "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(world.says(database, count), posts);
    assert_eq!(world.says(database, "mariadb ghost -Ne \"SHOW TABLES LIKE 'stray'\""), "");
    world.exec(&ghost.name, resume_command());
    eventually("Ghost is back", Duration::from_secs(60), || (ghost.status("/third/") == 200).then_some(()));
}
