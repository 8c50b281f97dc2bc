// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl history`: the changes, conflicts and unit attentions that the helpers of this host saw.

use anstyle::Style;
use clap::Args;
use helper_state::{Event, KnownReservations};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::Subcommand;
use crate::completion;
use crate::console::{BOLD, GOOD, INVALID, PLAIN, REJECTED, escape_control, table_or_cells};
use crate::context::{Context, HelperArgs};
use crate::exit::Exit;
use crate::journal::{self, HelperRecord, Selection, records};
use crate::known_disks::{distinct, short_type};
use crate::output::json::{Json, ToJson, array, object};
use crate::output::text::ToText;
use crate::state::{HelperStates, StateError};
use crate::time::{parse_since, time_column};

pub(crate) const HELP: &str = "\
Show the history of the reservations of this host's virtual machines, from the
journals that the helpers keep in memory: commands that changed registrations
and reservations, RESERVATION CONFLICTs, unit attentions about changes by other
hosts, and machines of this host that share a disk.

A disk can be named by its node, WWN or alias, a virtual machine by its name or
UUID. The history of a machine also contains the commands of other machines
that removed its registration.

Sends nothing to a disk. Only root and the helper's user can read the state of
a helper. QEMU's own helper has none.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl history /dev/sdb --since 2h
  prhctl history node1 --since 03:00
  prhctl history --by-client
  prhctl --json history | jq '.records[] | select(.event == \"conflict\")'

Exit status 0, or 1 if the state of no helper can be read, or no disk and no
client has the name.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Show the history of reservations on this host",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct HistoryArgs {
    /// Disk or virtual machine; all by default
    #[arg(value_name = "DISK|VM", add = completion::device())]
    name: Option<String>,

    #[arg(
        long, value_name = "TIME", value_hint = clap::ValueHint::Other,
        value_parser = |text: &str| parse_since(text, &ZonedDateTime::now()),
        help = "Omit what happened before: 10m, 2h, 14:30 or RFC 3339",
        long_help = "Omit what happened before this time: a duration before now\n\
                     (10m, 2h, 1d), a time of the last 24 hours (14:30), or date\n\
                     and time of RFC 3339 (2026-03-01T14:30:00+01:00), which are\n\
                     local without an offset"
    )]
    since: Option<Timestamp>,

    /// Show one column for each client
    #[arg(long)]
    by_client: bool,

    #[command(flatten)]
    helper: HelperArgs,
}

impl Subcommand for HistoryArgs {
    fn run(&self, context: &Context) -> Exit {
        let result = context.states(&self.helper);
        let states = match result {
            Ok(states) => states,
            Err(error) => return context.print_failure(&error.into()),
        };
        let since = self.since.map_or(i64::MIN, Timestamp::as_microsecond);
        context.finish(History::new(
            &states,
            self.name.as_deref(),
            since,
            self.by_client,
        ))
    }
}

/// The history of a disk, a client or all.
#[derive(Debug)]
struct History<'a> {
    states: &'a HelperStates,
    selection: Selection<'a>,
    records: Vec<HelperRecord<'a>>,
    zone: TimeZone,
    is_by_client: bool,
}

impl<'a> History<'a> {
    /// Returns the records since a time in microseconds since 1970.
    fn new(
        states: &'a HelperStates,
        name: Option<&'a str>,
        since: i64,
        is_by_client: bool,
    ) -> Result<Self, StateError> {
        let selection = Selection::new(states, name)?;
        let mut records = records(states);
        records.retain(|one| {
            let is_late = i64::try_from(one.record.time_us).is_ok_and(|time| time >= since);
            is_late && selection.has(one)
        });
        Ok(History {
            states,
            selection,
            records,
            zone: TimeZone::system(),
            is_by_client,
        })
    }

    /// Returns a line about the records that the helpers no longer keep; empty if there are none.
    fn missing(&self) -> String {
        let missing = self.states.documents().filter_map(|(_, state)| {
            let first = state.journal.records.first()?;
            Some(first.sequence.saturating_sub(1))
        });
        match missing.fold(0, u64::saturating_add) {
            0 => String::new(),
            missing => format!(
                "Older records are missing: {missing}. The event journal may contain them \
                 (journalctl, or the file of --journal).\n"
            ),
        }
    }

    /// Returns the table with a row for each record.
    fn rows(&self, times: Vec<String>) -> String {
        let header = ["TIME", "NAME", "DISK", "ACTION", "KEYS", "TYPE", "RESULT"];
        let rows = times.into_iter().zip(&self.records);
        let rows = rows.map(|(time, one)| {
            let record = one.record;
            let (name, effect) = match (self.selection.is_victim(one), one.other) {
                (true, Some(other)) => (other, journal::effect_on_other(one)),
                _ => (record.client.as_str(), journal::effect(one)),
            };
            let kind = record.r#type.as_deref();
            let cells = vec![
                time,
                name.to_owned(),
                journal::disk(record).to_owned(),
                record.action.clone(),
                journal::keys(record),
                kind.map_or_else(|| "-".to_owned(), short_type),
                journal::result(record, effect),
            ];
            (style(record.event), cells)
        });
        table_or_cells(&header, rows.collect())
    }

