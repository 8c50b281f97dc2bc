//! Library dependencies of the programs.

use anyhow::{Context as _, Result};

/// Returns the minor version of the oldest GNU C library 2.x that has all symbols of these
/// programs.
///
/// Each imported symbol has a version, and the program contains the version's name.
pub(crate) fn min_glibc_minor<'a>(programs: impl IntoIterator<Item = &'a [u8]>) -> Result<u32> {
    const NAME: &[u8] = b"GLIBC_2.";
    let programs = programs.into_iter();
    let newest = programs.flat_map(|program| {
        let offsets = program.windows(NAME.len()).enumerate();
        let offsets = offsets.filter(|(_, window)| *window == NAME);
        offsets.filter_map(|(at, _)| leading_number(program.get(at + NAME.len()..)?))
    });
    newest
        .max()
        .context("the programs are not linked to the GNU C library")
}

fn leading_number(bytes: &[u8]) -> Option<u32> {
    let digits: String = bytes
        .iter()
        .map(|&byte| char::from(byte))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_symbol_version_is_returned() {
        let programs: [&[u8]; 2] = [
            b"..\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0",
            b"GLIBC_2.17\0GLIBC_2.",
        ];
        assert_eq!(min_glibc_minor(programs).unwrap(), 34);
        assert!(min_glibc_minor([b"nothing".as_slice()]).is_err());
    }
}
