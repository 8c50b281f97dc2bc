// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bar charts as SVG, for light and dark pages.

use std::fmt::Write as _;

use crate::statistics::Summary;
use crate::table::three_digits;

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 16.0;
/// X coordinate of the bars and maximum length of a bar; a number follows each bar.
const LEFT: f64 = 110.0;
const MAX_LENGTH: f64 = 550.0;
const BAR: f64 = 13.0;
const STEP: f64 = 16.0;
/// Space between the groups of a panel, and above a panel's title.
const GAP: f64 = 8.0;
const ABOVE: f64 = 26.0;
/// Distance from a line's top to its text baseline.
const BASELINE: f64 = 10.5;

/// The chart has a background of its own, because a page can be dark on a light system, and the
/// media query only sees the system. Bars have a medium brightness, which stands out from both
/// backgrounds.
const STYLE: &str = "    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .page { fill: #ffffff }
    .title { font-size: 17px; font-weight: 600 }
    .panel { font-weight: 600 }
    .small { font-size: 11px; fill: #59636e }
    line { stroke: #1f2328 }
    .grid { stroke: #8c959f; stroke-opacity: 0.5 }
    .c0 { fill: #3b82f6 }
    .c1 { fill: #8c959f }
    .c2 { fill: #e8833a }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .page { fill: #0d1117 }
      .small { fill: #9198a1 }
      line { stroke: #e6edf3 }
    }
";

/// Scale of the bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Logarithmic, from the power of ten below the smallest value.
    Logarithmic,
}

/// Groups of bars that share a scale.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) scale: Scale,
    pub(super) groups: Vec<Group>,
}

/// Bars that are compared with each other.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) bars: Vec<Bar>,
}

/// A bar as long as the median, with a line from minimum to maximum.
pub(super) struct Bar {
    /// Index in the legend.
    pub(super) color: usize,
    pub(super) summary: Summary,
}

/// Returns the chart as SVG.
pub(super) fn draw(title: &str, origin: &[String], legend: &[&str], panels: &[Panel]) -> String {
    let mut canvas = Canvas {
        body: String::new(),
        y: MARGIN,
    };
    canvas.text(MARGIN, "title", title);
    canvas.y += 22.0;
    for line in origin {
        canvas.text(MARGIN, "small", line);
        canvas.y += STEP;
    }
    canvas.y += 4.0;
    canvas.legend(legend);
    for panel in panels {
        canvas.panel(panel);
    }
    let height = canvas.y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\">\n  <title>{}</title>\n  \
        <style>\n{STYLE}  </style>\n  \
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" class=\"page\"/>\n{}</svg>\n",
        escape(title),
        canvas.body
    )
}

/// The elements so far, and the y coordinate of the next one.
struct Canvas {
    body: String,
    y: f64,
}

impl Canvas {
    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.body, "  {element}");
    }

    fn text(&mut self, x: f64, class: &str, text: &str) {
        let (y, text) = (self.y + BASELINE, escape(text));
        self.element(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"
        ));
    }

    fn bar(&mut self, x: f64, length: f64, color: usize) {
        let y = self.y;
        self.element(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" \
            class=\"c{color}\"/>"
        ));
    }

    fn legend(&mut self, names: &[&str]) {
        for (color, name) in names.iter().enumerate() {
            self.bar(MARGIN, BAR, color);
            self.text(MARGIN + STEP + 4.0, "", name);
            self.y += STEP;
        }
    }

    fn panel(&mut self, panel: &Panel) {
        self.y += ABOVE;
        self.text(MARGIN, "panel", panel.title);
        self.y += STEP + GAP;
        let summaries = || {
            let bars = panel.groups.iter().flat_map(|group| &group.bars);
            bars.map(|bar| bar.summary)
        };
        let least = summaries().map(|it| it.least).fold(f64::MAX, f64::min);
        let most = summaries().map(|it| it.most).fold(0.0, f64::max);
        let ruler = Ruler::new(panel.scale, least, most);
        let top = self.y;
        let rows: usize = panel.groups.iter().map(|group| group.bars.len()).sum();
        let height = STEP * count(rows) + GAP * count(panel.groups.len() - 1);
        for value in ruler.decades() {
            let x = LEFT + ruler.length(value);
            self.element(format_args!(
                "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" class=\"grid\"/>",
                top + height
            ));
        }
        for (number, group) in panel.groups.iter().enumerate() {
            self.y += if number > 0 { GAP } else { 0.0 };
            self.group(group, ruler);
        }
    }

    fn group(&mut self, group: &Group, ruler: Ruler) {
        self.text(MARGIN, "", group.name);
        for Bar { color, summary } in &group.bars {
            let [median, least, most] =
                [summary.median, summary.least, summary.most].map(|value| ruler.length(value));
            self.bar(LEFT, median, *color);
            let y = self.y + BAR / 2.0;
            let (from, to) = (LEFT + least, LEFT + most);
            self.element(format_args!(
                "<line x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\"/>"
            ));
            self.text(
                to.max(LEFT + median) + 6.0,
                "",
                &with_commas(&three_digits(summary.median)),
            );
            self.y += STEP;
        }
    }
}

/// Conversion of values to lengths.
#[derive(Clone, Copy)]
struct Ruler {
    scale: Scale,
    /// Values of length 0 and of the maximum length; their logarithms for a logarithmic scale.
    from: f64,
    to: f64,
}

impl Ruler {
    fn new(scale: Scale, least: f64, most: f64) -> Self {
        let (from, to) = match scale {
            Scale::Linear => (0.0, most),
            Scale::Logarithmic => (least.log10().floor(), most.log10()),
        };
        Self { scale, from, to }
    }

    fn length(self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        };
        let share = (value - self.from) / (self.to - self.from);
        // If all values are zero or the same power of ten, the bars have no length.
        if share.is_finite() {
            share * MAX_LENGTH
        } else {
            0.0
        }
    }

    /// Returns the powers of ten for grid lines; none for a linear scale.
    fn decades(self) -> impl Iterator<Item = f64> {
        let is_wanted = self.scale == Scale::Logarithmic;
        (-12..=12_i8)
            .map(f64::from)
            .filter(move |exponent| is_wanted && (self.from..=self.to).contains(exponent))
            .map(|exponent| 10_f64.powf(exponent))
    }
}

fn count(number: usize) -> f64 {
    f64::from(u16::try_from(number).unwrap_or(u16::MAX))
}

/// Inserts commas between thousands.
fn with_commas(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (index, digit) in number.char_indices() {
        let is_thousand = index > 0 && index < whole && (whole - index).is_multiple_of(3);
        text.extend(is_thousand.then_some(','));
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_by_commas() {
        let texts = ["0.012", "12.3", "999", "1016", "240937"].map(with_commas);
        assert_eq!(texts, ["0.012", "12.3", "999", "1,016", "240,937"]);
    }

    #[test]
    fn logarithmic_scale_starts_at_power_of_ten() {
        let ruler = Ruler::new(Scale::Logarithmic, 0.2, 1000.0);
        assert!(ruler.length(0.1).abs() < 1e-9);
        assert!((ruler.length(10.0) - MAX_LENGTH / 2.0).abs() < 1e-9);
        assert_eq!(ruler.decades().count(), 5);
        let flat = Ruler::new(Scale::Linear, 0.0, 0.0);
        assert!(flat.length(0.0).abs() < 1e-9);
    }
}
