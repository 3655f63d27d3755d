//! Stories of the default stack, with the plans they lead to.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{NOW, apply, world};
use sovereign_model::edge_config::{EdgeConfig, Learned, Source};
use sovereign_model::observed::{Primary, Provenance, SiteSeen, UnitState, Unrestored, Written};
use sovereign_model::stack::{App, EngineKind, Reach, Stack, Uplink, UplinkAddress};
use sovereign_model::{Digest, Observed, Step};
use sovereign_plan::{
    Hearer, IncompleteWorld, LEAF_LIFE, Obstacle, Plan, Planned, Wanted, desired, lint, moving, plan, telling,
};

fn default_stack() -> Stack {
    sovereign_model::parse("stack.toml", sovereign_model::file::default_file(), Path::new("/srv")).unwrap()
}

fn wanted(stack: &Stack, release: u8) -> Wanted {
    desired(stack, &world(stack, release)).unwrap()
}

fn shown(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|planned| format!("{} ({})", planned.step, planned.reason));
    steps.chain(plan.obstacles.iter().map(|obstacle| format!("! {obstacle}"))).collect::<Vec<_>>().join("\n")
}

/// A world in which the stack was brought up.
fn up(want: &Wanted) -> Observed {
    let mut seen = Observed::default();
    apply(&plan(want, &seen), want, &mut seen);
    seen
}

/// What an edge runs as.
fn edge_unit<'w>(want: &'w Wanted, edge: &str) -> &'w sovereign_model::unit::Runs {
    let edge: sovereign_model::EdgeName = edge.parse().unwrap();
    &want.unit(&edge.datacenter, &edge.unit()).unwrap().runs
}

fn next(want: &Wanted, seen: &Observed) -> String {
    let plan = plan(want, seen);
    assert_eq!(lint(&plan, want, seen), []);
    shown(&plan)
}