    /// Returns the table with a column for each client.
    fn lanes(&self, times: Vec<String>) -> String {
        let names = self.records.iter().flat_map(|one| {
            let other = journal::effect_on_other(one).and(one.other);
            [Some(one.record.client.as_str()), other]
                .into_iter()
                .flatten()
        });
        let clients = distinct(names);
        // Unlike cells, headers are not escaped by the table.
        let names = clients.iter().map(|client| escape_control(client));
        let fixed = ["TIME", "DISK"].map(str::to_owned);
        let header: Vec<_> = fixed.into_iter().chain(names).collect();
        let header: Vec<_> = header.iter().map(String::as_str).collect();
        let rows = times.into_iter().zip(&self.records);
        let rows = rows.map(|(time, one)| {
            let record = one.record;
            let lanes = clients.iter().map(|client| {
                if record.client == *client {
                    return lane(one);
                }
                let is_other = one.other == Some(*client);
                let effect = journal::effect_on_other(one).filter(|_| is_other);
                effect.unwrap_or_default()
            });
            let cells = [time, journal::disk(record).to_owned()];
            (
                style(record.event),
                cells.into_iter().chain(lanes).collect(),
            )
        });
        table_or_cells(&header, rows.collect())
    }
}

/// Returns a command in the column of its client.
fn lane(one: &HelperRecord<'_>) -> String {
    let record = one.record;
    let kind = record.r#type.as_deref().map(short_type);
    let words = [
        Some(record.action.clone()),
        Some(journal::keys(record)),
        kind,
    ];
    let words: Vec<_> = words
        .into_iter()
        .flatten()
        .filter(|word| word != "-")
        .collect();
    let result = journal::result(record, journal::effect(one));
    let result = result.strip_prefix("GOOD").unwrap_or(&result);
    let separator = match result.is_empty() || result.starts_with(';') {
        true => "",
        false => ": ",
    };
    format!("{}{separator}{result}", words.join(" "))
}

const fn style(event: Event) -> Style {
    match event {
        Event::Change => GOOD,
        Event::Conflict => REJECTED,
        Event::Attention => PLAIN,
        Event::SameLun => INVALID,
    }
}

impl ToText for History<'_> {
    fn to_text(&self) -> String {
        if self.records.is_empty() {
            return "no records\n".to_owned();
        }
        let times = self.records.iter().map(|one| one.record.time_us);
        let (heading, times) = time_column(times, &self.zone);
        let table = match self.is_by_client {
            true => self.lanes(times),
            false => self.rows(times),
        };
        let heading = heading.map(|heading| format!("{BOLD}{heading}{BOLD:#}\n"));
        heading.unwrap_or_default() + &table + &self.missing()
    }
}

impl ToJson for History<'_> {
    fn to_json(&self) -> Json {
        object! { "records": array(&self.records), "helpers": self.states.to_json() }
    }
}

impl ToJson for HelperRecord<'_> {
    fn to_json(&self) -> Json {
        let record = self.record;
        object! {
            "helper": self.helper,
            "sequence": record.sequence,
            "time_us": record.time_us,
            "event": match record.event {
                Event::Change => "change",
                Event::Conflict => "conflict",
                Event::Attention => "attention",
                Event::SameLun => "same-lun",
            },
            "client_id": record.client_id,
            "pid": u32::try_from(record.pid).ok().filter(|pid| *pid != 0),
            "client": &record.client,
            "uuid": record.uuid.as_ref(),
            "device": &record.device,
            "wwn": record.wwn.as_ref(),
            "node": record.node.as_ref(),
            "action": &record.action,
            "key": record.key.as_ref(),
            "service_action_key": record.service_action_key.as_ref(),
            "previous_key": record.previous_key.as_ref(),
            "type": record.r#type.as_ref(),
            "status": &record.status,
            "sense": record.sense.as_ref(),
            "duration_us": record.duration_us,
            "before": known(&record.before),
            "after": known(&record.after),
            "other": self.other,
        }
    }
}

