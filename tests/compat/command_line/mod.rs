// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options, and the rejection of invalid ones.

use std::fs;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::need::Need;
use crate::scratch::Scratch;

/// Arguments that print the help text and exit with status 0.
const HELP: [(&str, &[&str]); 9] = [
    ("short", &["-h"]),
    ("long", &["--help"]),
    ("abbreviated", &["--he"]),
    ("combined", &["-vqh"]),
    (
        "after_an_abbreviated_option",
        &["--sock=/nowhere/s", "--help"],
    ),
    ("after_an_abbreviated_flag", &["--quiet", "--daem", "-h"]),
    ("before_an_unknown_option", &["-h", "--bogus"]),
    ("before_a_relative_path", &["-h", "-k", "relative"]),
    ("after_positional_arguments", &["one", "two", "-h"]),
];

/// Arguments that print the version and exit with status 0.
const VERSION: [(&str, &[&str]); 5] = [
    ("short", &["-V"]),
    ("long", &["--version"]),
    ("abbreviated", &["--vers"]),
    ("combined", &["-vqV"]),
    ("before_help", &["-Vh"]),
];

/// Arguments that are rejected, and a word of the message.
const REJECTED: [(&str, &[&str], &str); 30] = [
    ("unknown_short_option", &["-Z"], "Z"),
    ("unknown_long_option", &["--bogus"], "--bogus"),
    ("unknown_option_before_help", &["--bogus", "-h"], "--bogus"),
    ("unknown_option_in_a_group", &["-vZ"], "Z"),
    ("ambiguous_abbreviation", &["--v"], "--v"),
    ("longer_ambiguous_abbreviation", &["--ver"], "--ver"),
    ("socket_without_argument", &["--socket"], "--socket"),
    ("short_socket_without_argument", &["-k"], "k"),
    ("pidfile_without_argument", &["-f"], "f"),
    ("user_without_argument", &["-u"], "u"),
    ("group_without_argument", &["--group"], "--group"),
    ("trace_without_argument", &["-T"], "T"),
    ("help_with_argument", &["--help=1"], "--help"),
    ("daemon_with_argument", &["--daemon=1"], "--daemon"),
    ("verbose_with_argument", &["--verbose=3"], "--verbose"),
    ("quiet_with_argument", &["--quiet=3"], "--quiet"),
    ("relative_socket", &["-k", "relative"], "absolute"),
    (
        "relative_socket_before_help",
        &["-k", "relative", "-h"],
        "absolute",
    ),
    ("relative_socket_attached", &["-krelative"], "absolute"),
    (
        "relative_socket_after_a_word",
        &["word", "-k", "relative"],
        "absolute",
    ),
    (
        "relative_socket_then_absolute",
        &["-k", "relative", "-k", "/nowhere/s"],
        "absolute",
    ),
    (
        "absolute_socket_then_relative",
        &["-k", "/nowhere/s", "-k", "relative"],
        "absolute",
    ),
    ("empty_socket", &["-k", ""], "socket"),
    ("empty_socket_after_equals", &["--socket="], "socket"),
    ("unknown_user", &["-u", "no-such-user"], "no-such-user"),
    ("unknown_group", &["-g", "no-such-group"], "no-such-group"),
    (
        "user_before_trace",
        &["-u", "no-such-user", "-T", "bad=1"],
        "user",
    ),
    (
        "unknown_group_before_socket",
        &["-g", "no-such-group", "-k", "relative"],
        "group",
    ),
    (
        "last_user_unknown",
        &["-u", "0", "-u", "no-such-user"],
        "no-such-user",
    ),
    (
        "unreachable_socket",
        &["-k", "/no/such/dir/s"],
        "/no/such/dir/s",
    ),
];

