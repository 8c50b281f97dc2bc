// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mount namespaces, in which a test replaces files of the host.

use std::process::{Command, Stdio};

use crate::skip;

/// Returns a wrapper that runs a shell script and then a program, in a mount namespace of its own.
/// Returns `None` with a printed reason if that is not possible.
#[must_use]
pub fn mount_namespace(script: &str) -> Option<Vec<String>> {
    // Without root, a user namespace is needed too. The user keeps its ID there.
    let options = [&["--mount"][..], &["-mc", "--keep-caps"]];
    let works = |options: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**options);
        command.args(["mount", "-t", "tmpfs", "none", "/tmp"]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(options) = options.iter().find(works) else {
        skip("a mount namespace cannot be created");
        return None;
    };
    let script = format!("set -e\n{script}\nexec \"$0\" \"$@\"");
    let words = [&["unshare"], *options, &["sh", "-c", &script]].concat();
    Some(words.into_iter().map(str::to_owned).collect())
}