fn known(reservations: &KnownReservations) -> Json {
    object! {
        "registrants": Json::from_iter(&reservations.registrants),
        "holder": reservations.holder.as_ref(),
        "type": reservations.r#type.as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{NOW, check_members, document, plain_text, record, states};
    use helper_state::StateDocument;
    use pr_testkit::picture;
    use pr_testkit::screen::screens;

    /// Returns a document with a registration, a reservation, and a preemption by another client.
    fn failover() -> StateDocument {
        let mut reservation = record(2, "node1", "RESERVE");
        reservation.r#type = Some("Write Exclusive - Registrants Only".to_owned());
        reservation.key = Some("0xa".to_owned());
        let mut preemption = record(3, "node2", "PREEMPT");
        preemption.key = Some("0xb".to_owned());
        preemption.service_action_key = Some("0xa".to_owned());
        preemption.r#type.clone_from(&reservation.r#type);
        preemption.other = Some("node1".to_owned());
        let mut conflict = record(4, "node1", "RESERVE");
        conflict.event = Event::Conflict;
        conflict.status = "RESERVATION CONFLICT".to_owned();
        let mut state = document();
        state.journal.records = vec![reservation, preemption, conflict];
        state
            .journal
            .records
            .iter_mut()
            .zip(1..)
            .for_each(|(record, sequence)| {
                record.sequence = sequence;
            });
        state
    }

    fn text(name: Option<&str>, is_by_client: bool) -> String {
        let states = states([failover()]);
        let mut history = History::new(&states, name, i64::MIN, is_by_client).unwrap();
        history.zone = TimeZone::UTC;
        plain_text(&history)
    }

    #[test]
    fn history_names_preempted_client() {
        let expected = "2026-03-01, UTC+00:00
 TIME          NAME   DISK  ACTION   KEYS            TYPE   RESULT
 12:00:02.000  node1  sda   RESERVE  0xa             we-ro  GOOD
 12:00:03.000  node2  sda   PREEMPT  0xb victim 0xa  we-ro  GOOD; preempted node1
 12:00:04.000  node1  sda   RESERVE  -               -      RESERVATION CONFLICT
";
        assert_eq!(text(None, false), expected);
    }

    #[test]
    fn history_of_victim_names_the_other_client() {
        let text = text(Some("node1"), false);
        let line = "node1  sda   PREEMPT  0xb victim 0xa  we-ro  GOOD; preempted by node2\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn clients_have_columns() {
        let expected = "2026-03-01, UTC+00:00
 TIME          DISK  node1                          node2
 12:00:02.000  sda   RESERVE 0xa we-ro
 12:00:03.000  sda   preempted by node2             PREEMPT 0xb victim 0xa we-ro; preempted node1
 12:00:04.000  sda   RESERVE: RESERVATION CONFLICT
";
        assert_eq!(text(None, true), expected);
    }

    #[test]
    fn missing_records_are_reported() {
        let mut state = failover();
        state.journal.records.remove(0);
        let one = states([state.clone()]);
        let history = History::new(&one, None, i64::MIN, false).unwrap();
        let text = plain_text(&history);
        assert!(text.contains("\nOlder records are missing: 1. "), "{text}");
        // Each user can run a process that looks like a helper.
        state.journal.records[0].sequence = u64::MAX;
        let two = states([state.clone(), state]);
        let history = History::new(&two, None, i64::MIN, false).unwrap();
        let text = plain_text(&history);
        assert!(text.contains(&u64::MAX.to_string()), "{text}");
    }

    #[test]
    fn names_of_clients_are_escaped() {
        let mut state = document();
        state.journal.records = vec![record(1, "a\x1b[2J\nb", "CLEAR")];
        let states = states([state]);
        for is_by_client in [false, true] {
            let history = History::new(&states, None, i64::MIN, is_by_client).unwrap();
            let text = history.to_text();
            assert!(text.contains(r"a\u{1b}[2J\nb"), "{text}");
            assert!(!text.contains("[2J\n"), "{text}");
        }
    }

    #[test]
    fn records_before_a_time_are_omitted() {
        let states = states([failover()]);
        let since = i64::try_from(NOW).unwrap() + 3_000_000;
        let history = History::new(&states, None, since, false).unwrap();
        assert_eq!(history.records.len(), 2);
        let history = History::new(&states, None, i64::MAX, false).unwrap();
        assert_eq!(plain_text(&history), "no records\n");
    }

    #[test]
    fn picture_of_readme_is_current() {
        let states = states([failover()]);
        let mut history = History::new(&states, None, i64::MIN, false).unwrap();
        history.zone = TimeZone::UTC;
        // On a terminal, a line feed does not return to the first column.
        let text = history.to_text().replace('\n', "\r\n");
        let screen = screens(&text, 90, 24);
        let title = "prhctl history: node2 has preempted node1";
        picture::check("history.svg", title, 90, screen.last().unwrap());
    }

    #[test]
    fn json_members_are_documented() {
        let states = states([failover()]);
        check_members(&History::new(&states, None, i64::MIN, false).unwrap());
    }
}
