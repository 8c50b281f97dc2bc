// SPDX-License-Identifier: MIT OR Apache-2.0

//! The pictures of screens in the documentation.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::screen::Cell;

const STYLE: &str = "  <style>
    text { font: 14px ui-monospace, \"DejaVu Sans Mono\", Menlo, Consolas, monospace;
      fill: #1f2328; white-space: pre }
    .page { fill: #f6f8fa; stroke: #d1d9e0 }
    .bold { font-weight: 700 }
    .underlined { text-decoration: underline }
    .green { fill: #1a7f37 }
    .yellow { fill: #9a6700 }
    .red { fill: #d1242f }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .page { fill: #151b23; stroke: #3d444d }
      .green { fill: #3fb950 }
      .yellow { fill: #d29922 }
      .red { fill: #f85149 }
    }
  </style>
";
/// Size of a character in pixels.
const CHARACTER: (f32, f32) = (8.43, 17.0);
const MARGIN: f32 = 16.0;

/// Panics unless the picture `name` in docs/ is that of the lines of a screen, without empty lines
/// at the end. `PR_PICTURES=write` replaces it instead.
pub fn check(name: &str, title: &str, columns: usize, lines: &[Vec<Cell>]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    let end = lines.iter().rposition(|line| !line.is_empty());
    let picture = svg(title, columns, &lines[..end.map_or(0, |end| end + 1)]);
    if env::var_os("PR_PICTURES").is_some_and(|value| value == "write") {
        fs::write(&path, &picture).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == picture,
        "docs/{name} differs from the output: run this test with PR_PICTURES=write"
    );
}

/// Returns a picture of the lines of a screen, for light and dark pages.
fn svg(title: &str, columns: usize, lines: &[Vec<Cell>]) -> String {
    let width = (columns as f32 * CHARACTER.0 + 2.0 * MARGIN).ceil();
    let height = (lines.len() as f32 * CHARACTER.1 + 2.0 * MARGIN).ceil();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" xml:space=\"preserve\" \
         viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n  <title>{title}</title>\n{STYLE}  \
         <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\" class=\"page\"/>\n",
        width - 1.0,
        height - 1.0
    );
    for (row, line) in lines.iter().enumerate() {
        let baseline = MARGIN + row as f32 * CHARACTER.1 + 13.0;
        let mut column = 0;
        for run in line.chunk_by(|one, other| one.1 == other.1) {
            let x = MARGIN + column as f32 * CHARACTER.0;
            column += run.len();
            let content: String = run.iter().map(|(character, _)| *character).collect();
            if content.trim().is_empty() {
                continue;
            }
            // The length keeps the columns aligned in every font.
            let _ = writeln!(
                text,
                "  <text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{:.1}\"{}>{}</text>",
                run.len() as f32 * CHARACTER.0,
                class(&run[0].1),
                content.replace('&', "&amp;").replace('<', "&lt;")
            );
        }
    }
    text + "</svg>\n"
}

/// Returns the class attribute for a select graphic rendition.
fn class(style: &str) -> String {
    let classes: Vec<_> = style
        .split_whitespace()
        .map(|code| match code {
            "1" => "bold",
            "31" => "red",
            "32" => "green",
            "33" => "yellow",
            "4" => "underlined",
            other => panic!("no class for {other}"),
        })
        .collect();
    match classes.is_empty() {
        true => String::new(),
        false => format!(" class=\"{}\"", classes.join(" ")),
    }
}
