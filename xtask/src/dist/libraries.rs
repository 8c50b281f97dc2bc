//! What programs need of the system they are installed on.

use anyhow::{Context as _, Result};

/// The oldest GNU C library that has what these programs use of it: the number behind `2.`.
///
/// Each symbol that a program takes from it has a version, whose name is in the program.
pub(crate) fn c_library<'a>(programs: impl IntoIterator<Item = &'a [u8]>) -> Result<u32> {
    const NAME: &[u8] = b"GLIBC_2.";
    let programs = programs.into_iter();
    let newest = programs.flat_map(|program| {
        let places = program.windows(NAME.len()).enumerate();
        let places = places.filter(|(_, window)| *window == NAME);
        places.filter_map(|(at, _)| number(program.get(at + NAME.len()..)?))
    });
    newest
        .max()
        .context("the programs are not linked to the GNU C library")
}

fn number(bytes: &[u8]) -> Option<u32> {
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
    fn the_newest_version_counts() {
        let programs: [&[u8]; 2] = [
            b"..\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0",
            b"GLIBC_2.17\0GLIBC_2.",
        ];
        assert_eq!(c_library(programs).unwrap(), 34);
        assert!(c_library([b"nothing".as_slice()]).is_err());
    }
}
