//! Runs a target over files, or, with `--cfg fuzzing`, under libFuzzer.

#![cfg_attr(fuzzing, no_main)]

/// Environment variable that selects the target; libFuzzer uses the command line.
#[cfg(fuzzing)]
const VARIABLE: &str = "PR_FUZZ_TARGET";

#[cfg(fuzzing)]
static TARGET: std::sync::OnceLock<fuzz::Target> = std::sync::OnceLock::new();

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        fuzz::find(&name).unwrap_or_else(|| panic!("{VARIABLE} is not the name of a target"))
    });
    (target.run)(bytes);
});

/// Runs `fuzz TARGET FILE…`; a directory stands for its files.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    use std::io::Error;

    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    let target = name.to_str().and_then(fuzz::find);
    let target = target.ok_or_else(|| Error::other("usage: fuzz TARGET FILE…"))?;
    let mut inputs = Vec::new();
    for path in arguments.map(std::path::PathBuf::from) {
        match path.is_dir() {
            true => {
                for entry in std::fs::read_dir(path)? {
                    inputs.push(std::fs::read(entry?.path())?);
                }
            }
            false => inputs.push(std::fs::read(path)?),
        }
    }
    inputs.iter().for_each(|input| (target.run)(input));
    Ok(())
}
