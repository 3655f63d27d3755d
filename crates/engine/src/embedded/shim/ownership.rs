//! Hands a unit's folders to the user it runs as.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Instruction, ShimError, While as _};

/// Makes `user` the owner of what the unit may change, and lets its group read what it may read but others may not
/// (a configuration file of mode 0600, say).
pub(super) fn give(instruction: &Instruction, user: u32) -> Result<(), ShimError> {
    for path in &instruction.write {
        // Trees grow large; once given, everything in them is made by the unit itself.
        let metadata = path.symlink_metadata().to(format!("look at {}", path.display()))?;
        if metadata.uid() != user {
            each(path, &[], &|path, _| std::os::unix::fs::lchown(path, Some(user), Some(user)))
                .to(format!("hand over {}", path.display()))?;
        }
    }
    for path in instruction.read.iter().filter(|read| !instruction.write.iter().any(|write| read.starts_with(write))) {
        let metadata = path.metadata().to(format!("look at {}", path.display()))?;
        let open = if metadata.is_dir() { 0o005 } else { 0o004 };
        if metadata.mode() & open != open {
            each(path, &instruction.write, &|path, metadata| let_group_read(path, metadata, user))
                .to(format!("let the unit read {}", path.display()))?;
        }
    }
    Ok(())
}

fn let_group_read(path: &Path, metadata: &fs::Metadata, group: u32) -> io::Result<()> {
    if metadata.is_symlink() {
        return Ok(());
    }
    let needed = if metadata.is_dir() || metadata.mode() & 0o100 != 0 { 0o050 } else { 0o040 };
    std::os::unix::fs::lchown(path, None, Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o7700 | needed))
}

/// Visits `path` and all below it, without the folders of `except`; never follows a symbolic link below it.
fn each(path: &Path, except: &[PathBuf], visit: &impl Fn(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    if except.iter().any(|folder| folder == path) {
        return Ok(());
    }
    let metadata = path.symlink_metadata()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            each(&entry?.path(), except, visit)?;
        }
    }
    // Children first: until the top is given, a run that was cut short begins again.
    visit(path, &metadata)
}
