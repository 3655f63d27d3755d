//! The settings a Ghost must have: what the stack file says, what cannot work without mail or would call somebody, and
//! replacements for what Ghost puts into every new site. Only what differs is written, and it is read back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use sovereign_model::stack::Site;

use super::operator::{Operator, OperatorError};
use crate::secret::Secret;

/// Where Ghost's pictures for new sites come from: a third party that every reader would be sent to.
pub(super) const GHOSTS_PICTURES: &str = "https://static.ghost.org/";

/// By key, as Ghost tells them.
pub(super) type Settings = BTreeMap<String, Value>;

#[derive(Deserialize)]
struct SettingsAnswer {
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    key: String,
    value: Value,
}

/// The groups we read; `core` with its private keys stays where it is.
const GROUPS: &str =
    "site,private,members,portal,email,editor,comments,analytics,unsplash,social_web,explore,recommendations";

/// What cannot work without mail, or would call somebody. Always so, whatever was chosen in Ghost's admin.
fn enforced() -> impl Iterator<Item = (&'static str, Value)> {
    [
        ("members_signup_access", Value::from("none")),
        ("portal_button", false.into()),
        ("comments_enabled", "off".into()), // only members can comment
        ("editor_default_email_recipients", "disabled".into()),
        ("recommendations_enabled", false.into()),
        ("social_web", false.into()),
        ("explore_ping", false.into()),
        ("unsplash", false.into()),
    ]
    .into_iter()
}

/// Ghost's own values that a site should not keep: replaced as long as nobody has chosen another.
fn unless_chosen(now: &Settings) -> impl Iterator<Item = (&'static str, Value)> {
    let is = |key: &str, value: &str| now.get(key).and_then(Value::as_str) == Some(value);
    let cover = now.get("cover_image").and_then(Value::as_str).is_some_and(|url| url.starts_with(GHOSTS_PICTURES));
    let sign_up = is("secondary_navigation", r##"[{"label":"Sign up","url":"#/portal/"}]"##);
    [
        cover.then_some(("cover_image", Value::Null)),
        sign_up.then_some(("secondary_navigation", "[]".into())),
        is("facebook", "ghost").then_some(("facebook", Value::Null)),
        is("twitter", "@ghost").then_some(("twitter", Value::Null)),
    ]
    .into_iter()
    .flatten()
}

/// What the stack file says.
fn declared<'a>(
    site: &'a Site,
    reader_password: Option<&'a Secret>,
) -> impl Iterator<Item = (&'static str, Value)> + 'a {
    let settings = &site.settings;
    let texts = [
        ("title", &settings.title),
        ("description", &settings.description),
        ("locale", &settings.language),
        ("timezone", &settings.timezone),
        ("accent_color", &settings.accent_color),
    ];
    let texts = texts.into_iter().filter_map(|(key, text)| Some((key, Value::from(text.as_deref()?))));
    let private = settings.private.map(|private| ("is_private", Value::Bool(private)));
    let password = reader_password.filter(|_| settings.private == Some(true));
    texts.chain(private).chain(password.map(|password| ("password", password.expose().into())))
}

/// Ghost tells an unset text as null or as nothing between quotes.
fn same(a: Option<&Value>, b: &Value) -> bool {
    let empty = |value: &Value| value.is_null() || value.as_str() == Some("");
    a.is_some_and(|a| a == b || (empty(a) && empty(b)))
}

/// The settings that differ from what they should be.
fn differences(site: &Site, reader_password: Option<&Secret>, now: &Settings) -> Settings {
    enforced()
        .chain(unless_chosen(now))
        .chain(declared(site, reader_password))
        .filter(|(key, value)| !same(now.get(*key), value))
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Whether the site becomes private, and nobody has said with which password.
fn needs_access_code(site: &Site, reader_password: Option<&Secret>, now: &Settings) -> bool {
    let none = now.get("password").and_then(Value::as_str).is_none_or(str::is_empty);
    site.settings.private == Some(true) && reader_password.is_none() && none
}

/// All settings as they are now, and what was changed.
pub(super) async fn apply_settings(
    operator: &Operator,
    site: &Site,
    reader_password: Option<&Secret>,
) -> Result<(Settings, Vec<String>), OperatorError> {
    let before = read_settings(operator).await?;
    if needs_access_code(site, reader_password, &before) {
        // First, so that the site is never closed to everybody, or open to whoever enters nothing
        operator.api::<Value>("settings/regenerateAccessCode", None, json!({})).await?;
    }
    let wanted = differences(site, reader_password, &before);
    if wanted.is_empty() {
        return Ok((before, Vec::new()));
    }
    let list = wanted.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect::<Vec<_>>();
    operator.api::<Value>("settings/edit", Some(json!({ "settings": list })), json!({})).await?;
    operator.announce_change().await?;
    let after = read_settings(operator).await?;
    if let Some((key, _)) = wanted.iter().find(|(key, value)| !same(after.get(*key), value)) {
        return Err(OperatorError::NotTaken { key: key.clone() });
    }
    Ok((after, wanted.into_keys().map(|key| format!("setting {key}")).collect()))
}

async fn read_settings(operator: &Operator) -> Result<Settings, OperatorError> {
    let answer: SettingsAnswer = operator.api("settings/browse", None, json!({ "group": GROUPS })).await?;
    Ok(answer.settings.into_iter().map(|setting| (setting.key, setting.value)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ghost::sample;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-z#0-9]{0,8}".prop_map(Value::from),
            Just(Value::from("https://static.ghost.org/v5.0.0/images/publication-cover.jpg")),
            Just(Value::from(r##"[{"label":"Sign up","url":"#/portal/"}]"##)),
            Just(Value::from("@ghost")),
        ]
    }

    fn settings() -> impl Strategy<Value = Settings> {
        let key = prop_oneof![
            Just("title"),
            Just("cover_image"),
            Just("secondary_navigation"),
            Just("twitter"),
            Just("social_web"),
            Just("members_signup_access"),
            Just("is_private"),
            Just("password"),
            Just("unrelated"),
        ];
        proptest::collection::btree_map(key.prop_map(str::to_owned), value(), 0..9)
    }

    proptest! {
        #[test]
        fn what_was_put_right_stays_right(
            mut now in settings(),
            title in proptest::option::of("[a-z]{1,8}"),
            private in any::<Option<bool>>(),
        ) {
            let mut site = sample::site();
            site.settings.title = title;
            site.settings.private = private;
            let password = Secret::new("let me read");
            let wanted = differences(&site, Some(&password), &now);
            prop_assert!(!wanted.contains_key("unrelated"));
            now.extend(wanted);
            prop_assert_eq!(differences(&site, Some(&password), &now), Settings::new());
        }
    }
}
