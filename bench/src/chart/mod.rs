// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bar chart of the main metrics of a run, for the README.

mod report;
mod svg;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::report::Report;
use self::svg::{Bar, Group, Panel, Scale};
use super::subject::{FLOOR, ORIGINAL, OURS};

/// The subjects in the chart, and their names in the legend.
const SUBJECTS: [(&str, &str); 3] = [
    (OURS, "ours"),
    (FLOOR, "baseline: a minimal server"),
    (ORIGINAL, "QEMU's helper"),
];

/// A panel of the chart and the metrics that it shows.
struct PanelSpec {
    title: &'static str,
    scale: Scale,
    scenario: &'static str,
    /// Metrics and their labels.
    metrics: &'static [(&'static str, &'static str)],
}

const PANELS: [PanelSpec; 5] = [
    PanelSpec {
        title: "Requests per second (more is better)",
        scale: Scale::Linear,
        scenario: "overhead",
        metrics: &[
            ("requests, 4 clients", "4 clients"),
            ("requests, 16 clients", "16 clients"),
            ("requests, 64 clients", "64 clients"),
        ],
    },
    PanelSpec {
        title: "Processor time for a request, µs (less is better)",
        scale: Scale::Linear,
        scenario: "overhead",
        metrics: &[
            ("CPU per request, 1 client", "1 client"),
            ("CPU per request, 4 clients", "4 clients"),
            ("CPU per request, 16 clients", "16 clients"),
            ("CPU per request, 64 clients", "64 clients"),
        ],
    },
    PanelSpec {
        title: "Worst wait while commands hang, ms (less is better; timeout 1,000; log scale)",
        scale: Scale::Logarithmic,
        scenario: "hung",
        metrics: &[
            ("wait worst once 64 hang", "64 hang"),
            ("wait worst once 200 hang", "200 hang"),
            ("wait worst once 1000 hang", "1,000 hang"),
        ],
    },
    PanelSpec {
        title: "Memory without clients, KiB (PSS; less is better)",
        scale: Scale::Linear,
        scenario: "idle",
        metrics: &[("PSS, no clients", "no clients")],
    },
    PanelSpec {
        title: "Memory for each idle connection, KiB (PSS; less is better)",
        scale: Scale::Linear,
        scenario: "idle",
        metrics: &[("PSS per idle connection", "of 2,000")],
    },
];

/// Draws a report that `--json` has written.
pub(super) fn redraw(from: &Path, to: &Path) -> Result<()> {
    let text =
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let report =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", from.display()))?;
    write(report, to)
}

/// Draws a report.
pub(super) fn write(report: Value, to: &Path) -> Result<()> {
    let svg = render(report)?;
    fs::write(to, svg).with_context(|| format!("cannot write {}", to.display()))
}

fn render(report: Value) -> Result<String> {
    let report: Report =
        serde_json::from_value(report).context("the file is not a benchmark report")?;
    // Metrics that were not measured are left out, and so are empty panels.
    let panels: Vec<_> = PANELS
        .iter()
        .map(|spec| panel(&report, spec))
        .filter(|panel| !panel.groups.is_empty())
        .collect();
    ensure!(
        !panels.is_empty(),
        "the report has no metric of the chart; run the scenarios overhead, hung and idle"
    );
    let legend: Vec<_> = SUBJECTS.iter().map(|(_, text)| *text).collect();
    Ok(svg::draw(
        "qemu-pr-helper compared with QEMU's",
        &report.origin(),
        &legend,
        &panels,
    ))
}

fn panel(report: &Report, spec: &PanelSpec) -> Panel {
    let bars = |metric| {
        let bar = |(color, (name, _)): (usize, &(&str, &str))| {
            let summary = report.summary(spec.scenario, metric, name)?;
            Some(Bar { color, summary })
        };
        SUBJECTS.iter().enumerate().filter_map(bar).collect()
    };
    let groups = spec.metrics.iter().map(|(metric, name)| Group {
        name,
        bars: bars(metric),
    });
    Panel {
        title: spec.title,
        scale: spec.scale,
        groups: groups.filter(|group| !group.bars.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = include_str!("results.json");
    const GOLDEN: &str = include_str!("golden.svg");

    #[test]
    fn chart_equals_golden_file() {
        let svg = render(serde_json::from_str(RESULTS).unwrap()).unwrap();
        // After an intended change, update it in this directory:
        //     cargo xtask bench --from results.json --chart golden.svg
        assert_eq!(svg, GOLDEN);
    }

    #[test]
    fn chart_is_xml_with_origin() {
        let svg = render(serde_json::from_str(RESULTS).unwrap()).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "svg");
        assert_eq!(
            root.tag_name().namespace(),
            Some("http://www.w3.org/2000/svg")
        );
        let texts: Vec<_> = root.descendants().filter_map(|node| node.text()).collect();
        for role in [
            "2026-01-02",
            "3 cores of A <fast> & \"good\" CPU",
            "Linux 6.1.0",
            "1,016",
        ] {
            assert!(texts.iter().any(|text| text.contains(role)), "{role}");
        }
    }

    #[test]
    fn unmeasured_metrics_are_left_out() {
        let mut report: Value = serde_json::from_str(RESULTS).unwrap();
        report["scenarios"].as_object_mut().unwrap().remove("hung");
        let shorter = render(report.clone()).unwrap();
        assert!(!shorter.contains("hang") && shorter.contains("Requests"));
        report["scenarios"] = Value::Object(serde_json::Map::new());
        assert!(render(report).is_err());
    }
}
