// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examples in docs/prhctl.md and docs/troubleshooting.md, and the members of JSON documents.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::demo::real_helper;
use crate::support::TestHelper;

const PRHCTL: &str = include_str!("../../../../docs/prhctl.md");
const TROUBLESHOOTING: &str = include_str!("../../../../docs/troubleshooting.md");

/// Runs the commands in a document's examples in order, and compares their output. Each device in
/// `devices` is replaced by a port of a soft LUN. Returns the number of commands.
fn compare_examples(helper: &TestHelper, document: &str, devices: &[(&str, &str)]) -> usize {
    let mut status = 0;
    let mut compared = 0;
    for block in document.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let replace = |text: String, (device, port): &(&str, &str)| text.replace(device, port);
        let block = devices.iter().fold(block.to_owned(), replace);
        for example in block.split("$ ").skip(1) {
            let (line, shown) = example.split_once('\n').unwrap();
            let printed = match line.strip_prefix("prhctl ") {
                Some(arguments) => {
                    let (arguments, is_silent) = match arguments.split_once(" >") {
                        Some((arguments, _)) => (arguments, true),
                        None => (arguments, false),
                    };
                    let run = helper.run(arguments);
                    status = run.status;
                    match is_silent {
                        true => run.stderr,
                        false => run.stdout + &run.stderr,
                    }
                }
                None => {
                    assert_eq!(line, "echo $?");
                    format!("{status}\n")
                }
            };
            assert_eq!(printed, shown, "{line}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn prhctl_examples_match_output() {
    let compared = compare_examples(&TestHelper::start(), PRHCTL, &[]);
    assert!(compared > 10, "{compared}");
}

/// The disks have the registrations and the reservation that the procedures start with.
#[test]
fn troubleshooting_examples_match_output() {
    let helper = TestHelper::start();
    for command in [
        "lun create luns/dead --port node=sas,5001405000000001@1 \
         --port here=sas,5001405000000002@2",
        "register luns/dead/ports/node --key 0xdead",
        "reserve luns/dead/ports/node --key 0xdead --type we-ro",
        "lun create luns/isid --port old=iqn.2026-01.org.example:host1,i,0x00023d000001@1 \
         --port peer=iqn.2026-01.org.example:host2,i,0x00023d000001@1 \
         --port new=iqn.2026-01.org.example:host1,i,0x00023d000002@1",
        "register luns/isid/ports/old --key 0xa1",
        "register luns/isid/ports/peer --key 0xb2",
        "reserve luns/isid/ports/old --key 0xa1 --type we-ro",
    ] {
        helper.run(command).success();
    }
    let devices = [
        ("/dev/sdb", "luns/dead/ports/here"),
        ("/dev/sdc", "luns/isid/ports/new"),
    ];
    let compared = compare_examples(&helper, TROUBLESHOOTING, &devices);
    assert_eq!(compared, 8);
}

/// Adds the names of the members of a JSON document, and of the values in it.
fn add_names(document: &Value, names: &mut BTreeSet<String>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| add_names(item, names)),
        Value::Object(members) => {
            names.extend(members.keys().cloned());
            members.values().for_each(|value| add_names(value, names));
        }
        _ => {}
    }
}

#[test]
fn every_json_member_is_documented() {
    let (_, section) = PRHCTL.split_once("\n## JSON\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let helper = TestHelper::start();
    let demo = format!("demo --json --helper {}", real_helper().display());
    let mut names = BTreeSet::new();
    for line in [
        "validate b --json",
        "register a --key a --json",
        "reserve a --key a --type we-ro --json",
        "status a --json",
        "keys a --json",
        "reservation a --json",
        "capabilities a --json",
        "release b --key b --type we-ro --json",
        "list --json",
        "lun list luns --json",
        "lun show luns/lun --json",
        "lun create luns/new --json",
        "lun remove luns/new --json",
        "decode 5f --json",
        "decode 72 06 2a 05 00 00 00 00 --json",
        &demo,
    ] {
        let run = helper.run(line);
        // The port `b` is not registered; `5f` is an incomplete CDB.
        let is_failure = line.starts_with("release") || line.starts_with("decode 5f");
        assert_eq!(run.status != 0, is_failure, "{run:?}");
        add_names(&run.json(), &mut names);
    }
    assert!(names.len() > 60, "{names:?}");
    let is_missing = |name: &&String| !section.contains(&format!("`{name}`"));
    let missing: Vec<_> = names.iter().filter(is_missing).collect();
    assert!(
        missing.is_empty(),
        "the section JSON of docs/prhctl.md lacks {missing:?}"
    );
}
