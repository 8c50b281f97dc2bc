// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl top`: the clients and disks of the helpers of this host with their commands, on a screen
//! that changes with them.

mod activity;
mod counts;
mod screen;
mod session;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::{Args, ValueHint};
use cli_messages::error::system_error;
use cli_messages::usage::parse_number;
use jiff::tz::TimeZone;
use thiserror::Error;

use super::Subcommand;
use crate::console::{BOLD, REJECTED, escape_control, table_or_cells};
use crate::context::{Context, HelperArgs};
use crate::error::AdvisedError;
use crate::exit::Exit;
use crate::output::json::{Json, ToJson, array, object};
use crate::output::text::ToText;
use crate::state::HelperStates;
use crate::terminal::Terminal;
use activity::{Activity, Order};
use screen::Screen;
use view::{CLIENT_HEADER, ClientRow, DISK_HEADER, DiskRow, View};

/// Maximum of `--interval` in seconds.
const MAX_INTERVAL: u64 = 3600;

pub(crate) const HELP: &str = "\
Show the virtual machines and the disks of the helpers of this host with their
commands, on a screen that is drawn again every second: number, rate,
reservation conflicts, durations, and the commands in progress.

The commands are those of the last minute; key t shows those since the helpers
were started. P99 is a duration that 99 of 100 commands did not exceed. WAITING
is the age of the oldest command in progress. Its row is yellow, and red after
10 seconds.

Keys: q quits, s changes the order, t the period, Tab the table that Up, Down,
Page Up, Page Down, Home and End scroll.

Sends nothing to a disk. Only root and the helper's user can read the state of
a helper. QEMU's own helper has none.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl top
  prhctl top --once --sort conflicts
  prhctl --json top --once | jq '.clients[] | select(.waiting != [])'

Exit status 0, or 1 if there is no terminal, or with --once, if the state of no
helper can be read.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Show clients and disks with their commands on a live screen",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct TopArgs {
    /// Print once, since the helpers were started
    #[arg(long)]
    once: bool,
    #[arg(
        long,
        value_name = "ORDER",
        value_enum,
        default_value = "waiting",
        hide_possible_values = true,
        help = "Sort by waiting, commands, conflicts, p99\nor name"
    )]
    sort: Order,
    /// Time between two readings
    #[arg(
        long, value_name = "SECONDS", value_hint = ValueHint::Other, default_value = "1",
        conflicts_with = "once", allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=MAX_INTERVAL)
    )]
    interval: u64,
    #[command(flatten)]
    helper: HelperArgs,
}

/// An error of the live screen.
#[derive(Debug, Error)]
enum TopError {
    #[error("standard input and output are not a terminal that can show a screen")]
    NoTerminal,
    #[error("--json and -v apply to --once only")]
    NotOnce,
    #[error("cannot show the screen: {}", system_error(.0))]
    Screen(#[from] io::Error),
}

impl AdvisedError for TopError {
    fn advice(&self) -> Vec<String> {
        vec!["Print the same data with 'prhctl top --once'.".to_owned()]
    }
}

impl Subcommand for TopArgs {
    fn run(&self, context: &Context) -> Exit {
        if self.once {
            let states = context.states(&self.helper);
            return context.finish(states.map(|states| Snapshot {
                view: View::since_start(&states, self.sort),
                states,
            }));
        }
        match self.show(context) {
            Ok(()) => Exit::SUCCESS,
            Err(error) => context.print_failure(&error.into()),
        }
    }
}

impl TopArgs {
    /// Shows the screen until the user ends it.
    fn show(&self, context: &Context) -> Result<(), TopError> {
        if context.is_json || self.helper.verbose || context.helper.verbose {
            return Err(TopError::NotOnce);
        }
        let has_screen = Terminal::stdout().is_some_and(|terminal| terminal.has_cursor);
        if !has_screen || !io::stdin().is_terminal() {
            return Err(TopError::NoTerminal);
        }
        let screen = Screen::new(self.sort, context.console.has_color(), TimeZone::system());
        let interval = Duration::from_secs(self.interval);
        Ok(session::run(
            context.state_source(&self.helper),
            interval,
            screen,
        )?)
    }
}

/// The commands since the start of the helpers.
#[derive(Debug)]
struct Snapshot {
    states: HelperStates,
    view: View,
}

impl ToText for Snapshot {
    fn to_text(&self) -> String {
        let title = self.view.title(&TimeZone::system());
        let warnings = self.view.warnings.iter().map(|line| {
            let line = escape_control(line);
            format!("{REJECTED}{line}{REJECTED:#}\n")
        });
        format!(
            "{BOLD}{title}{BOLD:#}\n{}\n{}\n{}",
            warnings.collect::<String>(),
            table_or_cells(&CLIENT_HEADER, self.view.client_cells()),
            table_or_cells(&DISK_HEADER, self.view.disk_cells())
        )
    }
}

impl ToJson for Snapshot {
    fn to_json(&self) -> Json {
        object! {
            "period_us": u64::try_from(self.view.period.as_micros()).unwrap_or(u64::MAX),
            "clients": array(&self.view.clients),
            "disks": array(&self.view.disks),
            "warnings": Json::from_iter(&self.view.warnings),
            "helpers": self.states.to_json(),
        }
    }
}

impl ToJson for ClientRow {
    fn to_json(&self) -> Json {
        let mut members = vec![
            ("name", Json::from(&self.name)),
            ("pids", self.pids.iter().copied().collect()),
        ];
        members.extend(activity(&self.activity));
        Json::Object(members)
    }
}

impl ToJson for DiskRow {
    fn to_json(&self) -> Json {
        let mut members = vec![
            ("name", Json::from(&self.name)),
            ("wwn", self.wwn.as_ref().into()),
            ("registrations", self.registrations.into()),
            (
                "reservation",
                self.reservation.as_ref().map(ToJson::to_json).into(),
            ),
        ];
        members.extend(activity(&self.activity));
        Json::Object(members)
    }
}

fn activity(activity: &Activity) -> [(&'static str, Json); 4] {
    let p99 = match activity.counts.p99() {
        counts::Percentile::AtMost(bound) => Some(bound),
        counts::Percentile::None | counts::Percentile::Above(_) => None,
    };
    [
        ("commands", activity.counts.commands.into()),
        ("conflicts", activity.counts.conflicts.into()),
        ("p99_us", p99.into()),
        ("waiting", array(&activity.waiting)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{check_members, plain_text, states};
    use view::tests::busy_document;

    fn snapshot() -> Snapshot {
        let states = states([busy_document()]);
        let view = View::since_start(&states, Order::Waiting);
        Snapshot { states, view }
    }

    #[test]
    fn json_members_are_documented() {
        check_members(&snapshot());
        let json = snapshot().view.clients[0].to_json().pretty();
        assert!(json.contains("\"p99_us\": 70000"), "{json}");
    }

    #[test]
    fn text_has_the_rows_of_the_screen() {
        let text = plain_text(&snapshot());
        let warning = "\nweb1 and web2 share quorum through this host, see 'prhctl disks'\n\n";
        let row =
            "\n db1     1003     1         0.0  0          70ms   42s      READ KEYS on sdb\n";
        assert!(text.contains(warning) && text.contains(row), "{text}");
    }
}