/// Invalid user and group IDs.
const BAD_IDS: [(&str, &str); 6] = [
    ("negative", "-1"),
    ("with_a_letter", "1x"),
    ("hexadecimal", "0x1"),
    ("beyond_32_bits", "4294967296"),
    ("beyond_64_bits", "99999999999999999999"),
    ("empty", ""),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, arguments) in HELP {
        cases.push(Case::new(format!("help_{name}"), move |helper| {
            prints(helper, arguments, "--socket")
        }));
    }
    for (name, arguments) in VERSION {
        cases.push(Case::new(format!("version_{name}"), move |helper| {
            prints(helper, arguments, "qemu-pr-helper ")
        }));
    }
    for (name, arguments, word) in REJECTED {
        cases.push(Case::new(format!("{name}_is_rejected"), move |helper| {
            let scratch = Scratch::new()?;
            let finished = helper.command(&scratch).args(arguments).finish()?;
            ensure!(finished.stdout.is_empty(), "{finished:?}");
            finished.expect_failure(word)
        }));
    }
    for (name, id) in BAD_IDS {
        for (option, word) in [("-u", "user"), ("-g", "group")] {
            let name = format!("{word}_id_{name}_is_rejected");
            cases.push(Case::new(name, move |helper| {
                let scratch = Scratch::new()?;
                let command = helper.serving_command(&scratch).args([option, id]);
                command.finish()?.expect_failure(word)?;
                ensure!(scratch.names()?.is_empty(), "a socket was not removed");
                Ok(())
            }));
        }
    }
    cases.extend(served());
    cases.extend([
        Case::new("socket_path_too_long_is_rejected", socket_path_too_long),
        Case::new("help_lists_the_options", help_lists).row(Row::HelpIncomplete),
        Case::new("version_begins_with_the_name", version_begins).row(Row::VersionText),
        Case::new("equals_sign_after_short_option", equals_sign).row(Row::EqualsSign),
    ]);
    for (option, word) in [("-u", "user"), ("-g", "group")] {
        let case = Case::new(format!("highest_{word}_id"), move |helper| {
            highest_id(helper, option)
        });
        cases.push(case.needs(Need::Root).row(Row::HighestId));
    }
    cases
}

/// The value that setresuid(2) and setresgid(2) interpret as "leave unchanged".
fn highest_id(helper: &Helper, option: &str) -> Result<()> {
    const HIGHEST: &str = "4294967295";
    let scratch = Scratch::new()?;
    let command = helper.serving_command(&scratch).args([option, HIGHEST]);
    if helper.differs(Row::HighestId) {
        return command.finish()?.expect_failure(HIGHEST);
    }
    let running = command.start()?;
    ensure!(running.status_line("Uid").starts_with("0\t"));
    ensure!(running.status_line("Gid").starts_with("0\t"));
    Ok(())
}

/// Ways to specify the socket; a client must be served.
fn served() -> Vec<Case> {
    const FORMS: [(&str, &[&str]); 10] = [
        ("short_socket", &["-k", "{}"]),
        ("short_socket_attached", &["-k{}"]),
        ("long_socket", &["--socket", "{}"]),
        ("long_socket_with_equals", &["--socket={}"]),
        ("abbreviated_socket", &["--so={}"]),
        ("socket_by_its_first_letter", &["--s={}"]),
        ("last_of_two_sockets", &["-k", "/nowhere/s", "-k", "{}"]),
        ("socket_in_a_group", &["-vvqk{}"]),
        ("socket_among_words", &["one", "-k", "{}", "two"]),
        (
            "options_after_two_dashes",
            &["-k", "{}", "--", "-k", "relative", "--bogus"],
        ),
    ];
    let mut cases: Vec<Case> = FORMS
        .into_iter()
        .map(|(name, form)| {
            Case::new(format!("{name}_is_served"), move |helper| {
                let scratch = Scratch::new()?;
                let socket = scratch.socket().display().to_string();
                let arguments = form.iter().map(|argument| argument.replace("{}", &socket));
                let mut running = helper.command(&scratch).args(arguments).start()?;
                ensure!(running.terminate()?.success());
                Ok(())
            })
        })
        .collect();
    for (name, id) in [("zero", "0"), ("with_a_blank", " 0"), ("with_a_plus", "+0")] {
        for (option, word) in [("-u", "user"), ("-g", "group")] {
            let case = Case::new(format!("{word}_id_{name}_is_served"), move |helper| {
                let scratch = Scratch::new()?;
                let mut running = helper
                    .serving_command(&scratch)
                    .args([option, id])
                    .start()?;
                ensure!(running.status_line("Uid").starts_with("0\t"));
                ensure!(running.status_line("Gid").starts_with("0\t"));
                ensure!(running.terminate()?.success());
                Ok(())
            });
            cases.push(case.needs(Need::Root));
        }
    }
    cases
}

