// SPDX-License-Identifier: MIT OR Apache-2.0

//! Content of the man pages, and the linters of mandoc and groff.

use std::fs;

use packaging::man::{Page, pages};

use super::tool;

fn all_pages() -> Vec<Page> {
    pages("2026-02-28")
}

#[test]
fn each_command_has_a_page() {
    let names: Vec<_> = all_pages().into_iter().map(|page| page.name).collect();
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
fn helper_page_has_sections_of_qemus_page() {
    let pages = all_pages();
    let page = pages.iter().find(|page| page.name == "qemu-pr-helper.8");
    let page = &page.unwrap().text;
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
    let pages = all_pages();
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
fn prhctl_page_maps_sg_persist() {
    let pages = all_pages();
    let page = pages.iter().find(|page| page.name == "prhctl.1");
    let text = &page.unwrap().text;
    for entry in [
        ".TP\nREAD KEYS\nsg_persist: \\fB\\-i \\-k\\fR\n.br\n",
        "\nprhctl: \\fBkeys\\fR\n",
        ".TP\nREGISTER AND MOVE\n",
    ] {
        assert!(text.contains(entry), "{entry}: {text}");
    }
}

#[test]
fn pages_pass_the_linters() {
    let dir = tempfile::tempdir().unwrap();
    let linters = [
        ("mandoc", vec!["-T", "lint", "-W", "warning"]),
        ("groff", vec!["-man", "-t", "-ww", "-z", "-Kutf8"]),
    ];
    let pages: Vec<_> = all_pages()
        .into_iter()
        .map(|page| {
            let path = dir.path().join(page.name);
            fs::write(&path, page.text).unwrap();
            path
        })
        .collect();
    for (program, options) in linters {
        let Some(mut linter) = tool(program) else {
            continue;
        };
        let output = linter.args(options).args(&pages).output();
        let output = output.unwrap();
        let output = [output.stdout, output.stderr].concat();
        assert!(
            output.is_empty(),
            "{program}:\n{}",
            String::from_utf8_lossy(&output)
        );
    }
}
