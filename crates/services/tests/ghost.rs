//! A real Ghost, from an image named by `SOVEREIGN_GHOST_IMAGE`: the folder with `node/bin/node` and `app/` in it.
//! Without one these tests say that they were skipped; the end-to-end run names one.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test, a skipped test says so")]

mod running;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use running::{Ghost, eventually, signed_by};
use serde_json::{Value, json};
use sovereign_services::ghost::{self, OperatorError, Role};
use sovereign_services::secret::Secret;

macro_rules! ghost_or_skip {
    ($name:expr) => {
        match Ghost::prepare($name) {
            Some(ghost) => ghost,
            None => {
                eprintln!("SKIPPED: SOVEREIGN_GHOST_IMAGE names no Ghost image, nothing was tested");
                return;
            }
        }
    };
}

#[tokio::test]
async fn is_set_up_once_and_calls_nobody() {
    let mut ghost = ghost_or_skip!("blog");
    ghost.site.settings.title = Some("Setting <up> & down".to_owned());
    ghost.site.settings.timezone = Some("Europe/Zurich".to_owned());
    ghost.start().await;

    let made = ghost.setup().await.unwrap();
    assert!(made.owner_made);
    assert_eq!(made.owner_email, "owner@blog.localhost");
    assert!(made.changed.iter().any(|change| change == "webhooks"));
    let hook = ghost.hooks.next("site.changed").await;
    assert!(signed_by(&hook, ghost.webhook_key()), "{hook:?}");
    let again = ghost.setup().await.unwrap();
    assert_eq!(again.changed, Vec::<String>::new());
    assert_eq!(again.keys, made.keys);

    // The stack file changes: only that is corrected.
    ghost.site.settings.accent_color = Some("#123456".to_owned());
    ghost.site.settings.private = Some(true);
    let changed = ghost.setup().await.unwrap();
    assert_eq!(changed.changed, ["setting accent_color", "setting is_private"]);
    let made_by_ghost = changed.reader_password.unwrap();
    assert!(made_by_ghost.expose().len() >= 8, "readers are let in by a password, not by none");
    assert_eq!(ghost.get("/").await.0, StatusCode::FOUND);
    ghost.reader_password = Some(Secret::new("let me read"));
    let changed = ghost.setup().await.unwrap();
    assert_eq!(changed.changed, ["setting password"]);
    assert_eq!(changed.reader_password, ghost.reader_password);
    ghost.site.settings.private = Some(false);
    assert_eq!(ghost.setup().await.unwrap().reader_password, None);
    ghost.site.settings.timezone = Some("Mars/Olympus".to_owned());
    let refused = ghost.setup().await.unwrap_err();
    assert!(matches!(&refused, OperatorError::Refused { .. }), "{refused}");
    ghost.site.settings.timezone = None;

    // Readers are sent to nobody else, and asked for nothing that cannot work.
    for path in ["/", "/coming-soon/", "/about/", "/rss/", "/sitemap.xml"] {
        let (status, _, body) = ghost.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        for stranger in ["static.ghost.org", "jsdelivr", "#/portal", "gravatar", "subscribe in the meantime"] {
            assert!(!body.contains(stranger), "{path} has {stranger}");
        }
    }
    let (_, _, home) = ghost.get("/").await;
    assert!(home.contains("Setting &lt;up&gt; &amp; down"), "the title of the stack file");

    // With the images an author uses, pages still make Ghost call nobody.
    ghost.publish(&made.keys, json!({ "title": "A post", "html": "<p>Text</p>", "status": "published" })).await;
    let hook = ghost.hooks.next("post.published").await;
    assert!(signed_by(&hook, ghost.webhook_key()), "{hook:?}");
    assert_eq!(ghost.get("/a-post/").await.0, StatusCode::OK);
    assert_eq!(ghost.refused(), Vec::<String>::new());

    // What somebody asks Ghost to fetch is refused, and noted.
    let (status, answer) =
        ghost.admin(&made.keys, "GET", "/oembed/?url=https://example.org/page&type=bookmark", None).await;
    assert!(status.is_client_error() || status.is_server_error(), "{status} {answer}");
    eventually("the refusal is noted", async || ghost.refused() == ["example.org"]).await;
}

