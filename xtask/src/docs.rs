//! Pages of docs/ that are generated from the sources, and whether they still say the same.

use std::fs;

use anyhow::{Context, Result, ensure};
use sovereign_model::file;

use crate::run::{root, say};

/// Generated pages: where they lie and what they say.
fn pages() -> Result<Vec<(&'static str, String)>> {
    let schema = serde_json::to_string_pretty(&file::json_schema())?;
    Ok(vec![("docs/stack-file.md", file::reference_markdown()), ("docs/stack.schema.json", format!("{schema}\n"))])
}

/// Writes them.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write() -> Result<()> {
    for (path, page) in pages()? {
        let file = root().join(path);
        fs::create_dir_all(file.parent().expect("pages lie in a folder"))?;
        fs::write(&file, page).with_context(|| format!("cannot write {path}"))?;
        say(format!("wrote {path}"));
    }
    Ok(())
}

/// Compares them.
///
/// # Errors
/// When one is out of date.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for (path, page) in pages()? {
        if fs::read_to_string(root().join(path)).ok().as_deref() != Some(page.as_str()) {
            stale.push(path);
        }
    }
    ensure!(stale.is_empty(), "out of date: {}; `cargo xtask docs` writes them anew", stale.join(", "));
    Ok(())
}
