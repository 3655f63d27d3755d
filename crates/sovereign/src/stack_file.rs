//! Finding and reading the stack file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use serde_json::Value;
use sovereign_model::{Stack, file};

use crate::exit::Exit;
use crate::failure::Reason;
use crate::output::Theme;
use crate::places::Places;

/// A stack file that was read and is right.
#[derive(Debug)]
pub(crate) struct StackFile {
    /// Where it lies, as the operator would write it.
    pub(crate) path: PathBuf,
    /// What it declares.
    pub(crate) stack: Stack,
}

/// Why there is no stack to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StackFileError {
    /// No file where one is looked for.
    #[error("there is no stack file: neither {} nor {}", .looked[0].display(), .looked[1].display())]
    Nowhere {
        /// The places, in order.
        looked: [PathBuf; 2],
    },
    /// It cannot be read.
    #[error("cannot read the stack file {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The default cannot be written.
    #[error("cannot write a stack file to {}", path.display())]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that cannot be.
    #[error("{} has {}", .0.file, crate::output::figures::count(.0.problems.len() as u64, "problem", "problems"))]
    Wrong(file::Problems),
}

impl Reason for StackFileError {
    fn exit(&self) -> Exit {
        match self {
            Self::Nowhere { .. } | Self::Unreadable { .. } | Self::Wrong(_) => Exit::Usage,
            Self::Unwritable { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Nowhere { .. } => Some("`sovereign up` writes one to go by; `--stack FILE` names another".to_owned()),
            Self::Unreadable { .. } => {
                Some("check the path and its permissions; `--stack FILE` names another".to_owned())
            }
            Self::Unwritable { .. } => Some("make that folder writable, or name a file with `--stack FILE`".to_owned()),
            Self::Wrong(_) => None,
        }
    }

    fn page(&self, theme: Theme) -> Option<String> {
        let Self::Wrong(problems) = self else { return None };
        let style = if theme == Theme::PLAIN { file::Style::Plain } else { file::Style::Color };
        Some(problems.render(style))
    }

    fn problems(&self) -> Option<Value> {
        let Self::Wrong(problems) = self else { return None };
        Some(serde_json::to_value(&problems.problems).expect("problems serialize to JSON"))
    }
}

impl StackFile {
    /// Reads the file the operator named, else the first that is where one is looked for.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is wrong; then with every problem.
    pub(crate) fn load(places: &Places) -> Result<Self, StackFileError> {
        match find(places) {
            Some(path) => read(path),
            None => Err(StackFileError::Nowhere { looked: places.usual_stack_files() }),
        }
    }

    /// Like [`load`](Self::load); where there is no file and none was named, first writes the default one. The flag
    /// says whether it did.
    ///
    /// # Errors
    /// As for `load`, or when the default cannot be written.
    pub(crate) fn load_or_write(places: &Places) -> Result<(Self, bool), StackFileError> {
        if let Some(path) = find(places) {
            return Ok((read(path)?, false));
        }
        let path = places.default_stack_file();
        write_default(&path).map_err(|source| StackFileError::Unwritable { path: path.clone(), source })?;
        Ok((read(path)?, true))
    }
}

fn find(places: &Places) -> Option<PathBuf> {
    match places.named_stack_file() {
        Some(path) => Some(path.to_owned()),
        None => places.usual_stack_files().into_iter().find(|path| path.exists()),
    }
}

fn read(path: PathBuf) -> Result<StackFile, StackFileError> {
    let unreadable = |source| StackFileError::Unreadable { path: path.clone(), source };
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    let whole = absolute(&path).map_err(unreadable)?;
    let base = whole.parent().unwrap_or(Path::new("/"));
    let stack = file::parse(&path.display().to_string(), &text, base).map_err(StackFileError::Wrong)?;
    Ok(StackFile { path, stack })
}

/// Never overwrites: a file that appears in between is the operator's.
fn write_default(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::create_new(path)?;
    io::Write::write_all(&mut file, file::default_file().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn places(home: &Path) -> Places {
        Places::new(None, None, &Environment::of(&[("HOME", home.to_str().unwrap())])).unwrap()
    }

    #[test]
    fn the_first_up_writes_a_file_and_the_second_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let (written, first) = StackFile::load_or_write(&places(home.path())).unwrap();
        let (read, again) = StackFile::load_or_write(&places(home.path())).unwrap();
        assert_eq!((first, again), (true, false));
        assert_eq!(written.path, home.path().join(".config/sovereign/stack.toml"));
        assert_eq!(written.stack, read.stack);
    }

    #[test]
    fn a_named_file_is_never_replaced_by_another() {
        let home = tempfile::tempdir().unwrap();
        let named = home.path().join("missing.toml");
        let places = Places::new(Some(named.clone()), None, &Environment::of(&[("HOME", "/nowhere")])).unwrap();
        let error = StackFile::load_or_write(&places).unwrap_err();
        assert!(matches!(&error, StackFileError::Unreadable { path, .. } if *path == named), "{error}");
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn problems_are_for_people_and_machines() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("stack.toml");
        fs::write(&path, "version = 1\nnome = 1\n").unwrap();
        let error = read(path).unwrap_err();
        assert!(error.page(Theme::PLAIN).unwrap().contains("nome"));
        assert!(error.problems().unwrap().as_array().is_some_and(|problems| !problems.is_empty()));
    }
}
