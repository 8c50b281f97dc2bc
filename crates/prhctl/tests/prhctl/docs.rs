// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examples in docs/prhctl.md.

use crate::support::TestHelper;

const DOCS: &str = include_str!("../../../../docs/prhctl.md");

/// Runs the commands of the examples in order, and compares their output.
#[test]
fn examples_match_output() {
    let helper = TestHelper::start();
    let mut status = 0;
    let mut compared = 0;
    for block in DOCS.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
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
    assert!(compared > 10, "{compared}");
}
