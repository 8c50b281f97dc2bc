//! A private view of the file system, for disks that are small and for `/dev/log`.

use std::env;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// Says that something was not tested, so that it is seen; and fails where nothing may be skipped.
pub(crate) fn skipped(why: &str) {
    assert!(env::var_os("PR_COMPAT_STRICT").is_none(), "skipped: {why}");
    // Not by a macro: those are only shown when a test fails.
    let _ = writeln!(io::stderr(), "trace: skipped: {why}");
}

/// What runs a shell script and then the helper where mounts are the helper's own. `None` if that cannot be
/// had here.
pub(crate) fn wrapper(script: &str) -> Option<Vec<String>> {
    // Root may; others are in a namespace of users, where they stay who they are.
    let options = [&["-m"][..], &["-mc", "--keep-caps"]];
    let works = |options: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**options);
        command.args(["mount", "-t", "tmpfs", "none", "/tmp"]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(options) = options.iter().find(works) else {
        skipped("no mount namespace can be had");
        return None;
    };
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    let words = [&["unshare"], *options, &["sh", "-c", &script]].concat();
    Some(words.into_iter().map(str::to_owned).collect())
}