#[tokio::test]
async fn scheduled_posts_are_published_when_due() {
    let mut ghost = ghost_or_skip!("blog");
    ghost.start().await;
    let keys = ghost.setup().await.unwrap().keys;

    let soon = ghost.schedule(&keys, "soon", Duration::from_secs(4)).await;
    let later = ghost.schedule(&keys, "later", Duration::from_secs(6)).await;
    let moved = ghost.schedule(&keys, "moved", Duration::from_secs(3)).await;
    let back = json!({ "posts": [{ "status": "draft", "updated_at": moved["updated_at"] }] });
    let path = format!("/posts/{}/", moved["id"].as_str().unwrap());
    assert_eq!(ghost.admin(&keys, "PUT", &path, Some(back)).await.0, StatusCode::OK);

    assert_eq!(ghost.get("/soon/").await.0, StatusCode::NOT_FOUND);
    eventually("the post is published", async || ghost.get("/soon/").await.0 == StatusCode::OK).await;
    assert!(running::now().as_str() >= soon["published_at"].as_str().unwrap(), "not before its time");
    assert_eq!(ghost.hooks.next("post.published").await.body["post"]["current"]["slug"], "soon");

    // One comes due while Ghost is stopped.
    ghost.stop().await;
    eventually("the time has come", async || running::now().as_str() > later["published_at"].as_str().unwrap()).await;
    ghost.start().await;
    eventually("the overdue post is published", async || ghost.get("/later/").await.0 == StatusCode::OK).await;
    assert_eq!(ghost.get("/moved/").await.0, StatusCode::NOT_FOUND, "a post taken back stays a draft");
    assert_eq!(ghost.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn staff_come_in_by_one_time_links() {
    let mut ghost = ghost_or_skip!("blog");
    ghost.start().await;
    ghost.setup().await.unwrap();
    let operator = ghost.operator();

    let void = operator.invite("ann@example.org", Role::Editor).await.unwrap();
    let link = operator.invite("ann@example.org", Role::Author).await.unwrap();
    let token = link.link.expose().strip_prefix("https://blog.localhost:").unwrap();
    let token = token.split_once("/ghost/#/signup/").unwrap().1.trim_end_matches('/').to_owned();
    let staff = operator.staff().await.unwrap();
    assert_eq!((staff.people.len(), staff.pending.len()), (1, 1));
    assert_eq!((staff.pending[0].email.as_str(), staff.pending[0].role.as_str()), ("ann@example.org", "Author"));
    assert_eq!(format!("{void:?}"), "OneTimeLink { link: Secret(..) }");

    // What Ghost's admin does with such a link
    let invitation = |token: &str| {
        json!({ "invitation": [{
            "name": "Ann", "email": "ann@example.org", "password": "nine-Wild-geese-1", "token": token,
        }] })
    };
    let void = void.link.expose().rsplit('/').nth(1).unwrap().to_owned();
    let (status, _) = ghost.post("/authentication/invitation/", invitation(&void)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "a second invitation voids the first");
    let (status, answer) = ghost.post("/authentication/invitation/", invitation(&token)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, _) = ghost.post("/authentication/invitation/", invitation(&token)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "a link works once");
    assert!(ghost.can_sign_in("ann@example.org", "nine-Wild-geese-1").await);

    let refused = operator.invite("ann@example.org", Role::Editor).await.unwrap_err();
    assert_eq!(refused.to_string(), "Ghost refused the invitation: ann@example.org is on the staff already");
    let staff = operator.staff().await.unwrap();
    assert_eq!(staff.people[1].role, "Author");
    assert!(staff.pending.is_empty());

    let link = operator.reset_password("ann@example.org").await.unwrap();
    let token = link.link.expose().split_once("/ghost/#/reset/").unwrap().1.trim_end_matches('/').to_owned();
    let reset = |password: &str| json!({ "password_reset": [{ "token": token, "newPassword": password, "ne2Password": password }] });
    let (status, answer) = ghost.put("/authentication/password_reset/", reset("nine-Tame-geese-2")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, _) = ghost.put("/authentication/password_reset/", reset("nine-Tame-geese-3")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a link works once");
    assert!(ghost.can_sign_in("ann@example.org", "nine-Tame-geese-2").await);
    assert!(operator.reset_password("nobody@example.org").await.is_err());

    // Whoever asks for mail is told the truth.
    let forgot = json!({ "password_reset": [{ "email": "ann@example.org" }] });
    let (_, answer) = ghost.post("/authentication/password_reset/", forgot).await;
    assert!(answer.to_string().contains("this site sends no mail"), "{answer}");
    let (status, _, _) = ghost.get(ghost::BLOCKED_PATHS[1].prefix).await;
    assert_ne!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_killed_ghost_starts_again_and_keeps_its_doors_shut() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut ghost = ghost_or_skip!("blog");
    ghost.start().await;
    ghost.kill().await;
    assert!(ghost.folder().join("run/ghost.sock").exists(), "a killed Ghost leaves its socket behind");
    ghost.start().await;
    for socket in ["run/ghost.sock", "run/operator.sock"] {
        let mode = std::fs::metadata(ghost.folder().join(socket)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{socket} is nobody else's");
    }
    let stopping = SystemTime::now();
    ghost.stop().await;
    assert!(stopping.elapsed().unwrap() < Duration::from_secs(10));
    assert!(SystemTime::now() > UNIX_EPOCH);
    let answer: Value = json!(ghost.operator().staff().await.unwrap_err().help());
    assert!(answer.as_str().unwrap().contains("sovereign status"));
}

#[tokio::test]
async fn the_guard_stands_in_every_way_out() {
    let ghost = ghost_or_skip!("blog");
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ways-out.cjs");
    let lines = ghost.run_guarded(&program).await.join("\n");
    insta::assert_snapshot!(lines);
    let mut refused = ghost.refused();
    refused.sort();
    insta::assert_snapshot!(refused.join("\n"));
}
