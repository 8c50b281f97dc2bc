// SPDX-License-Identifier: MIT OR Apache-2.0

//! Help, usage errors and option values.

use clap::Command;
use serde_json::json;

use crate::support::{Run, prhctl};

fn run(arguments: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    Run::new(&mut prhctl(dir.path(), arguments), "")
}

/// Returns the program and all subcommands, except clap's `help`.
fn commands() -> Vec<Command> {
    let mut program = prhctl::command_line();
    program.build();
    let (mut commands, mut pending) = (Vec::new(), vec![program]);
    while let Some(command) = pending.pop() {
        let subcommands = command.get_subcommands().cloned();
        pending.extend(subcommands.filter(|command| command.get_name() != "help"));
        commands.push(command);
    }
    commands
}

#[test]
fn definition_is_consistent() {
    prhctl::command_line().debug_assert();
}

/// A terminal has 80 columns, and some break a line that fills all of them.
#[test]
fn help_fits_terminal() {
    for mut command in commands() {
        let pages = [command.render_help(), command.render_long_help()];
        for line in pages
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
            .lines()
        {
            assert!(line.chars().count() <= 79, "{}: {line}", command.get_name());
        }
    }
}

#[test]
fn types_are_listed_with_each_option() {
    let mut options = 0;
    for command in commands() {
        for option in command.get_arguments() {
            if matches!(option.get_long(), Some("type" | "types")) {
                let help = option.get_help().unwrap().to_string();
                assert!(
                    help.contains("we, ea, we-ro, ea-ro, we-ar, ea-ar"),
                    "{help}"
                );
                options += 1;
            }
        }
    }
    assert_eq!(options, 5);
}

/// The subcommands that use helpers and have no DEVICE.
const WITHOUT_DEVICE: [&str; 7] = [
    "prhctl list",
    "prhctl clients",
    "prhctl disks",
    "prhctl history",
    "prhctl holders",
    "prhctl top",
    "prhctl orphans",
];

#[test]
fn socket_is_an_option_only_with_a_device() {
    for command in commands().iter().skip(1) {
        let has = |id: &str| command.get_arguments().any(|option| option.get_id() == id);
        let name = command.get_name();
        let expected = has_device(command)
            || WITHOUT_DEVICE.contains(&command.get_bin_name().unwrap_or_default());
        assert_eq!(has("socket"), expected, "{name}");
    }
    for line in ["-k s decode 70", "-v lun list .", "--timeout 1 demo"] {
        run(line).expect_failure(1, &["uses no helper"]);
    }
}

fn has_device(command: &Command) -> bool {
    let mut values = command
        .get_positionals()
        .filter_map(|value| value.get_value_names());
    values.any(|names| names.iter().any(|name| name == "DEVICE"))
}

#[test]
fn help_has_examples_and_exit_status() {
    let commands = commands();
    assert!(commands.len() > 15, "{}", commands.len());
    for command in commands.iter().skip(1) {
        let text = command.get_after_long_help().map(ToString::to_string);
        let (text, name) = (text.unwrap_or_default(), command.get_name());
        assert!(text.starts_with("EXAMPLES\n"), "{name}: {text}");
        assert!(text.contains("\nExit status 0"), "{name}: {text}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    assert_eq!(
        run("--version").success(),
        format!("prhctl {}\n", env!("CARGO_PKG_VERSION"))
    );
    let text = run("--help").success();
    assert!(text.contains("24  RESERVATION CONFLICT"), "{text}");
    let text = run("lun create --help").success();
    assert!(text.contains("\nEXAMPLES\n"), "{text}");
}

#[test]
fn usage_error_is_status_1() {
    for (line, fragment) in [
        (
            "frobnicate",
            "prhctl: unrecognized subcommand 'frobnicate'\n",
        ),
        ("stauts d", "Tip: a similar subcommand exists: 'status'."),
        ("-k 0x123 keys d", "use --key"),
        ("register d --key -1", "not a reservation key"),
        ("keys", "<DEVICE>"),
        ("register d", "--key <KEY>"),
        ("register d --key 0", "'prhctl unregister'"),
        ("register d --key 1:aptpl", "--aptpl"),
        ("register d --key 0x123abc:APTPL", "--aptpl"),
        (
            "register d --key 1 --old-key 2 --ignore-existing",
            "cannot be used with",
        ),
        (
            "register d --key 1 --ignore-existing --initiator sas,5000c50005b32001",
            "cannot be used with",
        ),
        ("reserve d --key 1 --type 2", "not a reservation type"),
        ("reserve d --key 1 --type 4", "not a reservation type"),
        ("reserve d --key xyz --type we", "not a reservation key"),
        ("preempt d --key 1 --type we", "--victim <KEY>"),
        ("preempt d --key 1 --victim 2:aptpl --type we", "--aptpl"),
        (
            "history --since yesterday",
            "not a time; valid are durations",
        ),
        ("lun", "requires a subcommand"),
        ("-k s", "requires a subcommand"),
        ("keys d --color sometimes", "sometimes"),
        (
            "move d --key 1 --new-key 2 --to x --target-port 1",
            "TransportID must begin with",
        ),
    ] {
        run(line).expect_failure(1, &[fragment]);
    }
    for port in ["0", "65536", "-1", "a"] {
        let line =
            format!("move d --key 1 --new-key 2 --to sas,5000c50005b32001 --target-port={port}");
        run(&line).expect_failure(1, &["not a relative target port"]);
    }
}

#[test]
fn usage_error_is_a_document_with_json() {
    for line in [
        "--json frobnicate",
        "register d --json",
        "-k s --json decode 70",
    ] {
        let run = run(line);
        assert_eq!(run.status, 1, "{run:?}");
        let document = run.json();
        let message = document["error"]["message"].as_str().unwrap();
        assert!(run.stderr.contains(message), "{run:?}");
    }
    // After "--", the word is an argument.
    assert_eq!(run("frobnicate -- --json").stdout, "");
}

#[test]
fn reservation_type_parses_names_and_numbers() {
    let types = |text: &str| {
        let arguments = format!("--json lun create lun --types {text}");
        let run = run(&arguments);
        assert_eq!(run.status, 0, "{run:?}");
        run.json()["supported"]["types"].clone()
    };
    let long = [
        "write-exclusive",
        "exclusive-access",
        "write-exclusive-registrants-only",
        "exclusive-access-registrants-only",
        "write-exclusive-all-registrants",
        "exclusive-access-all-registrants",
    ];
    assert_eq!(types("we,ea,we-ro,ea-ro,we-ar,ea-ar"), json!(long));
    assert_eq!(types("1,3,5,6,7,8"), json!(long));
    assert_eq!(types("WE,Ea,WE_RO,ea_ro,WE-AR,ea-ar"), json!(long));
    assert_eq!(types(&long.join(",")), json!(long));
    for (index, short) in ["we", "ea", "we-ro", "ea-ro", "we-ar", "ea-ar"]
        .iter()
        .enumerate()
    {
        assert_eq!(types(short), json!([long[index]]));
    }
    for text in ["", "0", "2", "4", "9", "+5", "05", "we-", "we-rо"] {
        let stderr = run(&format!("lun create lun --types={text}")).failure(1);
        assert!(
            stderr.contains("type") || stderr.contains("value"),
            "{stderr}"
        );
    }
}

#[test]
fn global_options_precede_or_follow_command() {
    for line in ["-k no --json keys d", "keys --json d -k no"] {
        let run = run(line);
        assert_eq!(run.json()["device"], "d", "{run:?}");
    }
}