/// Checks that the helper exits with status 0 and prints `text` to stdout.
fn prints(helper: &Helper, arguments: &[&str], text: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = helper.command(&scratch).args(arguments).finish()?;
    finished.expect_success()?;
    ensure!(finished.stdout.contains(text), "{finished:?}");
    Ok(())
}

fn socket_path_too_long(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    // A path of 108 bytes fills `sun_path`, without a terminating zero.
    let longest_path = scratch.path(&"s".repeat(107 - scratch.dir().as_os_str().len()));
    let command = helper.command(&scratch).arg("-k").arg(&longest_path);
    let running = command.connect_to(longest_path.clone()).spawn()?;
    crate::process::wait_until("a socket with the longest path", || {
        Ok(longest_path.exists())
    })?;
    // Killed, because the original ignores a SIGTERM that arrives before it serves, and the client
    // cannot detect that it serves: the standard library needs room for a terminating zero.
    drop(running);
    fs::remove_file(longest_path)?;

    let too_long = scratch.path(&"s".repeat(108 - scratch.dir().as_os_str().len()));
    let command = helper.command(&scratch).arg("-k").arg(too_long);
    command.finish()?.expect_failure("too long")?;
    ensure!(scratch.names()?.is_empty());
    Ok(())
}

fn help_lists(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = helper.command(&scratch).arg("--help").finish()?.stdout;
    for option in ["-h", "-V", "-d", "-f", "-k", "-T", "-u", "-g"] {
        ensure!(text.contains(&format!("{option}, --")), "{option}: {text}");
    }
    for default in [
        "/var/run/qemu-pr-helper.pid",
        "/var/run/qemu-pr-helper.sock",
    ] {
        ensure!(text.contains(default), "{default}: {text}");
    }
    let complete = helper.differs(Row::HelpIncomplete);
    for option in ["--verbose", "--quiet", "--io-timeout"] {
        ensure!(text.contains(option) == complete, "{option}: {text}");
    }
    let usage = text
        .lines()
        .find(|line| line.contains("Usage"))
        .unwrap_or("");
    ensure!(usage.ends_with(" FILE") != complete, "{usage}");
    Ok(())
}

fn version_begins(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = helper.command(&scratch).arg("--version").finish()?.stdout;
    let first = text.lines().next().unwrap_or("");
    let mut words = first.split(' ');
    let name = words.next().unwrap_or("");
    let version = words.next().unwrap_or("");
    ensure!(version.split('.').count() == 3, "{first}");
    if helper.differs(Row::VersionText) {
        ensure!(
            name == "qemu-pr-helper" && words.next().is_none(),
            "{first}"
        );
    } else {
        ensure!(name == helper.path().display().to_string(), "{first}");
        ensure!(text.contains("Copyright"), "{text}");
    }
    Ok(())
}

/// getopt does not support `-k=PATH`: the equals sign belongs to the path, which is therefore
/// relative.
fn equals_sign(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let argument = format!("-k={}", scratch.socket().display());
    let command = helper.command(&scratch).arg(argument);
    if helper.differs(Row::EqualsSign) {
        ensure!(command.start()?.terminate()?.success());
    } else {
        command.finish()?.expect_failure("absolute")?;
    }
    let command = helper.command(&scratch).arg("-T=help");
    if helper.differs(Row::EqualsSign) {
        command.finish()?.expect_success()
    } else {
        command.finish()?.expect_failure("parameter")
    }
}
