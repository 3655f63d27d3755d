//! Setting a Ghost up: owner, keys, webhooks, settings. Every part looks first and changes only what differs, so that
//! set-up may be repeated, and finishes what a killed run began.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sovereign_model::name::Origin;
use sovereign_model::stack::Site;

use super::operator::{Operator, OperatorError};
use super::settings::{GHOSTS_PICTURES, apply_settings};
use crate::secret::Secret;

/// The integration whose keys and webhooks are ours.
const INTEGRATION: &str = "sovereign";

/// What an edge wants to hear about: what readers can see of a post, page or tag, said once with all that changed. Drafts
/// are not theirs to know. `site.changed` comes with each of these and covers the rest: themes, settings, everything at
/// once.
const EVENTS: [&str; 12] = [
    "site.changed",
    "post.published",
    "post.published.edited",
    "post.unpublished",
    "post.deleted",
    "page.published",
    "page.published.edited",
    "page.unpublished",
    "page.deleted",
    "tag.added",
    "tag.edited",
    "tag.deleted",
];

/// Who a site belongs to in Ghost's eyes.
#[derive(Debug, Clone)]
pub struct Owner {
    /// How posts are signed until the owner changes it.
    pub name: String,
    /// The address to sign in with. Nothing is ever sent to it.
    pub email: String,
    /// The first password. Ghost refuses fewer than ten characters, the words `ghost`, `password` and `passw0rd` in it,
    /// and one character for half of it or more. Thirty-two random hexadecimal digits are taken.
    pub password: Secret,
}

/// `owner@<host>`: an address for signing in, made from the site's own name. Nothing is ever sent to it.
pub fn owner_email(canonical: &Origin) -> String {
    let host = canonical.host();
    // Ghost takes an address with a dot in its domain only.
    if host.as_str().contains('.') { format!("owner@{host}") } else { format!("owner@{host}.localhost") }
}

/// Where Ghost tells what changed, and how it proves who it is.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// An https address of the primary's edge: see [`webhook_url`].
    pub target: String,
    /// The key of the signature: `X-Ghost-Signature: sha256=<hex HMAC-SHA256(key, body + t)>, t=<milliseconds>`.
    pub key: Secret,
}

/// The address of a site's webhooks at the edge of its primary data center, on this machine.
pub fn webhook_url(site: &Site) -> String {
    webhook_url_at(site, SocketAddrV4::new(Ipv4Addr::LOCALHOST, site.edge_port))
}

/// The same at an edge elsewhere.
pub fn webhook_url_at(site: &Site, edge: SocketAddrV4) -> String {
    format!("https://{edge}/.sovereign/hooks/{}", site.name)
}

/// The keys of our integration. Ghost made them; keep them in a 0600 file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Keys {
    /// The integration.
    pub integration: String,
    /// Reads what is public, by the Content API.
    pub content: Secret,
    /// `<id>:<hex>`: signs tokens for the Admin API.
    pub admin: Secret,
}

/// How a Ghost stands after [`setup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// The owner's address, as Ghost has it: the owner may have changed it.
    pub owner_email: String,
    /// Whether the owner was made in this run, with the password that was given.
    pub owner_made: bool,
    /// The keys of our integration.
    pub keys: Keys,
    /// The password readers need, when the site is private.
    pub reader_password: Option<Secret>,
    /// What was changed, for people; empty when all was right.
    pub changed: Vec<String>,
}

/// Sets Ghost up for `site`, or puts right what differs. `reader_password` is used when the stack file makes the site
/// private. When it is `None`, Ghost's own is kept, and Ghost makes one where there is none.
///
/// # Errors
/// The first thing that Ghost refused. What was done before it stays, and is not done again.
pub async fn setup(
    operator: &Operator,
    site: &Site,
    owner: &Owner,
    webhooks: &Webhooks,
    reader_password: Option<&Secret>,
) -> Result<SetUp, OperatorError> {
    let mut changed = Vec::new();
    let owner_made = make_owner(operator, site, owner).await?;
    if owner_made {
        changed.push("owner".to_owned());
    }
    changed.extend(correct_samples(operator).await?);
    let (keys, hooks_changed) = integrate(operator, webhooks).await?;
    changed.extend(hooks_changed);
    let (now, settings_changed) = apply_settings(operator, site, reader_password).await?;
    changed.extend(settings_changed);
    let private = now.get("is_private") == Some(&Value::Bool(true));
    let reader_password = now.get("password").and_then(Value::as_str).filter(|_| private).map(Secret::new);
    Ok(SetUp { owner_email: owner_now(operator).await?, owner_made, keys, reader_password, changed })
}

