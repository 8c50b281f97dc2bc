// SPDX-License-Identifier: MIT OR Apache-2.0

//! A picture of the two nodes and the disk between them.
//!
//! ```text
//! ╭─ node1 ────────────╮     ╭─ disk ────────────────╮     ╭─ node2 ────────────╮
//! │ running            │     │ reservation           │     │ running            │
//! │ key       none     ├─────┤ none                  ├─────┤ key       none     │
//! │ may write yes      │     │                       │     │ may write yes      │
//! ╰────────────────────╯     │                       │     ╰────────────────────╯
//!                            ╰───────────────────────╯
//! ```

use scsi_pr::ReservationKey;

use super::listing::response_style;
use super::runner::{LunState, StepResult};
use super::scenario::{Action, Node};

use crate::console::{BOLD, GOOD, INVALID, PLAIN, REJECTED};
use crate::terminal;
use crate::wrap::{columns, wrap};

/// Number of columns of the picture.
pub(super) const COLUMNS: usize = 79;
const NODE_COLUMNS: usize = 22;
const LINK_COLUMNS: usize = 5;
const DISK_COLUMNS: usize = COLUMNS - 2 * (NODE_COLUMNS + LINK_COLUMNS);
/// Borders and blanks at both sides of a line in a box.
const BORDER_COLUMNS: usize = 4;
/// Index of the line with the connections.
const LINK_INDEX: usize = 2;
/// Mark of a value that the step has changed.
const MARK: &str = "*";
const LEGEND: &str = "* changed in this step";

/// The characters of a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineCharacters {
    horizontal: &'static str,
    vertical: &'static str,
    /// Corners at the top and at the bottom.
    corners: [[&'static str; 2]; 2],
    /// Borders at which a connection begins on the left and on the right.
    links: [&'static str; 2],
    rejected: &'static str,
}

impl LineCharacters {
    const UNICODE: Self = Self {
        horizontal: "─",
        vertical: "│",
        corners: [["╭", "╮"], ["╰", "╯"]],
        links: ["┤", "├"],
        rejected: "×",
    };
    const ASCII: Self = Self {
        horizontal: "-",
        vertical: "|",
        corners: [["+", "+"], ["+", "+"]],
        links: ["+", "+"],
        rejected: "x",
    };

    /// Returns the characters that the locale has.
    pub(super) fn for_locale() -> &'static Self {
        match terminal::is_utf8() {
            true => &Self::UNICODE,
            false => &Self::ASCII,
        }
    }

    /// Returns a horizontal line.
    fn line(&self, length: usize) -> String {
        self.horizontal.repeat(length)
    }
}

/// The nodes and the disk after a step.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) state: LunState,
    failed: Option<Node>,
    characters: &'static LineCharacters,
}

impl Picture {
    /// Returns the picture before the first step.
    pub(super) fn initial() -> Self {
        Picture {
            state: LunState::initial(),
            failed: None,
            characters: LineCharacters::for_locale(),
        }
    }

    /// Returns the picture after the next step.
    pub(super) fn next(&self, result: &StepResult) -> Self {
        let node = result.step.node;
        let failed = match result.step.action {
            Action::Fail => Some(node),
            _ => self.failed.filter(|failed| *failed != node),
        };
        Picture {
            state: result.state.clone(),
            failed,
            characters: self.characters,
        }
    }

    fn is_failed(&self, node: Node) -> bool {
        self.failed == Some(node)
    }

    fn key(&self, node: Node) -> Option<ReservationKey> {
        let mut registered = self.state.registered.iter();
        registered.find_map(|(other, key)| (*other == node).then_some(*key))
    }

    fn can_write(&self, node: Node) -> bool {
        self.state.writers.contains(&node)
    }

    /// Draws the picture. Values that differ from `previous` are marked, and the connection of the
    /// node that acted in the step shows whether the command succeeded. `note` is on the last line.
    pub(super) fn draw(&self, previous: &Self, step: Option<&StepResult>, note: &str) -> String {
        let [left, right] = Node::ALL.map(|node| self.node_box(node, previous));
        let [left_link, right_link] = Node::ALL.map(|node| self.link(node, step));
        let disk = self.disk_box(previous);
        let boxes = [&left, &disk, &right].into_iter().flatten();
        let legend = match boxes.into_iter().any(|line| line.contains(MARK)) {
            true => LEGEND,
            false => "",
        };
        let mut text = String::new();
        for (index, disk) in disk.iter().enumerate() {
            let link = |link: &str| match index == LINK_INDEX {
                true => link.to_owned(),
                false => " ".repeat(LINK_COLUMNS),
            };
            text += &match (left.get(index), right.get(index)) {
                (Some(left), Some(right)) => {
                    format!(
                        "{left}{}{disk}{}{right}",
                        link(&left_link),
                        link(&right_link)
                    )
                }
                _ => format!(
                    "{}{disk}{}{note}",
                    pad(legend, NODE_COLUMNS + LINK_COLUMNS),
                    link("")
                ),
            };
            text += "\n";
        }
        text
    }

