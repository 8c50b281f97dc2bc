// SPDX-License-Identifier: MIT OR Apache-2.0

//! The report as an HTML page without external resources, for a support case.

use std::fmt::Write as _;
use std::path::Path;

use jiff::ZonedDateTime;

use super::Validation;
use super::meaning::{self, Meaning};
use super::report::milliseconds;
use super::runner::{Row, Verdict};
use crate::block_device::BlockDevice;

/// The page. Names in double braces are replaced.
const TEMPLATE: &str = include_str!("report.html");

/// Returns the page.
pub(super) fn page(validation: &Validation) -> String {
    let devices: Vec<_> = validation.devices.iter().map(|path| text(path)).collect();
    let values = [
        ("devices", escape(&devices.join(", "))),
        ("summary", escape(&validation.summary())),
        ("facts", facts(validation)),
        ("rows", validation.rows.iter().map(row).collect()),
    ];
    let mut page = String::new();
    // Each part after the first one begins with a name.
    let mut parts = TEMPLATE.split("{{");
    page += parts.next().unwrap_or_default();
    for (name, rest) in parts.filter_map(|part| part.split_once("}}")) {
        let value = values.iter().find(|(key, _)| *key == name);
        page += value.map_or("", |(_, value)| value);
        page += rest;
    }
    page
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns `text` with the characters escaped that have a meaning in HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

/// Returns rows about the run and the devices.
fn facts(validation: &Validation) -> String {
    let now = ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S%:z");
    let mut facts = vec![
        ("Time", now.to_string()),
        ("Program", format!("prhctl {}", env!("CARGO_PKG_VERSION"))),
        ("Profile", validation.profile.name()),
        ("Keys begin with", validation.run.to_string()),
    ];
    for (label, path) in ["Node A", "Node B"].into_iter().zip(&validation.devices) {
        let device = BlockDevice::from_path(path);
        let names = device.map(|device| [device.vendor(), device.wwn()]);
        let names = names.into_iter().flatten().flatten();
        let names: Vec<_> = [text(path)].into_iter().chain(names).collect();
        facts.push((label, names.join(", ")));
    }
    if let Some(failure) = &validation.error {
        let error = cli_messages::error::error_chain(failure.error.as_ref());
        facts.push(("Aborted", error));
    }
    let row = |(name, value): (&str, String)| {
        let value = escape(&value);
        format!("<tr><th>{name}</th><td>{value}</td></tr>\n")
    };
    facts.into_iter().map(row).collect()
}

fn row(row: &Row) -> String {
    let subject = row.subject();
    let cell = |value: Option<String>| escape(&value.unwrap_or_else(|| "-".to_owned()));
    let verdict = row.verdict.name();
    format!(
        "<tr class=\"{}\"><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{verdict}</td></tr>\n",
        verdict.replace(' ', "-"),
        escape(row.step.name),
        details(row),
        cell(subject.map(|command| command.node.to_string())),
        cell(subject.map(|command| command.answer.clone())),
        cell(subject.map(|_| milliseconds(row.time()))),
    )
}

/// Returns the explanation and the commands of a step.
fn details(row: &Row) -> String {
    let mut lines = format!("{}.\n", row.step.rule);
    for detail in &row.details {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{detail}.");
    }
    match row.verdict {
        Verdict::Known(known) => {
            let _ = writeln!(lines, "{} ({}).", known.text, known.id);
        }
        Verdict::Failed => {
            let texts = meaning::of(row.step.name)
                .into_iter()
                .flat_map(Meaning::texts);
            for (name, text) in texts {
                let _ = writeln!(lines, "{name}: {text}");
            }
        }
        _ => {}
    }
    for command in &row.commands {
        let time = milliseconds(command.time);
        let (node, name, answer) = (command.node, &command.command, &command.answer);
        let _ = writeln!(lines, "{node}: {name}: {answer} ({time})");
    }
    let open = if row.verdict.is_failure() {
        " open"
    } else {
        ""
    };
    format!(
        "<details{open}><summary>details</summary><pre>{}</pre></details>",
        escape(&lines)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_html_are_escaped() {
        assert_eq!(
            escape("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;"
        );
    }
}
