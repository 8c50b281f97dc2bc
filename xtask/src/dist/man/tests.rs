//! What formatters say of the pages, where there are any, and what readers find in them.

use std::fs;

use super::*;
use crate::process;

fn all() -> Vec<Page> {
    pages(&Edition {
        time: 1_772_323_200,
    })
}

#[test]
fn each_command_has_a_page() {
    let names: Vec<_> = all().into_iter().map(|page| page.name).collect();
    for name in [
        "qemu-pr-helper.8",
        "prhctl.1",
        "prhctl-status.1",
        "prhctl-lun.1",
        "prhctl-lun-create.1",
    ] {
        assert!(names.iter().any(|other| other == name), "{name}");
    }
    assert!(
        !names.iter().any(|name| name.contains("help.1")),
        "{names:?}"
    );
}

#[test]
fn the_page_of_the_helper_has_the_sections_of_the_original() {
    let page = helper(&Edition { time: 0 });
    let headings = page.lines().filter_map(|line| line.strip_prefix(".SH "));
    let headings: Vec<_> = headings.collect();
    assert_eq!(
        headings.get(..4),
        Some(["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"].as_slice())
    );
    assert!(!page.contains('%'), "{page}");
    assert!(page.contains("\\fB\\-f\\fR, \\fB\\-\\-pidfile=\\fR\\fIPATH\\fR\n"));
}

#[test]
fn exit_statuses_and_examples_are_sections() {
    let pages = all();
    let page = |name| pages.iter().find(|page| page.name == name).unwrap();
    for name in ["prhctl.1", "prhctl-status.1", "prhctl-lun-show.1"] {
        for heading in ["SYNOPSIS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            let line = format!("\n.SH {heading}\n");
            assert_eq!(
                page(name).text.matches(&line).count(),
                1,
                "{name}: {heading}"
            );
        }
        assert!(!page(name).text.contains("\\-\\-help\\(aq lists"), "{name}");
    }
}

#[test]
fn formatters_have_nothing_to_complain_about() {
    let folder = tempfile::tempdir().unwrap();
    let linters = [
        ("mandoc", vec!["-T", "lint", "-W", "warning"]),
        ("groff", vec!["-man", "-t", "-ww", "-z", "-Kutf8"]),
    ];
    let pages: Vec<_> = all()
        .into_iter()
        .map(|page| {
            let path = folder.path().join(page.name);
            fs::write(&path, page.text).unwrap();
            path
        })
        .collect();
    for (program, options) in linters {
        if process::find(program).is_none() {
            println!("skipped: no {program}");
            continue;
        }
        let output = process::command(program)
            .args(options)
            .args(&pages)
            .output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(
            said.is_empty(),
            "{program}:\n{}",
            String::from_utf8_lossy(&said)
        );
    }
}