    fn node_box(&self, node: Node, previous: &Self) -> Vec<String> {
        let (condition, style) = match self.is_failed(node) {
            true => ("failed", INVALID),
            false => ("running", PLAIN),
        };
        let key = self.key(node).map(|key| key.to_string());
        let (write, write_style) = match self.can_write(node) {
            true => ("yes", GOOD),
            false => ("no", REJECTED),
        };
        let has_other_condition = self.is_failed(node) != previous.is_failed(node);
        let has_other_key = self.key(node) != previous.key(node);
        let has_other_access = self.can_write(node) != previous.can_write(node);
        let lines = [
            (format!("{style}{condition}{style:#}"), has_other_condition),
            (
                format!("key       {}", key.as_deref().unwrap_or("none")),
                has_other_key,
            ),
            (
                format!("may write {write_style}{write}{write_style:#}"),
                has_other_access,
            ),
        ];
        let has_link = |other| node == other && !self.is_failed(node);
        let links = [has_link(Node::Two), has_link(Node::One)];
        self.framed(node.name(), NODE_COLUMNS, &lines, links)
    }

    fn disk_box(&self, previous: &Self) -> Vec<String> {
        let [now, before] = [self, previous].map(|picture| picture.state.reservation.unzip());
        let kind = now
            .0
            .map_or_else(|| "none".to_owned(), |kind| kind.to_string());
        let holder = now.1.map_or_else(String::new, |holder| {
            let name = holder.map_or("all registrants", Node::name);
            format!("held by {GOOD}{name}{GOOD:#}")
        });
        let kind = wrap("", &kind, DISK_COLUMNS - BORDER_COLUMNS - MARK.len());
        let mut kind = kind.lines();
        let mut kind_line = || kind.next().unwrap_or_default().to_owned();
        let lines = [
            ("reservation".to_owned(), false),
            (kind_line(), now.0 != before.0),
            (kind_line(), false),
            (holder, now.1 != before.1),
        ];
        let links = Node::ALL.map(|node| !self.is_failed(node));
        self.framed("disk", DISK_COLUMNS, &lines, links)
    }

    /// Returns the connection of a node to the disk.
    fn link(&self, node: Node, step: Option<&StepResult>) -> String {
        if self.is_failed(node) {
            return " ".repeat(LINK_COLUMNS);
        }
        let response = step.filter(|result| result.step.node == node);
        let Some(response) = response.and_then(|result| result.response.as_ref()) else {
            return self.characters.line(LINK_COLUMNS);
        };
        let style = response_style(response);
        let line = |length| self.characters.line(length);
        let link = match (response.is_good(), node) {
            (false, _) => {
                let half = line(LINK_COLUMNS / 2);
                format!("{half}{}{half}", self.characters.rejected)
            }
            (true, Node::One) => line(LINK_COLUMNS - 1) + ">",
            (true, Node::Two) => "<".to_owned() + &line(LINK_COLUMNS - 1),
        };
        format!("{style}{link}{style:#}")
    }

    /// Returns a box of `width` columns with a title. Each line has a mark if it is `true`; `links`
    /// tells whether a connection begins at the left and at the right border.
    fn framed(
        &self,
        title: &str,
        width: usize,
        lines: &[(String, bool)],
        links: [bool; 2],
    ) -> Vec<String> {
        let LineCharacters {
            vertical,
            corners: [top, bottom],
            links: link,
            ..
        } = self.characters;
        let inner = width - BORDER_COLUMNS;
        let start = self.characters.line(1);
        let bar = self
            .characters
            .line(inner.saturating_sub(columns(title) + 1));
        let mut text = vec![format!(
            "{}{start} {BOLD}{title}{BOLD:#} {bar}{}",
            top[0], top[1]
        )];
        for (index, (line, is_changed)) in lines.iter().enumerate() {
            let mark = if *is_changed { MARK } else { "" };
            let has_link = |is_linked| is_linked && index + 1 == LINK_INDEX;
            let left = if has_link(links[0]) {
                link[0]
            } else {
                vertical
            };
            let right = if has_link(links[1]) {
                link[1]
            } else {
                vertical
            };
            let line = pad(line, inner - columns(mark));
            text.push(format!("{left} {line}{BOLD}{mark}{BOLD:#} {right}"));
        }
        let bar = self.characters.line(width - 2);
        text.push(format!("{}{bar}{}", bottom[0], bottom[1]));
        text
    }
}

/// Appends blanks to a text up to `width` columns.
fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{:missing$}", "")
}
