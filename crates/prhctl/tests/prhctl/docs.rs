// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examples in docs/prhctl.md and docs/troubleshooting.md.

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
