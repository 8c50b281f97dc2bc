//! An error and its causes, as one line.

use std::io;

/// What failed, on what, and why, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| {
        match cause.downcast_ref::<io::Error>() {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                format!("{line}: it closed the connection")
            }
            _ => format!("{line}: {cause}"),
        }
    })
}
