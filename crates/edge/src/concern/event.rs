//! What Ghost says in a webhook, read into what it means for readers.
//!
//! A body is hostile until parsed: what is too long, of another form or about something else is [`Event::Other`], which
//! concerns every page. `current` is the thing after the change, empty when it was deleted; `previous` holds only the
//! fields that changed, all of them when it was deleted. Whatever else stands in a body is skipped, not kept: a post
//! comes with all its revisions.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// Fields of a post or tag; Ghost has some fifty.
const MOST_FIELDS: usize = 256;
/// Tags, or authors, of one post.
const MOST_NAMED: usize = 1024;
/// How much of a text its beginning is, in characters: Ghost's excerpt takes 500.
const BEGINNING: usize = 600;
/// A post that was published now is dated by when it was saved, to the second.
const NOW_SECONDS: u64 = 60;

/// Fields that only a post's own page, feeds and lists of whole texts show.
const TEXT: &[&str] = &[
    "canonical_url",
    "codeinjection_foot",
    "codeinjection_head",
    "custom_template",
    "email_subject",
    "html",
    "lexical",
    "meta_description",
    "meta_title",
    "mobiledoc",
    "newsletter",
    "og_description",
    "og_image",
    "og_title",
    "plaintext",
    "post_revisions",
    "show_title_and_feature_image",
    "twitter_description",
    "twitter_image",
    "twitter_title",
    "updated_at",
];
/// Fields of a tag that only its own pages show.
const TAG_TEXT: &[&str] = &[
    "canonical_url",
    "codeinjection_foot",
    "codeinjection_head",
    "description",
    "feature_image",
    "meta_description",
    "meta_title",
    "og_description",
    "og_image",
    "og_title",
    "twitter_description",
    "twitter_image",
    "twitter_title",
    "updated_at",
];
/// Fields that decide in which lists a post stands.
const MEMBERSHIP: &[&str] = &["authors", "status", "tags", "type", "visibility"];

/// What a webhook is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something changed for all readers; it does not say what.
    Site,
    /// A post or a page.
    Entry(Entry),
    /// A tag.
    Tag(Tag),
    /// Not understood.
    Other,
}

/// A post or page that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A page: it stands in no list of posts and in no feed.
    pub is_page: bool,
    /// Which one, and when it was saved: two webhooks about one save say the same.
    pub subject: Subject,
    /// Whether readers saw it before.
    pub was_public: bool,
    /// Whether they see it now.
    pub is_public: bool,
    /// What its address ends with, before and after.
    pub slugs: BTreeSet<String>,
    /// Its address, when readers see it now.
    pub url: Option<String>,
    /// Addresses of its tags and authors, before and after; where Ghost gives none, the slug of a tag.
    pub archives: BTreeSet<Archive>,
    /// Something changed that pages show that list it or link to it.
    pub cards: bool,
    /// It may stand in other lists than before.
    pub membership: bool,
    /// Its date changed, and with it its place in lists.
    pub moved: bool,
    /// It is dated by when it was saved: nothing is newer.
    pub newest: bool,
}

/// A tag that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Which one, and when it was saved.
    pub subject: Subject,
    /// Its pages, before and after.
    pub archives: BTreeSet<Archive>,
    /// Something changed that pages show that carry the tag.
    pub labels: bool,
}

/// Where the posts of one tag or author are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Archive {
    /// At this address.
    At(String),
    /// Below Ghost's usual address for tags.
    OfTag(String),
}

/// One saved state of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Whether it is a tag.
    pub is_tag: bool,
    /// Its id.
    pub id: String,
    /// When it was saved.
    pub saved: String,
}

impl Entry {
    /// Whether it begins to be seen.
    pub fn enters(&self) -> bool {
        self.is_public && !self.was_public
    }

    /// Whether it is seen no longer.
    pub fn leaves(&self) -> bool {
        self.was_public && !self.is_public
    }

    /// Whether any reader could see it before or can now. Drafts cannot be.
    pub fn concerns_readers(&self) -> bool {
        self.was_public || self.is_public
    }
}

impl Event {
    /// Reads the body of a webhook.
    pub fn parse(body: &[u8]) -> Self {
        serde_json::from_slice::<Body>(body).ok().and_then(Body::meaning).unwrap_or(Self::Other)
    }
}

#[derive(Deserialize)]
struct Body {
    event: Option<String>,
    post: Option<Sides>,
    page: Option<Sides>,
    tag: Option<Sides>,
}

#[derive(Deserialize)]
struct Sides {
    current: Side,
    #[serde(default)]
    previous: Side,
}

impl Body {
    fn meaning(self) -> Option<Event> {
        let named = self.event.as_deref();
        match (self.post, self.page, self.tag) {
            (None, None, None) => (named == Some("site.changed")).then_some(Event::Site),
            (Some(post), None, None) => entry(post, named, false).map(Event::Entry),
            (None, Some(page), None) => entry(page, named, true).map(Event::Entry),
            (None, None, Some(tag)) => self::tag(tag).map(Event::Tag),
            _ => None,
        }
    }
}

