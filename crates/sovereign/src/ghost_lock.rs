//! Which Ghost a stack runs: the one that comes with this program, unless its operator has locked another.

use std::path::Path;

use sovereign_images::{ImageError, Lock, ghost};

use crate::debian::LockFile;
use crate::failure::Failure;

/// What it is called on the command line, and how its file begins.
pub(crate) const NAME: &str = "ghost";

/// The file with the operator's lock.
pub(crate) fn file(stack_file: &Path) -> LockFile {
    LockFile::named(stack_file, NAME)
}

/// The operator's lock, when there is one.
///
/// # Errors
/// When it cannot be read, or is none.
pub(crate) fn chosen(stack_file: &Path) -> Result<Option<Lock>, Failure> {
    let file = file(stack_file);
    let Some(text) = file.text()? else { return Ok(None) };
    let unfit = |source| ImageError::Lock { path: file.path().to_owned(), source };
    Ok(Some(ghost::read_lock(&text).map_err(unfit)?))
}

/// The lock of the Ghost that is to run.
///
/// # Errors
/// When the operator's cannot be read, or is none.
pub(crate) fn wanted(stack_file: &Path) -> Result<Lock, Failure> {
    Ok(chosen(stack_file)?.unwrap_or_else(|| ghost::lock().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_lock_goes_before_the_programs_and_a_damaged_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let stack_file = folder.path().join("stack.toml");
        assert_eq!(wanted(&stack_file).unwrap(), *ghost::lock());
        let other = ghost::lock().to_text().replace(&format!("{:?}", ghost::version(ghost::lock())), "\"6.1.0\"");
        file(&stack_file).replace(&other).unwrap();
        assert_eq!(ghost::version(&wanted(&stack_file).unwrap()), "6.1.0");
        assert_ne!(wanted(&stack_file).unwrap().digest(), ghost::lock().digest());
        // An image is made by this program's steps, whichever wrote the lock.
        let recipe = format!("\"recipe\": {}", ghost::lock().recipe);
        file(&stack_file).replace(&ghost::lock().to_text().replace(&recipe, "\"recipe\": 1")).unwrap();
        assert_eq!(wanted(&stack_file).unwrap().digest(), ghost::lock().digest());
        file(&stack_file).replace("{}").unwrap();
        let error = wanted(&stack_file).unwrap_err();
        assert!(error.chain()[0].contains("stack.images/ghost.json"), "{:?}", error.chain());
        assert!(error.help().is_some());
    }
}
