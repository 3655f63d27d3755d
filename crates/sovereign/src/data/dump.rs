//! Writing data out: from the operator's program to wherever it goes.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;
use sovereign_model::stack::DataCommands;
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::{Child, DataError, Sink};
use crate::context::Context;

/// Bytes that are taken from a program at a time.
const PIECE: usize = 256 << 10;

/// Runs the program that writes the data out, from the folder of the stack file, and hands what it writes to `sink`.
/// `reach` is told how many bytes there are so far. Gives their number and digest; what `sink` is keeps them.
///
/// # Errors
/// When it does not end well, writes nothing, is stopped, or the bytes cannot be written.
pub(crate) async fn dump(
    context: &Context,
    stack_file: &Path,
    data: &DataCommands,
    sink: &mut Sink,
    reach: impl Fn(u64),
    stop: &CancellationToken,
) -> Result<(u64, Digest), DataError> {
    let folder = folder_of(stack_file);
    let (mut child, mut stdout) = Child::writing(&data.dump, folder, &context.environment, &context.output)?;
    let (mut hasher, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = tokio::select! {
            () = stop.cancelled() => return Err(child.stop().await),
            read = stdout.read(&mut piece) => read,
        };
        let lost = |source| DataError::File { action: "read from", path: child.program().into(), source };
        let read = read.map_err(lost)?;
        if read == 0 {
            break;
        }
        sink.write(&piece[..read])?;
        hasher.update(&piece[..read]);
        bytes += read as u64;
        reach(bytes);
    }
    tokio::select! {
        () = stop.cancelled() => return Err(child.stop().await),
        ended = child.end() => ended?,
    }
    if bytes == 0 {
        return Err(DataError::Nothing { program: child.program().to_owned() });
    }
    Ok((bytes, Digest::from_bytes(hasher.finalize().into())))
}

/// Relative programs, arguments and files are meant from where the stack file lies.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
