//! The picture of a run: bars of the figures that say most, for whoever reads the README.

mod report;
mod svg;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::report::Report;
use self::svg::{Bar, Group, Panel, Scale};
use super::contestant::{FLOOR, ORIGINAL, OURS};

/// Those who are shown, and what they are called.
const SHOWN: [(&str, &str); 3] = [
    (OURS, "ours"),
    (FLOOR, "the least that any server must do"),
    (ORIGINAL, "QEMU's helper"),
];

/// A panel as it is looked for in a report.
struct Wanted {
    title: &'static str,
    scale: Scale,
    scenario: &'static str,
    /// Figures, and what each is called.
    figures: &'static [(&'static str, &'static str)],
}

const WANTED: [Wanted; 5] = [
    Wanted {
        title: "Requests per second (more is better)",
        scale: Scale::Linear,
        scenario: "overhead",
        figures: &[
            ("requests, 4 clients", "4 clients"),
            ("requests, 16 clients", "16 clients"),
            ("requests, 64 clients", "64 clients"),
        ],
    },
    Wanted {
        title: "Processor time for a request, µs (less is better)",
        scale: Scale::Linear,
        scenario: "overhead",
        figures: &[
            ("CPU per request, 1 client", "1 client"),
            ("CPU per request, 4 clients", "4 clients"),
            ("CPU per request, 16 clients", "16 clients"),
            ("CPU per request, 64 clients", "64 clients"),
        ],
    },
    Wanted {
        title: "Worst wait beside commands that hang, ms (less is better; given up after 1,000; log scale)",
        scale: Scale::Logarithmic,
        scenario: "hung",
        figures: &[
            ("wait worst once 64 hang", "64 hang"),
            ("wait worst once 200 hang", "200 hang"),
            ("wait worst once 1000 hang", "1,000 hang"),
        ],
    },
    Wanted {
        title: "Memory with nobody connected, KiB (PSS; less is better)",
        scale: Scale::Linear,
        scenario: "idle",
        figures: &[("PSS, nobody connected", "at rest")],
    },
    Wanted {
        title: "Memory for each idle connection, KiB (PSS; less is better)",
        scale: Scale::Linear,
        scenario: "idle",
        figures: &[("PSS per idle connection", "of 2,000")],
    },
];

/// Draws what was written by `--json`.
pub(super) fn redraw(from: &Path, to: &Path) -> Result<()> {
    let text =
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let report =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", from.display()))?;
    write(report, to)
}

/// Draws a report.
pub(super) fn write(report: Value, to: &Path) -> Result<()> {
    let picture = picture(report)?;
    fs::write(to, picture).with_context(|| format!("cannot write {}", to.display()))
}

fn picture(report: Value) -> Result<String> {
    let report: Report = serde_json::from_value(report).context("not a report of a benchmark")?;
    // What was not measured is not shown, nor is a panel of nothing.
    let panels: Vec<_> = WANTED
        .iter()
        .map(|wanted| panel(&report, wanted))
        .filter(|panel| !panel.groups.is_empty())
        .collect();
    ensure!(
        !panels.is_empty(),
        "nothing of what the picture shows was measured: that is in overhead, hung and idle"
    );
    let legend: Vec<_> = SHOWN.iter().map(|(_, text)| *text).collect();
    Ok(svg::draw(
        "qemu-pr-helper beside QEMU's",
        &report.origin(),
        &legend,
        &panels,
    ))
}

fn panel(report: &Report, wanted: &Wanted) -> Panel {
    let bars = |figure| {
        let bar = |(colour, (name, _)): (usize, &(&str, &str))| {
            let summary = report.summary(wanted.scenario, figure, name)?;
            Some(Bar { colour, summary })
        };
        SHOWN.iter().enumerate().filter_map(bar).collect()
    };
    let groups = wanted.figures.iter().map(|(figure, name)| Group {
        name,
        bars: bars(figure),
    });
    Panel {
        title: wanted.title,
        scale: wanted.scale,
        groups: groups.filter(|group| !group.bars.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = include_str!("results.json");
    const GOLDEN: &str = include_str!("golden.svg");

    #[test]
    fn the_picture_is_the_golden_one() {
        let picture = picture(serde_json::from_str(RESULTS).unwrap()).unwrap();
        // After a change that is meant, in this folder:
        // cargo xtask bench --from results.json --chart golden.svg
        assert_eq!(picture, GOLDEN);
    }

    #[test]
    fn the_picture_is_xml_and_says_where_it_comes_from() {
        let picture = picture(serde_json::from_str(RESULTS).unwrap()).unwrap();
        let document = roxmltree::Document::parse(&picture).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "svg");
        assert_eq!(
            root.tag_name().namespace(),
            Some("http://www.w3.org/2000/svg")
        );
        let texts: Vec<_> = root.descendants().filter_map(|node| node.text()).collect();
        for part in [
            "2026-01-02",
            "3 cores of A <fast> & \"good\" CPU",
            "Linux 6.1.0",
            "1,016",
        ] {
            assert!(texts.iter().any(|text| text.contains(part)), "{part}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_shown() {
        let mut report: Value = serde_json::from_str(RESULTS).unwrap();
        report["scenarios"].as_object_mut().unwrap().remove("hung");
        let shorter = picture(report.clone()).unwrap();
        assert!(!shorter.contains("hang") && shorter.contains("Requests"));
        report["scenarios"] = Value::Object(serde_json::Map::new());
        assert!(picture(report).is_err());
    }
}
