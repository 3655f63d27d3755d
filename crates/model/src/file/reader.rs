//! Reads a TOML tree by the tables of [`super::format`]: keys, types and forms.
//!
//! What comes out is a [`Node`] with the values that could be used; every other one became a finding, and its key is
//! remembered as spoilt, so that one mistake is reported once. Defaults are filled in from the tables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::form::Form;
use super::format::{self, Key, Kind, Presence, Section, Shape, Word};
use super::problem::{Finding, ProblemKind};

/// A table of the file, read.
#[derive(Debug)]
pub(super) struct Node {
    /// Its header, or itself when it is written inline.
    pub(super) span: Range<usize>,
    values: BTreeMap<&'static str, Spanned<Value>>,
    spoilt: Vec<&'static str>,
}

#[derive(Debug)]
enum Value {
    Integer(i64),
    Number(f64),
    Flag(bool),
    Text(String),
    Texts(Vec<Spanned<String>>),
    Node(Node),
    Nodes(Vec<Node>),
}

impl Node {
    fn value(&self, key: &str) -> Option<(&Value, Range<usize>)> {
        self.values.get(key).map(|spanned| (spanned.get_ref(), spanned.span()))
    }

    /// Whether the key was written but could not be used.
    pub(super) fn spoilt(&self, key: &str) -> bool {
        self.spoilt.contains(&key)
    }

    /// Whether the key was written and could be used.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The place of a key's value; of the table when it was left out.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.values.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            (Value::Text(text), _) => Some(text),
            _ => None,
        }
    }

    pub(super) fn owned(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    /// A text as a type of its own. `None` when it was left out or became a finding: the form of a key admits only
    /// what its type admits.
    pub(super) fn parse<T: FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    pub(super) fn texts(&self, key: &str) -> &[Spanned<String>] {
        match self.value(key) {
            Some((Value::Texts(texts), _)) => texts,
            _ => &[],
        }
    }

    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        match self.value(key)? {
            (Value::Integer(number), _) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            (Value::Number(number), _) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            (Value::Flag(flag), _) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn node(&self, key: &str) -> Option<&Node> {
        match self.value(key)? {
            (Value::Node(node), _) => Some(node),
            _ => None,
        }
    }

    pub(super) fn nodes(&self, key: &str) -> &[Node] {
        match self.value(key) {
            Some((Value::Nodes(nodes), _)) => nodes,
            _ => &[],
        }
    }
}

/// Collects findings while it reads.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Finding>,
}

impl Reader {
    /// Reads a table of the file as `section` describes it.
    pub(super) fn table(&mut self, table: &DeTable<'_>, span: Range<usize>, section: &'static Section) -> Node {
        let mut node = Node { span, values: BTreeMap::new(), spoilt: Vec::new() };
        for (key, value) in table {
            match section.key(key.get_ref()) {
                None => {
                    // A misspelt key is one mistake: what it was meant to be is not missing too.
                    let meant = self.unknown_key(key, section).filter(|meant| !table.contains_key(*meant));
                    node.spoilt.extend(meant);
                }
                Some(known) => match self.read(value, known) {
                    Some(read) => drop(node.values.insert(known.name, Spanned::new(value.span(), read))),
                    None => node.spoilt.push(known.name),
                },
            }
        }
        for key in section.keys {
            if !node.values.contains_key(key.name) && !node.spoilt(key.name) {
                self.absent(&mut node, key, section);
            }
        }
        node
    }

    fn absent(&mut self, node: &mut Node, key: &'static Key, section: &'static Section) {
        match key.presence {
            Presence::Optional => {}
            Presence::Required => self.missing(node, key, section),
            Presence::Default(written) => {
                let value = DeValue::parse(written).expect("the defaults of the format are TOML");
                let read = Self::default().read(&value, key).expect("the defaults of the format are valid");
                node.values.insert(key.name, Spanned::new(node.span.clone(), read));
            }
        }
    }