// Owner

#[derive(Deserialize)]
struct SetupState {
    setup: Vec<SetupFlag>,
}

#[derive(Deserialize)]
struct SetupFlag {
    status: bool,
}

async fn make_owner(operator: &Operator, site: &Site, owner: &Owner) -> Result<bool, OperatorError> {
    let state: SetupState = operator.api("authentication/isSetup", None, json!({})).await?;
    if state.setup.iter().any(|flag| flag.status) {
        return Ok(false);
    }
    let title = site.settings.title.clone().unwrap_or_else(|| site.name.to_string());
    let details = json!({ "setup": [{
        "name": owner.name, "email": owner.email, "password": owner.password, "blogTitle": title,
    }] });
    operator.api::<Value>("authentication/setup", Some(details), json!({})).await?;
    Ok(true)
}

#[derive(Deserialize)]
struct Users {
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    email: String,
    roles: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn owner_now(operator: &Operator) -> Result<String, OperatorError> {
    let users: Users = operator.api("users/browse", None, json!({ "limit": "all", "include": "roles" })).await?;
    let is_owner = |user: &User| user.roles.iter().any(|role| role.name == "Owner");
    Ok(users.users.into_iter().find(is_owner).map(|user| user.email).unwrap_or_default())
}

// Sample texts

#[derive(Deserialize)]
struct Posts {
    #[serde(alias = "pages")]
    posts: Vec<Post>,
}

#[derive(Deserialize)]
struct Post {
    id: String,
    slug: String,
    updated_at: String,
    feature_image: Option<String>,
    #[serde(default)]
    html: Option<String>,
}

/// Ghost's two sample texts ask readers to subscribe, which needs mail, and show a picture from Ghost's own server.
/// As long as nobody has rewritten them, they are replaced by texts that are true.
async fn correct_samples(operator: &Operator) -> Result<Vec<String>, OperatorError> {
    let mut changed = Vec::new();
    for (kind, slug, promise, text) in [
        ("posts", "coming-soon", "#/portal/", "This is a brand new site. Things will be up and running here shortly."),
        (
            "pages",
            "about",
            "By signing up, you'll get access to the full archive",
            "This is an independent publication.",
        ),
    ] {
        let wanted = json!({ "limit": "all", "filter": format!("slug:{slug}"), "formats": "html" });
        let found: Posts = operator.api(&format!("{kind}/browse"), None, wanted).await?;
        for post in found.posts {
            let from_ghost = |picture: &String| picture.starts_with(GHOSTS_PICTURES);
            let promises = post.html.as_deref().is_some_and(|html| html.contains(promise));
            if post.slug != slug || !(promises || post.feature_image.as_ref().is_some_and(from_ghost)) {
                continue;
            }
            let picture = post.feature_image.filter(|picture| !from_ghost(picture));
            let mut new = json!({ "feature_image": picture, "updated_at": post.updated_at });
            if promises {
                new["html"] = Value::from(format!("<p>{text}</p>"));
            }
            let edit = json!({ kind: [new] });
            let options = json!({ "id": post.id, "source": "html" });
            operator.api::<Value>(&format!("{kind}/edit"), Some(edit), options).await?;
            changed.push(format!("the sample text {slug}"));
        }
    }
    Ok(changed)
}

// Integration

#[derive(Deserialize)]
struct Integrations {
    integrations: Vec<Integration>,
}

#[derive(Deserialize)]
struct Integration {
    id: String,
    name: String,
    r#type: String,
    #[serde(default)]
    api_keys: Vec<ApiKey>,
    #[serde(default)]
    webhooks: Vec<Hook>,
}

#[derive(Deserialize)]
struct ApiKey {
    r#type: String,
    secret: Secret,
}

#[derive(Deserialize)]
struct Hook {
    id: String,
    event: String,
    target_url: String,
    secret: Option<Secret>,
}

async fn integrate(operator: &Operator, wanted: &Webhooks) -> Result<(Keys, Vec<String>), OperatorError> {
    let options = json!({ "limit": "all", "include": "api_keys,webhooks" });
    let mut changed = Vec::new();
    let found: Integrations = operator.api("integrations/browse", None, options.clone()).await?;
    let ours = |all: Integrations| all.integrations.into_iter().find(|i| i.name == INTEGRATION && i.r#type == "custom");
    let integration = match ours(found) {
        Some(integration) => integration,
        None => {
            let new = json!({ "integrations": [{ "name": INTEGRATION }] });
            let made: Integrations = operator.api("integrations/add", Some(new), options).await?;
            changed.push("integration".to_owned());
            ours(made).ok_or_else(|| missing("integrations/add", "our integration"))?
        }
    };
    if correct_hooks(operator, &integration, wanted).await? {
        changed.push("webhooks".to_owned());
    }
    let key = |kind: &str| {
        let key = integration.api_keys.iter().find(|key| key.r#type == kind);
        key.map(|key| key.secret.clone()).ok_or_else(|| missing("integrations/browse", kind))
    };
    let keys = Keys { content: key("content")?, admin: key("admin")?, integration: integration.id.clone() };
    Ok((keys, changed))
}

fn missing(operation: &str, what: &str) -> OperatorError {
    let source = serde::de::Error::custom(format_args!("{what} is missing"));
    OperatorError::Unexpected { operation: operation.to_owned(), source }
}

/// Whether anything had to be changed. A webhook Ghost gave up (its target answered 410) is gone, and comes back here.
async fn correct_hooks(operator: &Operator, ours: &Integration, wanted: &Webhooks) -> Result<bool, OperatorError> {
    let mut changed = false;
    let right = |hook: &Hook| hook.target_url == wanted.target && hook.secret.as_ref() == Some(&wanted.key);
    let mut seen = Vec::new();
    for hook in &ours.webhooks {
        let superfluous = !EVENTS.contains(&hook.event.as_str()) || seen.contains(&&hook.event);
        let by_id = json!({ "id": hook.id });
        if superfluous {
            operator.api::<Value>("webhooks/destroy", None, by_id).await?;
            changed = true;
            continue;
        }
        seen.push(&hook.event);
        if !right(hook) {
            let edit = json!({ "webhooks": [{ "target_url": wanted.target, "secret": wanted.key }] });
            operator.api::<Value>("webhooks/edit", Some(edit), by_id).await?;
            changed = true;
        }
    }
    for event in EVENTS.iter().filter(|event| !ours.webhooks.iter().any(|hook| hook.event == **event)) {
        let new = json!({ "webhooks": [{
            "event": event, "target_url": wanted.target, "name": event, "secret": wanted.key,
            "integration_id": ours.id,
        }] });
        operator.api::<Value>("webhooks/add", Some(new), json!({})).await?;
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_an_address_ghost_takes() {
        let email = |origin: &str| owner_email(&origin.parse().unwrap());
        assert_eq!(email("https://blog.localhost:8443"), "owner@blog.localhost");
        assert_eq!(email("https://intranet"), "owner@intranet.localhost");
    }

    #[test]
    fn keys_are_kept_as_text_and_shown_to_nobody() {
        let keys = Keys { integration: "1".into(), content: Secret::new("c"), admin: Secret::new("a:b") };
        let text = serde_json::to_string(&keys).unwrap();
        assert_eq!(text, r#"{"integration":"1","content":"c","admin":"a:b"}"#);
        assert_eq!(serde_json::from_str::<Keys>(&text).unwrap(), keys);
        assert!(!format!("{keys:?}").contains("a:b"));
    }
}