#[test]
fn the_first_up() {
    insta::assert_snapshot!(next(&wanted(&default_stack(), 0), &Observed::default()), @r"
    prepare image ghost (not there yet)
    start the supervisor (not running)
    issue a certificate for home (1 name) (not there yet)
    issue a certificate for office (1 name) (not there yet)
    configure the edge of home (generation 1) (not there yet)
    run edge@home (not there yet)
    configure the edge of office (generation 1) (not there yet)
    run edge@office (not there yet)
    run ghost-blog@home (not there yet)
    set up site blog at home (not there yet)
    apply the settings of site blog (not there yet)
    fill the mirror of site blog at office (not there yet)
    ");
}

#[test]
fn what_works_on_data_that_was_not_backed_up_is_left_out() {
    let (old, new) = (wanted(&default_stack(), 0), wanted(&default_stack(), 1));
    let mut seen = up(&old);
    let site = seen.sites.values_mut().next().unwrap();
    site.settings = None;
    let whole = plan(&new, &seen);
    let (blog, none): (BTreeSet<_>, _) = (new.sites.keys().cloned().collect(), BTreeSet::new());
    let spared = |sites, as_before| shown(&whole.sparing(sites, as_before, &new));
    assert_eq!(spared(&none, &none), shown(&whole));
    insta::assert_snapshot!(spared(&blog, &none), @r"
    prepare image ghost (declared otherwise now)
    replace the supervisor in place (another binary runs)
    replace edge@home (declared otherwise now)
    replace edge@office (declared otherwise now)
    ");
    assert_eq!(spared(&blog, &blog), spared(&blog, &none), "another program is no restart");

    // After the machine was switched off, with the program of before.
    let off = Observed { images: seen.images.clone(), sites: up(&old).sites, ..Observed::default() };
    let whole = plan(&old, &off);
    let spared = |as_before| shown(&whole.sparing(&blog, as_before, &old));
    assert!(!spared(&none).contains("run ghost-blog@home"), "its data was another program's");
    assert!(spared(&blog).contains("run ghost-blog@home"));
}

#[test]
fn the_second_up_says_why_nothing_happens() {
    let want = wanted(&default_stack(), 0);
    let second = plan(&want, &up(&want));
    assert!(second.is_empty());
    insta::assert_snapshot!(second.kept.lines().join("\n"), @r"
    1 image is kept as locked
    1 supervisor runs this binary
    2 edges have their configuration
    3 units run as described and are well
    1 site is set up as declared
    1 mirror is complete
    2 certificates are good
    the first certificate ends in 800 days
    ");
}

#[test]
fn a_new_title_changes_nothing_else() {
    let mut stack = default_stack();
    let seen = up(&wanted(&stack, 0));
    stack.sites.values_mut().next().unwrap().settings.title = Some("Another".to_owned());
    insta::assert_snapshot!(next(&wanted(&stack, 0), &seen), @"apply the settings of site blog (declared otherwise now)");
}

#[test]
fn another_name_needs_certificates_and_configurations() {
    let mut stack = default_stack();
    let seen = up(&wanted(&stack, 0));
    stack.sites.values_mut().next().unwrap().names.push("blog.example.org".parse().unwrap());
    insta::assert_snapshot!(next(&wanted(&stack, 0), &seen), @r"
    issue a certificate for home (2 names) (declared otherwise now)
    issue a certificate for office (2 names) (declared otherwise now)
    configure the edge of home (generation 2) (declared otherwise now)
    configure the edge of office (generation 2) (declared otherwise now)
    ");
}

#[test]
fn a_new_release_replaces_edges_before_it_configures_them() {
    let mut stack = default_stack();
    let seen = up(&wanted(&stack, 0));
    let blog = stack.sites.values_mut().next().unwrap();
    blog.admin = sovereign_model::stack::AdminReach::Lan;
    insta::assert_snapshot!(next(&wanted(&stack, 1), &seen), @r"
    prepare image ghost (declared otherwise now)
    replace the supervisor in place (another binary runs)
    replace edge@home (declared otherwise now)
    configure the edge of home (generation 2) (declared otherwise now)
    replace edge@office (declared otherwise now)
    configure the edge of office (generation 2) (declared otherwise now)
    replace ghost-blog@home (declared otherwise now)
    ");
}

#[test]
fn after_a_reboot_everything_is_started_again() {
    let want = wanted(&default_stack(), 0);
    let mut seen = up(&want);
    seen.supervisor = None;
    for unit in seen.datacenters.values_mut().flat_map(|datacenter| datacenter.units.values_mut()) {
        unit.state = UnitState::Stopped;
    }
    insta::assert_snapshot!(next(&want, &seen), @r"
    start the supervisor (not running)
    run edge@home (not running)
    run edge@office (not running)
    run ghost-blog@home (not running)
    ");
}

#[test]
fn certificates_are_renewed_with_a_third_of_their_life_left() {
    let stack = default_stack();
    let seen = up(&wanted(&stack, 0));
    let mut world = world(&stack, 0);
    world.now = NOW + LEAF_LIFE.as_secs() - LEAF_LIFE.as_secs() / 3;
    assert_eq!(next(&desired(&stack, &world).unwrap(), &seen), "");
    world.now += 1;
    insta::assert_snapshot!(next(&desired(&stack, &world).unwrap(), &seen), @r"
    issue a certificate for home (1 name) (ends in 266 days)
    issue a certificate for office (1 name) (ends in 266 days)
    configure the edge of home (generation 2) (its new certificate is not served yet)
    configure the edge of office (generation 2) (its new certificate is not served yet)
    ");
}

#[test]
fn a_renewal_that_was_cut_short_is_finished() {
    let stack = default_stack();
    let mut seen = up(&wanted(&stack, 0));
    let mut world = world(&stack, 0);
    world.now = NOW + LEAF_LIFE.as_secs();
    let want = desired(&stack, &world).unwrap();
    let first = plan(&want, &seen);
    apply(&Plan { steps: first.steps[..2].to_vec(), ..first }, &want, &mut seen);
    insta::assert_snapshot!(next(&want, &seen), @r"
    configure the edge of home (generation 2) (its new certificate is not served yet)
    configure the edge of office (generation 2) (its new certificate is not served yet)
    ");
}

#[test]
fn what_is_not_well_is_waited_for_and_what_was_given_up_is_tried_again() {
    let want = wanted(&default_stack(), 0);
    let mut seen = up(&want);
    let states = [UnitState::Unhealthy, UnitState::Failed("exit code 2, five times in a minute".to_owned())];
    for (unit, state) in seen.datacenters.values_mut().flat_map(|dc| dc.units.values_mut()).zip(states) {
        unit.state = state;
    }
    insta::assert_snapshot!(next(&want, &seen), @r"
    run edge@home (not well yet)
    run ghost-blog@home (given up: exit code 2, five times in a minute)
    ");
}

#[test]
fn a_site_that_is_no_longer_declared_is_stopped_last_and_keeps_its_data() {
    let mut stack = default_stack();
    let seen = up(&wanted(&stack, 0));
    stack.sites.clear();
    insta::assert_snapshot!(next(&wanted(&stack, 0), &seen), @r"
    issue a certificate for home (addresses only) (declared otherwise now)
    issue a certificate for office (addresses only) (declared otherwise now)
    replace edge@home (declared otherwise now)
    configure the edge of home (generation 2) (declared otherwise now)
    configure the edge of office (generation 2) (declared otherwise now)
    stop ghost-blog@home, keep its data (no longer declared)
    ");
}

/// The default stack with the ports of its data centers changed.
fn with_ports(ports: [u16; 2]) -> Stack {
    let mut stack = default_stack();
    for (datacenter, port) in stack.datacenters.values_mut().zip(ports) {
        (datacenter.uplinks[0].port, datacenter.uplinks[0].local_port) = (port, port);
    }
    stack
}

#[test]
fn an_address_changes_hands_without_a_collision() {
    let seen = up(&wanted(&with_ports([8443, 8444]), 0));
    insta::assert_snapshot!(next(&wanted(&with_ports([8444, 8443]), 0), &seen), @r"
    stop edge@office, keep its data (edge@home needs its address)
    stop edge@home, keep its data (edge@office needs its address)
    configure the edge of home (generation 2) (declared otherwise now)
    run edge@home (declared otherwise now)
    configure the edge of office (generation 2) (declared otherwise now)
    run edge@office (declared otherwise now)
    ");
}

#[test]
fn a_primary_whose_data_is_elsewhere_is_not_replaced_by_an_empty_one() {
    let mut stack = default_stack();
    let seen = up(&wanted(&stack, 0));
    let blog = stack.sites.values_mut().next().unwrap();
    std::mem::swap(&mut blog.primary, &mut blog.mirrors[0]);
    let want = wanted(&stack, 0);
    let refused = plan(&want, &seen);
    assert!(refused.steps.is_empty() && !refused.is_empty());
    insta::assert_snapshot!(shown(&refused), @"! site blog is declared at office, but its data is at home");
    let [obstacle @ Obstacle::DataElsewhere { .. }] = refused.obstacles.as_slice() else { panic!("{refused:?}") };
    insta::assert_snapshot!(obstacle.help().unwrap(), @r#"write `primary = "home"` for site blog: this version does not move a site's data"#);
}

#[test]
fn a_site_that_the_archive_has_does_not_begin_empty() {
    let want = wanted(&default_stack(), 0);
    let site = want.primaries.keys().next().unwrap();
    let mut seen = Observed::default();
    let whole = plan(&want, &seen);
    let waits = |is_arriving| Unrestored { snapshot: Some("5ab5".to_owned()), is_arriving };
    seen.unrestored.insert(site.clone(), waits(false));
    let waiting = plan(&want, &seen);
    assert_eq!(waiting.unrestored[site], waits(false));
    let left: Vec<_> = whole.steps.iter().filter(|step| !waiting.steps.contains(step)).collect();
    let left: Vec<_> = left.iter().map(|planned| planned.step.to_string()).collect();
    insta::assert_snapshot!(left.join("\n"), @r"
    run ghost-blog@home
    set up site blog at home
    apply the settings of site blog
    fill the mirror of site blog at office
    ");
    // What is left is done, and then nothing: it goes on waiting, and says so.
    apply(&waiting, &want, &mut seen);
    let again = plan(&want, &seen);
    assert_eq!((again.steps.len(), again.unrestored.len()), (0, 1), "{again:#?}");
    // Brought back, or to begin anew.
    seen.unrestored.clear();
    assert!(!plan(&want, &seen).steps.is_empty());
    // While a restore is cut off, its edge leads nobody to what it brought up.
    let mut seen = up(&want);
    let edge = &want.sites[site].source;
    seen.edges.get_mut(edge).unwrap().config.as_mut().unwrap().config = Digest::of("before");
    assert!(next(&want, &seen).contains("configure the edge"));
    seen.unrestored.insert(site.clone(), waits(true));
    assert_eq!(next(&want, &seen), "");
    // That of another stack file is none of this one's.
    seen.unrestored = [("other".parse().unwrap(), waits(false))].into();
    assert!(plan(&want, &seen).unrestored.is_empty());
}

#[test]
fn a_number_that_another_machine_gave_is_not_overruled_by_a_plan() {
    let want = wanted(&default_stack(), 0);
    let site = want.primaries.keys().next().unwrap();
    let primary = |epoch, at: &str| Primary { epoch, at: at.parse().unwrap() };
    let after = |newest: Primary| {
        let mut seen = up(&want);
        seen.note_primary(site, newest);
        (next(&want, &seen), plan(&want, &seen).obstacles.pop())
    };
    let here = want.primaries[site].at.as_str();
    assert_eq!(after(primary(1, here)).0, "");
    let (said, obstacle) = after(primary(2, "attic"));
    insta::assert_snapshot!(said, @"! site blog is declared at home, but it is written at attic since number 2 of its primaries, which another management machine gave");
    assert!(obstacle.unwrap().help().unwrap().contains("write `primary = \"attic\"`"));
    // Two places with one number are two primaries.
    assert!(after(primary(1, "attic")).1.is_some());
    assert!(after(primary(2, here)).1.unwrap().help().unwrap().contains("sovereign up"));
    // What an edge that was cut off says beside it does not count.
    let mut seen = up(&want);
    seen.note_primary(site, primary(3, "attic"));
    seen.note_primary(site, primary(2, here));
    assert_eq!(seen.primaries[site], [primary(3, "attic")].into());
}

#[test]
fn what_was_changed_on_a_host_is_put_right_before_anything_else_is_done_there() {
    let want = wanted(&default_stack(), 0);
    let mut seen = up(&want);
    let (name, edge) = seen.edges.iter_mut().next().unwrap();
    let name = name.clone();
    edge.drift = vec!["a unit was changed".to_owned(), "a socket is inactive".to_owned()];
    insta::assert_snapshot!(next(&want, &seen), @"put right what was changed on home (a unit was changed; a socket is inactive)");
    seen.away.insert(name, "it does not answer".to_owned());
    assert!(plan(&want, &seen).steps.is_empty(), "nothing is known of a host that is away");
}

#[test]
fn an_application_that_is_older_than_its_data_is_refused() {
    let stack = default_stack();
    let of_version = |version: &str| {
        let mut want = wanted(&stack, 0);
        let units = want.datacenters.values_mut().flat_map(|datacenter| datacenter.units.iter_mut());
        for (_, unit) in units.filter(|(name, _)| name.as_str().starts_with("ghost-")) {
            unit.data_version = Some(version.to_owned());
        }
        want
    };
    let seen = up(&of_version("6.10.0"));
    for same_or_newer in ["6.10.0", "6.10.1", "7.0.0", "of their own making"] {
        assert!(plan(&of_version(same_or_newer), &seen).obstacles.is_empty(), "{same_or_newer}");
    }
    let refused = plan(&of_version("6.9.3"), &seen);
    assert!(refused.steps.is_empty());
    insta::assert_snapshot!(shown(&refused), @"! the data of ghost-blog@home is of version 6.10.0, and 6.9.3 is older");
    let help = refused.obstacles[0].help().unwrap();
    assert!(help.starts_with("`sovereign images lock ghost --version 6.10.0` stays with it"), "{help}");
}

#[test]
fn lost_publish_notices_are_registered_again() {
    let want = wanted(&default_stack(), 0);
    let mut seen = up(&want);
    seen.sites.values_mut().for_each(|site| *site = SiteSeen { webhook: false, ..site.clone() });
    insta::assert_snapshot!(next(&want, &seen), @"set up site blog at home (publish notices are not registered)");
}

#[test]
fn a_plan_does_not_outlive_what_it_was_made_for() {
    let want = wanted(&default_stack(), 0);
    let mut seen = up(&want);
    let made = plan(&want, &seen);
    for mirror in seen.edges.values_mut().flat_map(|edge| edge.mirrors.values_mut()) {
        mirror.pages_kept += 1;
        mirror.newest_fetch = Some(NOW);
    }
    assert!(made.fits(&seen), "pages come and go");
    seen.edges.values_mut().next().unwrap().certificate = None;
    assert!(!made.fits(&seen));
}

#[test]
fn a_static_site_needs_no_unit_and_no_set_up() {
    let mut stack = default_stack();
    let blog = stack.sites.values_mut().next().unwrap();
    blog.app = App::Static { folder: "/srv/public".into() };
    let want = wanted(&stack, 0);
    let plan = plan(&want, &Observed::default());
    assert!(want.images.is_empty());
    let touches_site = |step: &Step| matches!(step, Step::SetUpSite { .. } | Step::ApplySettings { .. });
    assert!(!plan.steps.iter().any(|planned| touches_site(&planned.step)));
    let home = edge_unit(&want, "home");
    assert!(home.as_unit().unwrap().confinement.read.contains(&"/srv/public".into()));
}

/// A stack of hosts with one static site, whose files are these.
fn static_on_hosts(stack: &Stack, files: &str) -> Result<Wanted, IncompleteWorld> {
    let mut world = world(stack, 0);
    if !files.is_empty() {
        world.files.insert("blog".parse().unwrap(), Digest::of(files));
    }
    desired(stack, &world)
}

#[test]
fn a_static_site_on_hosts_is_one_folder_after_the_other_and_one_step() {
    let mut stack = stack_of_hosts();
    stack.sites.values_mut().next().unwrap().app = App::Static { folder: "/srv/public".into() };
    assert!(matches!(static_on_hosts(&stack, ""), Err(IncompleteWorld::Files { .. })));
    let [one, two] = ["one", "two"].map(|files| static_on_hosts(&stack, files).unwrap());
    assert!(one.images.is_empty() && one.sites.is_empty());
    // The host that other sites are on has it, and its edge reads nothing more than before.
    let edges: std::collections::BTreeMap<String, &Source> =
        one.edges.iter().map(|(edge, wanted)| (edge.to_string(), &wanted.config.sites[0].source)).collect();
    let folder = format!("/var/lib/sovereign/shop/dc/home/edge/files/blog/{}", Digest::of("one").hex());
    let link = Source::Link("home".parse().unwrap());
    assert_eq!(edges["home/atlas"], &Source::Folder(folder.into()));
    assert_eq!([edges["home/rhea"], edges["office/titan"]], [&link; 2]);
    let unit = edge_unit(&one, "home/atlas").as_unit().unwrap();
    assert_eq!(unit.confinement.read, [PathBuf::from("/var/lib/sovereign/shop/dc/home/edge")]);
    assert_eq!(edge_unit(&one, "home/atlas"), edge_unit(&two, "home/atlas"));
    let mut seen = up(&one);
    assert_eq!(next(&one, &seen), "");
    assert_eq!(next(&two, &seen), "configure the edge of home/atlas (generation 2) (declared otherwise now)");
    // Emptied on purpose, it gets nothing until it is back.
    seen.evacuated.insert("home/atlas".parse().unwrap(), "by ann".to_owned());
    assert_eq!(next(&two, &seen), next(&one, &seen));

    // Moved to this machine by one word, and to hosts by the same.
    for datacenter in stack.datacenters.values_mut() {
        datacenter.engine = EngineKind::Embedded;
        datacenter.hosts.clear();
    }
    let here = desired(&stack, &world(&stack, 0)).unwrap();
    let home = edge_unit(&here, "home").as_unit().unwrap();
    assert!(home.confinement.read.contains(&"/srv/public".into()));
}

#[test]
fn the_configuration_of_an_edge() {
    let want = wanted(&default_stack(), 0);
    insta::assert_json_snapshot!("edge_config_home", want.edges[&"home".parse().unwrap()].config);
    insta::assert_json_snapshot!("edge_unit_home", edge_unit(&want, "home").as_unit());
    insta::assert_json_snapshot!("edge_config_office", want.edges[&"office".parse().unwrap()].config);
}

#[test]
fn a_plan_is_stored_and_read_back() {
    let first = plan(&wanted(&default_stack(), 0), &Observed::default());
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), first);
}

#[test]
fn a_world_that_lacks_something_is_refused() {
    let stack = default_stack();
    let refusal = |change: fn(&mut sovereign_plan::World)| {
        let mut world = world(&stack, 0);
        change(&mut world);
        desired(&stack, &world).unwrap_err()
    };
    assert!(matches!(refusal(|world| world.units.clear()), IncompleteWorld::Unit { .. }));
    assert!(matches!(refusal(|world| world.locks.clear()), IncompleteWorld::Lock { .. }));
    assert!(matches!(refusal(|world| world.link_keys.clear()), IncompleteWorld::LinkKey { .. }));
    assert!(matches!(refusal(|world| world.webhook_keys.clear()), IncompleteWorld::WebhookKey { .. }));
    let stray = |world: &mut sovereign_plan::World| {
        for unit in world.units.values_mut() {
            let sovereign_model::unit::Runs::Unit(unit) = &mut unit.runs else { panic!("a process") };
            unit.datacenter = "office".parse().unwrap();
        }
    };
    assert!(matches!(refusal(stray), IncompleteWorld::StrayUnit { .. }));
}

/// The first plan of the default stack, changed.
fn complaints(change: impl Fn(&mut Vec<Planned>)) -> Vec<String> {
    let want = wanted(&default_stack(), 0);
    let seen = Observed::default();
    let mut plan = plan(&want, &seen);
    change(&mut plan.steps);
    lint(&plan, &want, &seen).iter().map(ToString::to_string).collect()
}

/// Leaves out every step whose line begins so.
fn without(start: &str) -> Vec<String> {
    complaints(|steps| steps.retain(|planned| !planned.step.to_string().starts_with(start)))
}

#[test]
fn the_checker_complains_about_plans_that_are_wrong() {
    assert_eq!(complaints(|_| {}), Vec::<String>::new());
    assert_eq!(without("prepare image"), ["ghost-blog@home starts before image ghost is there"]);
    assert_eq!(without("configure the edge of home"), ["edge@home starts without configuration or certificate"]);
    assert_eq!(without("issue a certificate for home"), ["edge@home starts without configuration or certificate"]);
    assert_eq!(without("run edge@home"), ["ghost-blog@home starts before edge@home"]);
    assert_eq!(without("run ghost"), ["site blog is set up before it runs"]);
    assert_eq!(without("set up"), ["settings of site blog before its set-up"]);
    assert_eq!(without("run edge@office"), ["the mirror of site blog at office is filled before the edge runs"]);
    assert_eq!(without("start the supervisor").len(), 3, "each of the units");
    let twice = complaints(|steps| steps.push(steps[0].clone()));
    assert!(twice[0].ends_with("is in the plan twice"), "{twice:?}");
    let stopped = complaints(|steps| {
        let step = Step::StopUnit { datacenter: "home".parse().unwrap(), unit: "edge@home".parse().unwrap() };
        steps.push(Planned { step, ..steps[0].clone() });
    });
    assert_eq!(stopped, ["edge@home is declared, and stopped for good"]);
    let other = complaints(|steps| {
        for planned in steps {
            if let Step::RunUnit { spec, .. } = &mut planned.step {
                *spec = Digest::of("another");
            }
        }
    });
    assert!(other.contains(&"edge@office is not described like this".to_owned()), "{other:?}");
}

#[test]
fn peers_are_told_every_uplink_that_can_be_dialled_the_preferred_one_first() {
    let (home, office) = ("home".parse().unwrap(), "office".parse::<sovereign_model::EdgeName>().unwrap());
    let mut stack = default_stack();
    let datacenter = stack.datacenters.get_mut(&home).unwrap();
    let first = datacenter.uplinks[0].clone();
    let uplink = |name: &str, address, port, reach| Uplink {
        name: name.into(),
        address,
        port,
        local_port: port,
        http: None,
        reach,
    };
    datacenter.uplinks = vec![
        uplink("fibre", UplinkAddress::Fixed("192.0.2.1".parse().unwrap()), 443, Reach::Direct),
        uplink("mobile", UplinkAddress::Dynamic, 9443, Reach::OutboundOnly),
        uplink("cable", UplinkAddress::Dynamic, 443, Reach::Forwarded),
        uplink("v6", UplinkAddress::Fixed("2001:db8::1".parse().unwrap()), 443, Reach::Direct),
        first,
    ];
    let want = wanted(&stack, 0);
    let peer = &want.edges[&office].config.peers[0];
    let addresses: Vec<_> = peer.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:443", "[::1]:443", "127.0.0.1:8443"]);
    stack.datacenters.get_mut(&home).unwrap().uplinks.retain(|uplink| uplink.name == "mobile");
    assert!(wanted(&stack, 0).edges[&office].config.peers[0].addresses.is_empty());
}

/// Two data centers with hosts of their own; the applications are on the first host of the first one.
const STACK_OF_HOSTS: &str = r#"
version = 1
[stack]
name = "shop"
[[datacenter]]
name = "home"
engine = "incus"
[[datacenter.uplink]]
name = "fibre"
address = "192.0.2.1"
[[datacenter.host]]
name = "atlas"
address = "192.0.2.1"
[[datacenter.host]]
name = "rhea"
address = "192.0.2.2"
[[datacenter]]
name = "office"
engine = "incus"
[[datacenter.uplink]]
name = "cable"
address = "198.51.100.1"
reach = "forwarded"
[[datacenter.host]]
name = "titan"
address = "10.0.0.5"
[[site]]
name = "blog"
app = "ghost"
canonical = "blog.example.org"
primary = "home"
mirrors = ["office"]
"#;

fn stack_of_hosts() -> Stack {
    sovereign_model::parse("stack.toml", STACK_OF_HOSTS, Path::new("/srv")).unwrap()
}

/// What is wanted when the image of Ghost is the one of a release.
fn wanted_on_hosts(release: u8) -> Wanted {
    let stack = stack_of_hosts();
    let mut world = world(&stack, 0);
    for unit in world.units.values_mut() {
        unit.runs = common::instance(unit.runs.name(), "home", "atlas", release);
    }
    desired(&stack, &world).unwrap()
}

#[test]
fn hosts_have_an_edge_each_and_one_of_them_the_application() {
    insta::assert_snapshot!(next(&wanted_on_hosts(0), &Observed::default()), @r"
    prepare image ghost (not there yet)
    issue a certificate for home/atlas (1 name) (not there yet)
    issue a certificate for home/rhea (1 name) (not there yet)
    issue a certificate for office/titan (1 name) (not there yet)
    run ghost-blog@home (not there yet)
    configure the edge of home/atlas (generation 1) (not there yet)
    run edge-atlas@home (not there yet)
    configure the edge of home/rhea (generation 1) (not there yet)
    run edge-rhea@home (not there yet)
    configure the edge of office/titan (generation 1) (not there yet)
    run edge-titan@office (not there yet)
    run agent-atlas@home (not there yet)
    run agent-rhea@home (not there yet)
    run agent-titan@office (not there yet)
    set up site blog at home (not there yet)
    fill the mirror of site blog at home/rhea (not there yet)
    fill the mirror of site blog at office/titan (not there yet)
    ");
}

#[test]
fn a_container_is_replaced_beside_the_old_one_and_that_ends_when_edges_know_the_new_one() {
    let seen = up(&wanted_on_hosts(0));
    insta::assert_snapshot!(next(&wanted_on_hosts(1), &seen), @r"
    replace ghost-blog@home (declared otherwise now)
    configure the edge of home/atlas (generation 2) (declared otherwise now)
    end what ghost-blog@home has replaced (another one is in its place)
    ");
    // Killed before the last step: it is done by the next run.
    let mut seen = seen;
    let mut plan = plan(&wanted_on_hosts(1), &seen);
    plan.steps.pop();
    apply(&plan, &wanted_on_hosts(1), &mut seen);
    insta::assert_snapshot!(next(&wanted_on_hosts(1), &seen), @"end what ghost-blog@home has replaced (another one is in its place)");
}

#[test]
fn nothing_is_planned_for_a_host_that_is_away() {
    let want = wanted_on_hosts(0);
    let away = |edge: &str| {
        let mut seen = Observed::default();
        seen.away.insert(edge.parse().unwrap(), "it does not answer".to_owned());
        assert_eq!(plan(&want, &seen).away, seen.away);
        next(&want, &seen)
    };
    insta::assert_snapshot!(away("office/titan"), @r"
    prepare image ghost (not there yet)
    issue a certificate for home/atlas (1 name) (not there yet)
    issue a certificate for home/rhea (1 name) (not there yet)
    run ghost-blog@home (not there yet)
    configure the edge of home/atlas (generation 1) (not there yet)
    run edge-atlas@home (not there yet)
    configure the edge of home/rhea (generation 1) (not there yet)
    run edge-rhea@home (not there yet)
    run agent-atlas@home (not there yet)
    run agent-rhea@home (not there yet)
    set up site blog at home (not there yet)
    fill the mirror of site blog at home/rhea (not there yet)
    ");
    insta::assert_snapshot!(away("home/atlas"), @r"
    prepare image ghost (not there yet)
    issue a certificate for home/rhea (1 name) (not there yet)
    issue a certificate for office/titan (1 name) (not there yet)
    configure the edge of home/rhea (generation 1) (not there yet)
    run edge-rhea@home (not there yet)
    configure the edge of office/titan (generation 1) (not there yet)
    run edge-titan@office (not there yet)
    run agent-rhea@home (not there yet)
    run agent-titan@office (not there yet)
    ");
}

/// What the agent of an edge watches.
fn watches(stack: &Stack, edge: &str) -> Vec<String> {
    let want = desired(stack, &on_hosts(stack)).unwrap();
    let agent = &want.agents[&edge.parse().unwrap()];
    let runs = want.unit(&agent.config.datacenter, &agent.unit).unwrap();
    let unit = runs.runs.as_unit().unwrap();
    // Its description names its configuration by what is in it.
    assert!(unit.args[2].ends_with(&format!("/agent/config-{}.json", agent.config_digest.short())), "{unit:?}");
    let watched = agent.config.watched.iter().map(|watched| {
        let name = watched.name.as_ref().map_or("its address", |name| name.as_str());
        let public = if watched.public { ", public" } else { "" };
        format!("{} {} {} as {name}{public}", watched.datacenter, watched.at, watched.address)
    });
    watched.collect()
}

fn on_hosts(stack: &Stack) -> sovereign_plan::World {
    let mut world = world(stack, 0);
    for unit in world.units.values_mut() {
        unit.runs = common::instance(unit.runs.name(), "home", "atlas", 0);
    }
    world
}

#[test]
fn an_agent_watches_the_uplinks_of_the_others_and_the_insides_of_its_own() {
    let mut stack = stack_of_hosts();
    assert_eq!(
        watches(&stack, "office/titan"),
        ["home fibre 192.0.2.1:443 as blog.example.org", "office titan 10.0.0.5:443 as blog.example.org"]
    );
    assert_eq!(
        watches(&stack, "home/rhea"),
        [
            "home atlas 192.0.2.1:443 as blog.example.org",
            "home rhea 192.0.2.2:443 as blog.example.org",
            "office cable 198.51.100.1:443 as blog.example.org"
        ]
    );
    // Nobody is reached at an address that is not known, or that leads nowhere.
    let home = stack.datacenters.get_mut(&"home".parse().unwrap()).unwrap();
    let uplink =
        |name: &str, address, reach| Uplink { name: name.to_owned(), address, reach, ..home.uplinks[0].clone() };
    let more = [
        uplink("dsl", UplinkAddress::Dynamic, Reach::Forwarded),
        uplink("lte", UplinkAddress::Fixed("203.0.113.8".parse().unwrap()), Reach::OutboundOnly),
        uplink("v6", UplinkAddress::Fixed("2001:db8::1".parse().unwrap()), Reach::Direct),
    ];
    home.uplinks.extend(more);
    assert_eq!(
        watches(&stack, "office/titan")[..2],
        ["home fibre 192.0.2.1:443 as blog.example.org", "home v6 [2001:db8::1]:443 as blog.example.org"]
    );
    // A proxy in front has its own certificate, and what comes past it is not for us.
    let from = vec!["192.0.2.9".parse().unwrap()];
    let proxy = sovereign_model::edge_rules::Proxy { speaks: sovereign_model::edge_rules::ProxySpeech::Http, from };
    stack.datacenters.get_mut(&"office".parse().unwrap()).unwrap().proxy = Some(proxy);
    assert_eq!(watches(&stack, "home/rhea")[2..], ["office cable 198.51.100.1:443 as blog.example.org, public"]);
    assert!(watches(&stack, "office/titan").iter().all(|watched| !watched.starts_with("office")));
    stack.sites.clear();
    let want = desired(&stack, &world(&stack, 0)).unwrap();
    assert!(want.agents.values().flat_map(|agent| &agent.config.watched).all(|watched| watched.name.is_none()));
}

#[test]
fn an_address_that_changes_is_learned_by_edges_of_others_and_watched_by_their_agents() {
    let mut stack = stack_of_hosts();
    let of_office = |stack: &Stack| {
        let want = desired(stack, &on_hosts(stack)).unwrap();
        let edge = "office/titan".parse().unwrap();
        let learned: Vec<_> = want.edges[&edge].config.peers.iter().map(|peer| peer.learned).collect();
        let agent = &want.agents[&edge];
        let unit = want.unit(&agent.config.datacenter, &agent.unit).unwrap().runs.as_unit().unwrap();
        let dynamic = agent.config.dynamic.iter().map(|dynamic| format!("{} {}", dynamic.at, dynamic.port));
        (learned, dynamic.collect::<Vec<_>>(), unit.confinement.connect.clone().unwrap())
    };
    assert_eq!(of_office(&stack), (vec![None, None], vec![], vec![443]));
    let home = stack.datacenters.get_mut(&"home".parse().unwrap()).unwrap();
    let dsl = Uplink {
        name: "dsl".to_owned(),
        address: UplinkAddress::Dynamic,
        reach: Reach::Forwarded,
        port: 8443,
        ..home.uplinks[0].clone()
    };
    home.uplinks.push(dsl);
    let told = Some(Learned::Public);
    assert_eq!(of_office(&stack), (vec![told, told], vec!["dsl 8443".to_owned()], vec![443, 8443]));
    let want = desired(&stack, &on_hosts(&stack)).unwrap();
    // Its own are not asked: nobody judges an uplink from behind it.
    assert!(want.agents[&"home/atlas".parse().unwrap()].config.dynamic.is_empty());
    let at_home = &want.edges[&"home/atlas".parse().unwrap()].config.peers;
    assert!(at_home.iter().all(|peer| peer.learned.is_none()));
    // Where nobody comes in over it, nobody is to know it.
    stack.datacenters.get_mut(&"home".parse().unwrap()).unwrap().uplinks[1].reach = Reach::OutboundOnly;
    assert_eq!(of_office(&stack), (vec![None, None], vec![], vec![443]));
    // In a lab all addresses are private.
    stack.datacenters.get_mut(&"home".parse().unwrap()).unwrap().uplinks[1].reach = Reach::Direct;
    stack.datacenters.get_mut(&"office".parse().unwrap()).unwrap().uplinks[0].address =
        UplinkAddress::Fixed("10.0.0.5".parse().unwrap());
    assert_eq!(of_office(&stack).0, [Some(Learned::Any); 2]);
}

#[test]
fn another_address_replaces_the_agents_that_watch_it() {
    let mut stack = stack_of_hosts();
    let seen = up(&wanted_on_hosts(0));
    stack.datacenters.get_mut(&"office".parse().unwrap()).unwrap().uplinks[0].address =
        UplinkAddress::Fixed("198.51.100.2".parse().unwrap());
    let plan = plan(&desired(&stack, &on_hosts(&stack)).unwrap(), &seen);
    let agents: Vec<_> =
        plan.steps.iter().map(|step| step.step.to_string()).filter(|step| step.contains("agent")).collect();
    assert_eq!(agents, ["replace agent-atlas@home", "replace agent-rhea@home"]);
}

#[test]
fn where_nobody_else_is_there_is_no_agent_and_those_there_were_are_stopped() {
    let mut stack = stack_of_hosts();
    let seen = up(&wanted_on_hosts(0));
    stack.datacenters.remove(&"office".parse().unwrap());
    stack.sites.values_mut().for_each(|site| site.mirrors.clear());
    let want = desired(&stack, &on_hosts(&stack)).unwrap();
    assert!(want.agents.is_empty());
    let plan = next(&want, &seen);
    assert!(plan.contains("stop agent-atlas@home, keep its data") && plan.contains("stop agent-rhea@home"), "{plan}");
}

#[test]
fn a_host_that_is_evacuated_on_purpose_is_left_alone_and_named() {
    let want = wanted_on_hosts(1);
    let mut seen = up(&wanted_on_hosts(0));
    let (edge, note) = ("home/atlas".parse::<sovereign_model::EdgeName>().unwrap(), "by ann".to_owned());
    seen.evacuated.insert(edge.clone(), note.clone());
    for unit in seen.datacenters.values_mut().flat_map(|datacenter| &mut datacenter.units) {
        if unit.0.as_str().starts_with("ghost-") {
            unit.1.state = UnitState::Stopped;
        }
    }
    // What is declared otherwise now is done everywhere else.
    assert_eq!(next(&want, &seen), next(&wanted_on_hosts(0), &seen));
    let left = plan(&want, &seen);
    assert_eq!((left.evacuated, left.away.len()), ([(edge.clone(), note)].into(), 0));
    // Who did it does not make another plan.
    let other = seen.fingerprint();
    seen.evacuated.insert(edge.clone(), "by bob".to_owned());
    assert_eq!(seen.fingerprint(), other);
    // It came back, and what was declared meanwhile is done.
    seen.evacuated.clear();
    assert!(next(&want, &seen).contains("ghost-blog@home"));
}

/// Applications in instances post their notices of changes to the edge at the bridge's address, and look at its certificate.
#[test]
fn certificates_of_hosts_are_good_for_what_instances_call_them() {
    let on_bridge = std::net::IpAddr::V4(sovereign_model::instance::bridge::HOST);
    let named = |want: &Wanted| {
        let named = want
            .edges
            .iter()
            .map(|(edge, wanted)| (edge.host.is_some(), wanted.certificate.addresses.contains(&on_bridge)));
        named.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(named(&wanted_on_hosts(0)), [(true, true)].into());
    assert_eq!(named(&wanted(&default_stack(), 0)), [(false, false)].into());
}

/// What lies on the hosts, as this machine and others have written it.
fn lies(seen: &mut Observed, edge: &str, generation: u64, content: &str, written: &[(u64, &str)]) {
    let written_as = |generation, content: &str| Written { generation, config: Digest::of(content) };
    let config = seen.edges.get_mut(&edge.parse().unwrap()).unwrap().config.as_mut().unwrap();
    let lies = written_as(generation, content);
    let written = written.iter().map(|(generation, content)| written_as(*generation, content)).collect();
    (config.generation, config.config) = (generation, lies.config);
    config.provenance = Some(Provenance { lies, signed: true, written });
}

#[test]
fn a_generation_that_was_made_elsewhere_is_not_written_over_unseen() {
    let want = wanted_on_hosts(0);
    let seen = up(&want);
    let after = |edge: &str, generation, content: &str, written: &[(u64, &str)]| {
        let mut seen = seen.clone();
        lies(&mut seen, edge, generation, content, written);
        next(&want, &seen)
    };
    // Written here, and another is wanted now: nothing unusual.
    assert_eq!(
        after("home/atlas", 4, "mine", &[(4, "mine")]),
        "configure the edge of home/atlas (generation 5) (declared otherwise now)"
    );
    // Killed between writing it down and knowing that it lies there, or before.
    for (generation, content) in [(4, "mine"), (5, "next")] {
        let planned = after("home/atlas", generation, content, &[(4, "mine"), (5, "next")]);
        assert_eq!(planned, "configure the edge of home/atlas (generation 6) (declared otherwise now)");
    }
    insta::assert_snapshot!(after("home/atlas", 5, "theirs", &[(4, "mine")]), @"! the edge of home/atlas has generation 5, which was made on another management machine; this one wrote 4 last");
    // The same number with something else in it, on one host of three.
    insta::assert_snapshot!(after("office/titan", 4, "theirs", &[(4, "mine")]), @"! the edge of office/titan has generation 4, which was made on another management machine; this one wrote 4 last");
    // A host that was made anew there.
    insta::assert_snapshot!(after("office/titan", 1, "theirs", &[(4, "mine")]), @"! the edge of office/titan has generation 1, which was made on another management machine; this one wrote 4 last");
    // A management machine that was recovered, or is new.
    insta::assert_snapshot!(after("home/rhea", 7, "theirs", &[]), @"! the edge of home/rhea has generation 7, which was made on another management machine; this one wrote none there");
    let mut seen = seen.clone();
    lies(&mut seen, "home/atlas", 7, "theirs", &[]);
    let obstacles = plan(&want, &seen).obstacles;
    assert!(obstacles[0].help().unwrap().contains("--take-over"), "{obstacles:?}");
    let kept: Obstacle = serde_json::from_str(&serde_json::to_string(&obstacles[0]).unwrap()).unwrap();
    assert_eq!(kept, obstacles[0]);

    // Taken over, it is known here, and its number is counted on.
    lies(&mut seen, "home/atlas", 7, "theirs", &[(7, "theirs")]);
    assert_eq!(next(&want, &seen), "configure the edge of home/atlas (generation 8) (declared otherwise now)");
    // A host that came back from an old copy of its disk: the number is higher than any that was written.
    lies(&mut seen, "home/atlas", 3, "old", &[(3, "old"), (9, "mine")]);
    assert_eq!(next(&want, &seen), "configure the edge of home/atlas (generation 10) (declared otherwise now)");
}

#[test]
fn what_was_made_elsewhere_and_says_the_same_is_in_nobodys_way() {
    let want = wanted_on_hosts(0);
    let mut seen = up(&want);
    let edge = "home/atlas".parse().unwrap();
    let wanted = want.edges[&edge].config_digest;
    let config = seen.edges.get_mut(&edge).unwrap().config.as_mut().unwrap();
    let mut provenance =
        Provenance { lies: Written { generation: 7, config: wanted }, signed: true, written: Vec::new() };
    config.provenance = Some(provenance.clone());
    assert_eq!(next(&want, &seen), "");
    // Known by now or not, the plan is the same, and so is what it depends on once it is.
    let unknown = seen.fingerprint();
    provenance.written = vec![provenance.lies];
    seen.edges.get_mut(&edge).unwrap().config.as_mut().unwrap().provenance = Some(provenance.clone());
    assert_eq!(seen.fingerprint(), up(&want).fingerprint());
    assert_ne!(seen.fingerprint(), unknown);
    // But not when it was signed with a key that this machine does not have: the other one has rotated it.
    provenance = Provenance { signed: false, written: Vec::new(), ..provenance };
    seen.edges.get_mut(&edge).unwrap().config.as_mut().unwrap().provenance = Some(provenance);
    insta::assert_snapshot!(next(&want, &seen), @"! the edge of home/atlas has generation 7, which was made on another management machine, with a key that this one does not have; this one wrote none there");
    let obstacle = plan(&want, &seen).obstacles.remove(0);
    assert!(obstacle.help().unwrap().contains("config-signing"), "{obstacle:?}");
    // Nothing is known of a host that is away, and nothing is done there.
    seen.away.insert(edge, "it does not answer".to_owned());
    assert_eq!(next(&want, &seen), "");
}

#[test]
fn edges_of_hosts_find_each_other() {
    let want = wanted_on_hosts(0);
    let peers = |edge: &str| {
        let config = &want.edges[&edge.parse().unwrap()].config;
        let peers = config.peers.iter().map(|peer| format!("{} {:?}", peer.datacenter, peer.addresses));
        peers.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(peers("home/atlas"), @r"
    home [192.0.2.2:443]
    office [198.51.100.1:443]
    ");
    insta::assert_snapshot!(peers("office/titan"), @r"
    home [192.0.2.1:443]
    home [192.0.2.2:443]
    ");
    let source = |edge: &str| format!("{:?}", want.edges[&edge.parse().unwrap()].config.sites[0].source);
    insta::assert_snapshot!(["home/atlas", "home/rhea", "office/titan"].map(source).join("\n"), @r#"
    Tcp(10.64.35.6:2368)
    Link("home")
    Link("home")
    "#);
}

/// Sites by what was seen of them, each at home of this machine.
fn data_on_this_machine(seen: &mut Observed) {
    let blog = SiteSeen { at: "home".parse().unwrap(), set_up: true, settings: None, webhook: true };
    seen.sites.insert("blog".parse().unwrap(), blog);
}

#[test]
fn a_site_moves_to_hosts_before_anybody_is_sent_there() {
    let want = wanted_on_hosts(0);
    let mut seen = Observed::default();
    data_on_this_machine(&mut seen);
    let refused = plan(&want, &seen);
    let [obstacle] = refused.obstacles.as_slice() else { panic!("{refused:?}") };
    insta::assert_snapshot!(format!("{obstacle}\n{}", obstacle.help().unwrap()), @r#"
    site blog is declared at home/atlas, but its data is at home
    `sovereign site move blog` takes it along; to leave it there, write `primary = "home"` for site blog, and the engine that home had
    "#);
    let parts = moving(&want, &seen, &"blog".parse().unwrap()).unwrap();
    let parts = [&parts.images, &parts.applications, &parts.set_up, &parts.edge].map(shown);
    insta::assert_snapshot!(parts.join("\n--\n"), @r"
    prepare image ghost (not there yet)
    --
    run ghost-blog@home (not there yet)
    --
    set up site blog at home (not there yet)
    --
    issue a certificate for home/atlas (1 name) (not there yet)
    configure the edge of home/atlas (generation 1) (not there yet)
    run edge-atlas@home (not there yet)
    ");
    assert!(moving(&want, &seen, &"nobody".parse().unwrap()).is_none());
}

#[test]
fn what_serves_readers_is_left_alone_while_a_site_moves() {
    let want = wanted_on_hosts(1);
    // Everything is up, as another release had it; the data is on this machine still.
    let mut seen = up(&wanted_on_hosts(0));
    data_on_this_machine(&mut seen);
    let parts = moving(&want, &seen, &"blog".parse().unwrap()).unwrap();
    let all = [&parts.images, &parts.applications, &parts.set_up, &parts.edge].map(|part| part.steps.clone()).concat();
    let stops = |step: &Step| matches!(step, Step::StopUnit { .. } | Step::RetireUnit { .. } | Step::FillMirror { .. });
    assert!(!all.iter().any(|planned| stops(&planned.step)), "{all:?}");
    let elsewhere = |step: &Step| match step {
        Step::ConfigureEdge { edge, .. } | Step::IssueCertificate { edge, .. } => edge.to_string() != "home/atlas",
        _ => false,
    };
    assert!(!all.iter().any(|planned| elsewhere(&planned.step)), "{all:?}");
    assert!(parts.set_up.steps.iter().any(|planned| matches!(planned.step, Step::SetUpSite { .. })));
}

/// The same with a domain that the stack answers for itself, and one that it does not.
fn stack_with_domains() -> Stack {
    let more = r#"
[[domain]]
name = "example.org"
registrar = "r"
[[domain]]
name = "example.net"
registrar = "r"
provider = "p"
"#;
    sovereign_model::parse("stack.toml", &(STACK_OF_HOSTS.to_owned() + more), Path::new("/srv")).unwrap()
}

fn wanted_with_domains(stack: &Stack) -> Wanted {
    desired(stack, &on_hosts(stack)).unwrap()
}

/// Where each name server is asked, by its unit.
fn asked(want: &Wanted) -> Vec<String> {
    let asked = want.name_servers.values().map(|server| {
        let places: Vec<_> = server.config.listen.iter().map(ToString::to_string).collect();
        format!("{} {}", server.unit, places.join(" "))
    });
    asked.collect()
}

#[test]
fn a_name_server_is_beside_each_edge_that_a_registry_can_be_told_of() {
    let mut stack = stack_with_domains();
    let want = wanted_with_domains(&stack);
    assert_eq!(
        asked(&want),
        [
            "name-server-atlas@home 192.0.2.1:53",
            "name-server-rhea@home 192.0.2.2:53",
            "name-server-titan@office 10.0.0.5:53"
        ]
    );
    let server = &want.name_servers[&"home/atlas".parse().unwrap()];
    assert_eq!(server.config.keys.iter().collect::<Vec<_>>(), [(&"example.org".parse().unwrap(), &20_000)]);
    let unit = want.unit(&server.config.datacenter, &server.unit).unwrap().runs.as_unit().unwrap().clone();
    assert!(unit.args[2].ends_with(&format!("/name-server/config-{}.json", server.config_digest.short())), "{unit:?}");
    assert!(unit.confinement.low_ports && unit.after == ["agent-atlas@home".parse().unwrap()], "{unit:?}");
    assert!(want.datacenters.values().flat_map(|of| of.units.values()).all(|unit| {
        let runs = unit.runs.as_unit();
        runs.is_none_or(|unit| unit.confinement.low_ports == unit.name.as_str().starts_with("name-server-"))
    }));

    // More addresses of its own, and one that is another host's.
    let home = stack.datacenters.get_mut(&"home".parse().unwrap()).unwrap();
    let address = UplinkAddress::Fixed("2001:db8::1".parse().unwrap());
    home.uplinks.push(Uplink { name: "v6".to_owned(), address, ..home.uplinks[0].clone() });
    // Nobody can be told of one that changes, or that does not lead in.
    let office = stack.datacenters.get_mut(&"office".parse().unwrap()).unwrap();
    office.uplinks[0].reach = Reach::OutboundOnly;
    office.uplinks.push(Uplink {
        name: "dsl".to_owned(),
        address: UplinkAddress::Dynamic,
        ..office.uplinks[0].clone()
    });
    assert_eq!(
        asked(&wanted_with_domains(&stack)),
        ["name-server-atlas@home 192.0.2.1:53 [2001:db8::1]:53", "name-server-rhea@home 192.0.2.2:53 [2001:db8::1]:53"]
    );
    stack.domains.remove(&"example.org".parse().unwrap());
    assert!(wanted_with_domains(&stack).name_servers.is_empty());
    assert!(desired(&default_stack(), &world(&default_stack(), 0)).unwrap().name_servers.is_empty());
}

#[test]
fn name_servers_come_after_agents_and_go_with_the_last_domain() {
    let stack = stack_with_domains();
    let want = wanted_with_domains(&stack);
    let steps = next(&want, &Observed::default());
    let at = |what: &str| steps.find(what).unwrap_or_else(|| panic!("{what}: {steps}"));
    assert!(at("run agent-atlas@home") < at("run name-server-atlas@home"));
    let seen = up(&want);
    assert_eq!(next(&want, &seen), "");
    // Another address of a data center is another answer of all; what a site is called in a domain of others is none.
    let mut moved = stack.clone();
    moved.datacenters.get_mut(&"office".parse().unwrap()).unwrap().uplinks[0].address =
        UplinkAddress::Fixed("198.51.100.2".parse().unwrap());
    let steps = next(&wanted_with_domains(&moved), &seen);
    for name in ["atlas@home", "rhea@home", "titan@office"] {
        assert!(steps.contains(&format!("replace name-server-{name}")), "{steps}");
    }
    let steps = next(&wanted_on_hosts(0), &seen);
    assert!(steps.contains("stop name-server-atlas@home, keep its data (no longer declared)"), "{steps}");
    let keyless = sovereign_plan::World { zone_keys: Default::default(), ..on_hosts(&stack) };
    let missing = IncompleteWorld::ZoneKey { domain: "example.org".parse().unwrap() };
    assert_eq!(desired(&stack, &keyless), Err(missing));
}

#[test]
fn a_host_that_lacks_what_a_name_server_is_made_of_is_named_with_the_way_out() {
    let want = wanted_with_domains(&stack_with_domains());
    let mut seen = Observed::default();
    let edge: sovereign_model::EdgeName = "home/rhea".parse().unwrap();
    seen.edges.entry(edge.clone()).or_default().lacks = vec!["knot".to_owned(), "tor-geoipdb".to_owned()];
    let [obstacle] = &plan(&want, &seen).obstacles[..] else { panic!("one obstacle") };
    assert_eq!(obstacle.to_string(), "home/rhea lacks what a name server is made of: knot, tor-geoipdb");
    assert!(obstacle.help().unwrap().contains("sovereign host add root@ADDRESS --datacenter home --name rhea"));
    // Where none is wanted nothing is missed, nor of a host that nothing is done on.
    assert_eq!(plan(&wanted_on_hosts(0), &seen).obstacles, []);
    seen.evacuated.insert(edge, "by ann".to_owned());
    assert_eq!(plan(&want, &seen).obstacles, []);
}

#[test]
fn where_an_authority_is_declared_edges_look_for_its_certificates_and_agents_believe_them() {
    let mut stack = stack_with_domains();
    let before = wanted_with_domains(&stack);
    let watched = |want: &Wanted| -> Vec<bool> {
        want.agents.values().flat_map(|agent| &agent.config.watched).map(|watched| watched.public).collect()
    };
    let without = |config: &EdgeConfig| config.public_certificates.is_none() && config.public_authorities.is_none();
    assert!(before.edges.values().all(|edge| without(&edge.config)));
    assert!(watched(&before).iter().all(|public| !public));
    stack.authorities.push(sovereign_model::authority::Authority {
        name: "ca".parse().unwrap(),
        directory: "https://ca.example/dir".parse().unwrap(),
        roots: None,
        profile: None,
        caa: None,
    });
    let want = wanted_with_domains(&stack);
    assert!(watched(&want).len() > 1 && watched(&want).iter().all(|public| *public));
    for edge in want.edges.values() {
        let folder = edge.config.public_certificates.as_ref().unwrap();
        // The unit may read its own folder, and stays what it is.
        assert_eq!(folder.parent(), edge.config.certificate.chain.parent());
        // It has no roots of its own, so what another edge passes on is held against those of the machine.
        let authorities = edge.config.public_authorities.as_ref().unwrap();
        assert_eq!((authorities.roots.as_str(), authorities.machine), ("", true));
    }
    let steps = next(&want, &up(&before));
    assert!(steps.contains("replace agent-atlas@home"), "{steps}");
    // Renewers come when there is whom they ask, and go with the last authority.
    let at = |what: &str| steps.find(what).unwrap_or_else(|| panic!("{what}: {steps}"));
    for needed in ["replace edge-atlas@home", "replace name-server-atlas@home"] {
        assert!(at(needed) < at("run renewer-atlas@home"), "{steps}");
    }
    let steps = next(&before, &up(&want));
    assert!(steps.contains("stop renewer-titan@office, keep its data (no longer declared)"), "{steps}");
}

#[test]
fn renewers_have_an_order_ask_whom_the_world_asks_and_are_heard_by_a_key_of_their_own() {
    let mut stack = stack_with_domains();
    let authority = |name: &str| sovereign_model::authority::Authority {
        name: name.parse().unwrap(),
        directory: format!("https://{name}.example/dir").parse().unwrap(),
        roots: Some("/somewhere/roots.pem".into()),
        profile: None,
        caa: None,
    };
    stack.authorities.extend([authority("first"), authority("second")]);
    let world = on_hosts(&stack);
    let want = desired(&stack, &world).unwrap();
    let order: Vec<_> = want.renewers.values().map(|renewer| (renewer.config.before, renewer.config.all)).collect();
    assert_eq!(order, [(1, 4), (2, 4), (3, 4)]);
    let titan = &want.renewers[&"office/titan".parse().unwrap()];
    let asked: Vec<_> = titan.config.name_servers.iter().map(|server| server.at.to_string()).collect();
    insta::assert_snapshot!(asked.join(" "), @"10.0.0.5:53 192.0.2.1:53");
    assert!(titan.config.authorities.iter().all(|asked| asked.authority.roots.is_none()));
    assert!(titan.config.names.contains_key(&"blog.example.org".parse().unwrap()));
    let unit = want.unit(&"office".parse().unwrap(), &titan.unit).unwrap().runs.as_unit().unwrap();
    let writes = |edge: &str| edge_unit(&want, edge).as_unit().unwrap().confinement.write.clone();
    assert!(unit.confinement.read.iter().any(|read| writes("office/titan").contains(read)), "{unit:?}");
    let keyless = sovereign_plan::World { renewer_keys: Default::default(), ..world };
    let missing = IncompleteWorld::RenewerKey { edge: "home/atlas".parse().unwrap() };
    assert_eq!(desired(&stack, &keyless), Err(missing));
}

#[test]
fn what_is_decided_of_data_centers_is_told_and_nothing_else_is_done() {
    let stack = stack_with_domains();
    let world = on_hosts(&stack);
    let before = desired(&stack, &world).unwrap();
    let seen = up(&before);
    let home = BTreeSet::from(["home".parse().unwrap()]);
    let drained = sovereign_plan::World { drained: home.clone(), ..world.clone() };
    // One that is not declared any more is nobody's.
    let gone = sovereign_plan::World { drained: BTreeSet::from(["attic".parse().unwrap()]), ..world.clone() };
    assert_eq!(desired(&stack, &gone).unwrap(), before);
    let want = desired(&stack, &drained).unwrap();
    let all = plan(&want, &seen);
    let told = telling(&all, &want, Hearer::NameServers);
    insta::assert_snapshot!(shown(&told.plan), @r"
    replace name-server-atlas@home (declared otherwise now)
    replace name-server-rhea@home (declared otherwise now)
    replace name-server-titan@office (declared otherwise now)
    ");
    assert_eq!((told.plan.steps.len(), &told.pending[..]), (all.steps.len(), &[][..]), "that is all there is to do");
    let maintained = sovereign_plan::World { maintained: home, ..world.clone() };
    let want = desired(&stack, &maintained).unwrap();
    let all = plan(&want, &seen);
    let told = telling(&all, &want, Hearer::Edges);
    insta::assert_snapshot!(shown(&told.plan), @r"
    configure the edge of home/atlas (generation 2) (declared otherwise now)
    configure the edge of home/rhea (generation 2) (declared otherwise now)
    configure the edge of office/titan (generation 2) (declared otherwise now)
    ");
    assert_eq!((told.plan.steps.len(), &told.pending[..]), (all.steps.len(), &[][..]));

    // A data center that is away is told nothing, and keeps nobody from being told.
    let mut away = seen.clone();
    away.away.insert("office/titan".parse().unwrap(), "no route".to_owned());
    let told = telling(&plan(&want, &away), &want, Hearer::Edges);
    assert!(!shown(&told.plan).contains("titan") && told.plan.steps.len() == 2 && told.pending.is_empty());

    // Where the stack file says more than was carried out, who is told would hear of that too.
    let mut other = world.clone();
    for unit in other.units.values_mut() {
        unit.runs = common::instance(unit.runs.name(), "home", "atlas", 7);
    }
    let want = desired(&stack, &sovereign_plan::World { maintained: maintained.maintained, ..other }).unwrap();
    let told = telling(&plan(&want, &seen), &want, Hearer::Edges);
    let pending: Vec<String> = told.pending.iter().map(|planned| planned.step.to_string()).collect();
    assert_eq!(pending, ["replace ghost-blog@home"]);
    // What does not run is no change, and is not started.
    let mut still = seen.clone();
    let home = still.datacenters.get_mut(&"home".parse().unwrap()).unwrap();
    home.units.values_mut().for_each(|unit| unit.state = UnitState::Stopped);
    let want = desired(&stack, &drained).unwrap();
    let told = telling(&plan(&want, &still), &want, Hearer::NameServers);
    assert_eq!(shown(&told.plan), "replace name-server-titan@office (declared otherwise now)");
    assert_eq!(told.pending, []);
    // Who has not heard of one decision yet hears of another all the same.
    let both = sovereign_plan::World { maintained: drained.drained.clone(), ..drained };
    let want = desired(&stack, &both).unwrap();
    for hearer in [Hearer::NameServers, Hearer::Edges] {
        let told = telling(&plan(&want, &seen), &want, hearer);
        assert_eq!((told.plan.steps.len(), &told.pending[..]), (3, &[][..]), "{hearer:?}");
    }
}