    fn missing(&mut self, node: &mut Node, key: &'static Key, section: &'static Section) {
        let (what, add) = match key.kind {
            Kind::Section(of) | Kind::Sections { of, .. } if of.shape != Shape::Inline => {
                (of.heading(), format!("add {}: {}", of.heading(), lower_first(of.about)))
            }
            _ => (format!("`{}`", key.name), format!("add `{} = {}`", key.name, key.example)),
        };
        let message = match section.shape {
            Shape::File => format!("{what} is missing"),
            _ => format!("{what} is missing in {}", section.heading()),
        };
        node.spoilt.push(key.name);
        self.findings.push(Finding::new(ProblemKind::Missing, node.span.clone(), message).help(add));
    }

    /// Reports a key that the section does not have; returns the one that was probably meant.
    fn unknown_key(&mut self, key: &Spanned<impl AsRef<str>>, section: &'static Section) -> Option<&'static str> {
        let name = key.get_ref().as_ref();
        let place = match section.shape {
            Shape::File => String::new(),
            _ => format!(" in {}", section.heading()),
        };
        let nearest = closest(name, section.keys.iter().map(|key| key.name));
        let help = match (nearest, elsewhere(name, section)) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(other)) => format!("`{name}` belongs in {}", other.heading()),
            (None, None) => {
                let known: Vec<String> = section.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                format!("known here: {}", known.join(", "))
            }
        };
        let message = format!("unknown key `{}`{place}", name.escape_debug());
        self.findings.push(Finding::new(ProblemKind::UnknownKey, key.span(), message).help(help));
        nearest
    }

    fn read(&mut self, value: &Spanned<DeValue<'_>>, key: &'static Key) -> Option<Value> {
        let span = value.span();
        match (key.kind, value.get_ref()) {
            (Kind::Integer { least, most }, DeValue::Integer(number)) => {
                let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
                match read.filter(|read| (least..=most).contains(read)) {
                    Some(read) => Some(Value::Integer(read)),
                    None => self.out_of_range(key, span, &number.to_string(), least, most),
                }
            }
            (Kind::Number { least, most }, DeValue::Integer(_) | DeValue::Float(_)) => {
                let (written, read) = match value.get_ref() {
                    DeValue::Float(number) => (number.to_string(), number.as_str().parse::<f64>().ok()),
                    DeValue::Integer(number) => {
                        let read = i32::from_str_radix(number.as_str(), number.radix()).ok();
                        (number.to_string(), read.map(f64::from))
                    }
                    _ => return None,
                };
                match read.filter(|read| (least..=most).contains(read)) {
                    Some(read) => Some(Value::Number(read)),
                    None => self.out_of_range(key, span, &written, least, most),
                }
            }
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Kind::Text(form), DeValue::String(text)) => {
                self.text(text, span, form).then(|| Value::Text(text.to_string()))
            }
            (Kind::Texts(form), DeValue::Array(array)) => Some(Value::Texts(self.texts(array, key, form))),
            (Kind::Words(words), DeValue::String(text)) => {
                self.word(text, span, key, words).then(|| Value::Text(text.to_string()))
            }
            (Kind::Section(of), DeValue::Table(table)) => Some(Value::Node(self.table(table, span, of))),
            (Kind::Sections { of, least }, DeValue::Array(array)) => self.tables(array, span, of, least),
            (kind, found) => {
                let message = format!("`{}` must be {}, found {}", key.name, wanted(kind), article(found.type_str()));
                let help = match kind {
                    Kind::Sections { of, .. } if of.shape == Shape::Tables => {
                        format!("write {} for each of them", of.heading())
                    }
                    Kind::Section(of) if of.shape == Shape::Table => format!("write {}", of.heading()),
                    _ => format!("write it like `{} = {}`", key.name, key.example),
                };
                self.findings.push(Finding::new(ProblemKind::WrongType, span, message).help(help));
                None
            }
        }
    }

    fn out_of_range(
        &mut self,
        key: &Key,
        span: Range<usize>,
        written: &str,
        least: impl std::fmt::Display,
        most: impl std::fmt::Display,
    ) -> Option<Value> {
        let message = format!("`{}` is out of range: {written}", key.name);
        let help = format!("write a number from {least} to {most}");
        self.findings.push(Finding::new(ProblemKind::BadValue, span, message).help(help));
        None
    }

    fn text(&mut self, text: &str, span: Range<usize>, form: Form) -> bool {
        let Err(complaint) = form.check(text) else { return true };
        let finding = Finding::new(ProblemKind::BadValue, span, complaint.message).help_maybe(complaint.help);
        self.findings.push(finding);
        false
    }

    fn texts(&mut self, array: &DeArray<'_>, key: &Key, form: Form) -> Vec<Spanned<String>> {
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) if self.text(text, item.span(), form) => {
                    texts.push(Spanned::new(item.span(), text.to_string()));
                }
                DeValue::String(_) => {}
                other => {
                    let found = article(other.type_str());
                    let message = format!("`{}` must be a list of strings, found {found} in it", key.name);
                    let help = format!("write it like `{} = {}`", key.name, key.example);
                    self.findings.push(Finding::new(ProblemKind::WrongType, item.span(), message).help(help));
                }
            }
        }
        texts
    }

    fn word(&mut self, text: &str, span: Range<usize>, key: &Key, words: &'static [Word]) -> bool {
        let finding = match words.iter().find(|word| word.text == text) {
            Some(Word { instead: None, .. }) => return true,
            Some(Word { instead: Some(instead), .. }) => {
                let message = format!("{} `{text}` is not available in this version of sovereign", key.name);
                Finding::new(ProblemKind::Unavailable, span, message).help(*instead)
            }
            None => {
                let usable = words.iter().filter(|word| word.instead.is_none());
                let help = match closest(text, words.iter().map(|word| word.text)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => {
                        let known: Vec<String> =
                            usable.map(|word| format!("\"{}\" ({})", word.text, word.about)).collect();
                        format!("write one of {}", known.join(", "))
                    }
                };
                let message = format!("`{}` cannot be {text:?}", key.name);
                Finding::new(ProblemKind::BadValue, span, message).help(help)
            }
        };
        self.findings.push(finding);
        false
    }

    fn tables(&mut self, array: &DeArray<'_>, span: Range<usize>, of: &'static Section, least: usize) -> Option<Value> {
        let mut nodes = Vec::new();
        for item in array.iter() {
            if let DeValue::Table(table) = item.get_ref() {
                nodes.push(self.table(table, item.span(), of));
            } else {
                let message = format!("{} must be a table, found {}", of.heading(), article(item.get_ref().type_str()));
                let help = format!("write {} and its keys below", of.heading());
                self.findings.push(Finding::new(ProblemKind::WrongType, item.span(), message).help(help));
            }
        }
        if array.len() < least {
            let message = format!("{} is missing", of.heading());
            let help = format!("add {}: {}", of.heading(), lower_first(of.about));
            self.findings.push(Finding::new(ProblemKind::Missing, span, message).help(help));
            return None;
        }
        Some(Value::Nodes(nodes))
    }
}

/// The candidate that was most likely meant: within a third of its length, a slip or two.
pub(super) fn closest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The one other table that has the key.
fn elsewhere(name: &str, but: &'static Section) -> Option<&'static Section> {
    fn search(name: &str, at: &'static Section, found: &mut Vec<&'static Section>) {
        if at.key(name).is_some() {
            found.push(at);
        }
        at.below().for_each(|section| search(name, section, found));
    }
    let mut found = Vec::new();
    search(name, &format::FILE, &mut found);
    found.retain(|section| section.path != but.path && section.shape != Shape::File);
    match found.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer { .. } => "a whole number",
        Kind::Number { .. } => "a number",
        Kind::Flag => "`true` or `false`",
        Kind::Text(_) | Kind::Words(_) => "a string",
        Kind::Texts(_) => "a list of strings",
        Kind::Section(_) => "a table",
        Kind::Sections { .. } => "a list of tables",
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The first sentence, to go on after a colon.
fn lower_first(text: &str) -> String {
    let sentence = text.split(". ").next().unwrap_or(text);
    let mut chars = sentence.trim_end_matches('.').chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