fn entry(Sides { current, previous }: Sides, event: Option<&str>, is_page: bool) -> Option<Entry> {
    let deleted = current.fields.is_empty();
    let now = if deleted { &previous } else { &current };
    let public = |status: &str| status == "published";
    let is_public = !deleted && public(current.status.as_deref()?);
    let was_public = match &previous.status {
        Some(status) => public(status),
        // The status did not change, or it was made just now.
        None => is_public && (!previous.fields.is_empty() || event.is_some_and(|event| event.ends_with(".edited"))),
    };
    let stays = was_public && is_public;
    let changed = |list: &[&str]| previous.fields.iter().any(|field| list.contains(&field.as_str()));
    let begins_alike = !previous.fields.contains("html") || previous.beginning == current.beginning;
    let only_text = !previous.fields.is_empty() && previous.fields.iter().all(|field| TEXT.contains(&field.as_str()));
    let slugs: BTreeSet<_> = [&current.slug, &previous.slug].into_iter().flatten().cloned().collect();
    Some(Entry {
        is_page,
        subject: Subject { is_tag: false, id: now.id.clone()?, saved: now.updated_at.clone().unwrap_or_default() },
        was_public,
        is_public,
        slugs: (!slugs.is_empty()).then_some(slugs)?,
        url: is_public.then(|| current.url.clone()).flatten(),
        archives: current.archives().chain(previous.archives()).collect(),
        cards: !(only_text && begins_alike),
        membership: !stays || changed(MEMBERSHIP),
        moved: stays && previous.fields.contains("published_at"),
        newest: is_public && is_now(current.published_at.as_deref(), current.updated_at.as_deref()),
    })
}

fn tag(Sides { current, previous }: Sides) -> Option<Tag> {
    let deleted = current.fields.is_empty();
    let now = if deleted { &previous } else { &current };
    let slug = now.slug.clone()?;
    let mut archives = BTreeSet::from([Archive::OfTag(slug.clone())]);
    if let Some(url) = &now.url {
        archives.insert(Archive::At(url.clone()));
        // Ghost does not say where it was under its old name.
        let before = previous.slug.as_ref().and_then(|before| {
            let parent = url.trim_end_matches('/').strip_suffix(slug.as_str())?;
            Some(Archive::At(format!("{parent}{before}/")))
        });
        archives.extend(before);
    }
    archives.extend(previous.slug.clone().map(Archive::OfTag));
    let text = |field: &String| TAG_TEXT.contains(&field.as_str());
    Some(Tag {
        subject: Subject { is_tag: true, id: now.id.clone()?, saved: now.updated_at.clone().unwrap_or_default() },
        archives,
        labels: deleted || previous.fields.is_empty() || !previous.fields.iter().all(text),
    })
}

/// Whether both say the same moment, or nearly: `2026-11-25T09:49:24.000Z`.
fn is_now(published: Option<&str>, saved: Option<&str>) -> bool {
    let seconds = |text: Option<&str>| {
        let (day, time) = text?.get(..19)?.split_once('T')?;
        let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
        let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
        Some((day.to_owned(), hours * 3600 + minutes * 60 + seconds))
    };
    match (seconds(published), seconds(saved)) {
        // Around midnight it counts as backdated, which only costs.
        (Some((day, published)), Some((other, saved))) => day == other && published.abs_diff(saved) <= NOW_SECONDS,
        _ => false,
    }
}

/// The fields of a post, page or tag, before or after.
#[derive(Default)]
struct Side {
    /// The names of all.
    fields: BTreeSet<String>,
    id: Option<String>,
    slug: Option<String>,
    url: Option<String>,
    status: Option<String>,
    updated_at: Option<String>,
    published_at: Option<String>,
    beginning: Option<String>,
    tags: Vec<Named>,
    authors: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    slug: String,
    url: Option<String>,
    visibility: Option<String>,
}

impl Side {
    /// Internal tags have no pages.
    fn archives(&self) -> impl Iterator<Item = Archive> {
        let tags = self.tags.iter().filter(|tag| tag.visibility.as_deref() != Some("internal"));
        let tags = tags.map(|tag| tag.url.clone().map_or_else(|| Archive::OfTag(tag.slug.clone()), Archive::At));
        tags.chain(self.authors.iter().filter_map(|author| author.url.clone()).map(Archive::At))
    }
}

impl<'de> Deserialize<'de> for Side {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Side;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a post, page or tag")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Side, A::Error> {
        let mut side = Side::default();
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "id" => side.id = map.next_value()?,
                "slug" => side.slug = map.next_value()?,
                "url" => side.url = map.next_value()?,
                "status" => side.status = map.next_value()?,
                "updated_at" => side.updated_at = map.next_value()?,
                "published_at" => side.published_at = map.next_value()?,
                "html" => side.beginning = map.next_value::<Option<String>>()?.as_deref().map(beginning),
                "tags" => side.tags = few(map.next_value()?)?,
                "authors" => side.authors = few(map.next_value()?)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            side.fields.insert(field);
            if side.fields.len() > MOST_FIELDS {
                return Err(A::Error::custom("too many fields"));
            }
        }
        Ok(side)
    }
}

fn few<E: serde::de::Error>(named: Option<Vec<Named>>) -> Result<Vec<Named>, E> {
    let named = named.unwrap_or_default();
    if named.len() > MOST_NAMED { Err(E::custom("too many tags or authors")) } else { Ok(named) }
}

/// The first words of a text, without its tags.
fn beginning(html: &str) -> String {
    let mut inside = false;
    let shown = html.chars().filter(|c| {
        let shown = !inside && *c != '<';
        inside = *c == '<' || (inside && *c != '>');
        shown
    });
    shown.take(BEGINNING).collect()
}
