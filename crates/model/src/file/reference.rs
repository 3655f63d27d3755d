//! The reference page of the stack file, made from the tables that drive the parser.

use std::fmt::Write as _;

use super::format::{FILE, Key, Kind, Presence, Section, Shape};

/// The page in Markdown: `docs/stack-file.md` is a copy of it, kept equal by a test.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# The stack file\n\n\
         <!-- Made from crates/model/src/file/format.rs. Change it there, then run\n     \
         UPDATE_DOCS=1 cargo test -p sovereign-model reference -->\n\n\
         Everything one operator declares, in one [TOML](https://toml.io) file. `sovereign` takes `./stack.toml`, else\n\
         the one in `$XDG_CONFIG_HOME/sovereign/`, else it writes the file at the end of this page there.\n\n\
         `sovereign check` reports every problem of a file at once, with its place and a way out. `sovereign schema`\n\
         prints the JSON Schema for editors.\n",
    );
    section(&mut page, &FILE, &FILE);
    page += "\n## The default file\n\n```toml\n";
    page += super::default_file();
    page += "```\n";
    page
}

fn section(page: &mut String, of: &'static Section, parent: &Section) {
    match of.shape {
        Shape::File => page.push_str("\n## At the top\n\n"),
        Shape::Inline => {
            let _ = write!(page, "\n### `{}` of `{}`\n\n{}\n\n", of.heading(), parent.heading(), of.about);
        }
        Shape::Table | Shape::Tables => {
            let level = if of.path.contains('.') { "###" } else { "##" };
            let _ = write!(page, "\n{level} `{}`\n\n{}\n\n", of.heading(), of.about);
        }
    }
    page.push_str("| key | takes | | meaning |\n| --- | --- | --- | --- |\n");
    for key in of.keys {
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", key.name, takes(key), presence(key), meaning(key));
    }
    let examples: Vec<&Key> = of.keys.iter().filter(|key| !key.example.is_empty()).collect();
    if of.shape != Shape::Inline && of.shape != Shape::File && !examples.is_empty() {
        let _ = write!(page, "\n```toml\n{}\n", of.heading());
        for key in examples {
            let _ = writeln!(page, "{} = {}", key.name, key.example);
        }
        page.push_str("```\n");
    }
    for below in of.below() {
        section(page, below, of);
    }
}

fn takes(key: &Key) -> String {
    match key.kind {
        Kind::Integer { least, most } if least == most => format!("`{least}`"),
        Kind::Integer { least, most } => format!("{least} to {most}"),
        Kind::Number { least, most } => format!("{least} to {most}"),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Text(form) => form.about().to_owned(),
        Kind::Texts(form) => format!("list: {}", form.about()),
        Kind::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{}\"`", word.text)).collect();
            words.join(", ")
        }
        Kind::Section(of) if of.shape == Shape::Inline => "`{ ... }`".to_owned(),
        Kind::Section(of) => format!("`{}`", of.heading()),
        Kind::Sections { of, least: 0 } => format!("any number of `{}`", of.heading()),
        Kind::Sections { of, .. } => format!("one or more `{}`", of.heading()),
    }
}

fn presence(key: &Key) -> String {
    match key.presence {
        Presence::Required => "**required**".to_owned(),
        Presence::Optional => "optional".to_owned(),
        Presence::Default(written) => format!("default `{written}`"),
    }
}

fn meaning(key: &Key) -> String {
    let Kind::Words(words) = key.kind else { return key.about.to_owned() };
    let words: Vec<String> = words
        .iter()
        .map(|word| match word.instead {
            None => format!("`\"{}\"`: {}", word.text, word.about),
            Some(_) => format!("`\"{}\"`: {} (not available in this version)", word.text, word.about),
        })
        .collect();
    format!("{} {}.", key.about, words.join("; "))
}
