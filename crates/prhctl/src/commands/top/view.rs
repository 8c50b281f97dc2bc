// SPDX-License-Identifier: MIT OR Apache-2.0

//! The rows that `prhctl top` shows: clients and disks, with their commands.

use std::collections::HashMap;
use std::time::Duration;

use anstyle::Style;
use helper_state::{Limits, Reservation};
use jiff::tz::TimeZone;

use super::activity::{Activity, Order};
use super::counts::{PairCounts, total};
use crate::known_disks::{KnownDisk, distinct, known_disks, short_type};
use crate::output::text::count;
use crate::state::HelperStates;
use crate::time::{clock, duration};

/// Headings of the columns of clients.
pub(super) const CLIENT_HEADER: [&str; 8] = [
    "NAME",
    "PROCESS",
    "COMMANDS",
    "/S",
    "CONFLICTS",
    "P99",
    "WAITING",
    "COMMAND",
];

/// Headings of the columns of disks.
pub(super) const DISK_HEADER: [&str; 9] = [
    "DISK",
    "COMMANDS",
    "/S",
    "CONFLICTS",
    "P99",
    "WAITING",
    "KEYS",
    "RESERVATION",
    "WWN",
];

/// A client name. Several connections and processes can have it.
#[derive(Debug)]
pub(super) struct ClientRow {
    pub(super) name: String,
    /// IDs of the connected processes that are visible to their helpers.
    pub(super) pids: Vec<u32>,
    pub(super) activity: Activity,
}

/// A disk.
#[derive(Debug)]
pub(super) struct DiskRow {
    /// Alias or nodes.
    pub(super) name: String,
    pub(super) wwn: Option<String>,
    /// Number of registrations that the helpers have seen.
    pub(super) registrations: usize,
    pub(super) reservation: Option<Reservation>,
    pub(super) activity: Activity,
}

/// The clients and disks of the helpers in one period.
#[derive(Debug)]
pub(super) struct View {
    /// Time of the newest state in microseconds since 1970.
    time_us: u64,
    helpers: usize,
    pub(super) period: Duration,
    pub(super) clients: Vec<ClientRow>,
    pub(super) disks: Vec<DiskRow>,
    /// Lines about what needs attention.
    pub(super) warnings: Vec<String>,
}

impl View {
    /// Returns the view of `states` with the commands of a period.
    pub(super) fn new(
        states: &HelperStates,
        counts: &PairCounts,
        period: Duration,
        order: Order,
    ) -> Self {
        let disks = known_disks(states);
        let mut clients = client_rows(states, counts, &disks);
        let mut rows = disk_rows(states, counts, &disks);
        clients.sort_by(|one, other| {
            let by_order = order.compare(&one.activity, &other.activity);
            by_order.then_with(|| one.name.cmp(&other.name))
        });
        rows.sort_by(|one, other| {
            let by_order = order.compare(&one.activity, &other.activity);
            by_order.then_with(|| one.name.cmp(&other.name))
        });
        View {
            time_us: newest(states),
            helpers: states.documents().count(),
            period,
            clients,
            disks: rows,
            warnings: warnings(states, &disks),
        }
    }

    /// Returns the view of `states` with the commands since the helpers were started.
    pub(super) fn since_start(states: &HelperStates, order: Order) -> Self {
        let starts = states.documents().map(|(_, state)| state.helper.started_us);
        let first = starts.min().unwrap_or_default();
        let period = Duration::from_micros(newest(states).saturating_sub(first));
        View::new(states, &total(states), period, order)
    }

    /// Returns the line above the rows.
    pub(super) fn title(&self, zone: &TimeZone) -> String {
        let waiting = self.clients.iter().map(|one| one.activity.waiting.len());
        let commands = self.clients.iter().map(|one| one.activity.counts.commands);
        format!(
            "{}  {}, {}, {}, {} waiting, {} in {}",
            clock(self.time_us, zone),
            count(self.helpers, "helper"),
            count(self.clients.len(), "client"),
            count(self.disks.len(), "disk"),
            waiting.sum::<usize>(),
            count(
                commands
                    .fold(0, u64::saturating_add)
                    .try_into()
                    .unwrap_or(usize::MAX),
                "command"
            ),
            duration(self.period.as_secs() * 1_000_000),
        )
    }

    /// Returns the cells of the clients with the style of each row.
    pub(super) fn client_cells(&self) -> Vec<(Style, Vec<String>)> {
        let rows = self.clients.iter();
        rows.map(|row| {
            let process = match row.pids.as_slice() {
                [] => "-".to_owned(),
                [pid] => pid.to_string(),
                pids => format!("{} processes", pids.len()),
            };
            let waiting = row.activity.waiting.first();
            let command = waiting.map(|one| format!("{} on {}", one.action, one.device));
            let dash = || "-".to_owned();
            let [commands, rate, conflicts, p99] = row.activity.cells(self.period);
            let cells = vec![
                row.name.clone(),
                process,
                commands,
                rate,
                conflicts,
                p99,
                row.activity.waiting(),
                command.unwrap_or_else(dash),
            ];
            (row.activity.style(), cells)
        })
        .collect()
    }

    /// Returns the cells of the disks with the style of each row.
    pub(super) fn disk_cells(&self) -> Vec<(Style, Vec<String>)> {
        let rows = self.disks.iter();
        rows.map(|row| {
            let activity = &row.activity;
            let reservation = row.reservation.as_ref().map(|one| {
                let kind = short_type(&one.r#type);
                format!("{kind} {} {}", one.key, one.client)
            });
            let dash = || "-".to_owned();
            let [commands, rate, conflicts, p99] = activity.cells(self.period);
            let cells = vec![
                row.name.clone(),
                commands,
                rate,
                conflicts,
                p99,
                activity.waiting(),
                row.registrations.to_string(),
                reservation.unwrap_or_else(dash),
                row.wwn.clone().unwrap_or_else(dash),
            ];
            (activity.style(), cells)
        })
        .collect()
    }
}

fn newest(states: &HelperStates) -> u64 {
    let times = states.documents().map(|(_, state)| state.time_us);
    times.max().unwrap_or_default()
}

/// Returns the alias of a disk, or its nodes.
fn name(disk: &KnownDisk<'_>) -> String {
    let mut aliases = disk
        .devices
        .iter()
        .filter_map(|(_, one)| one.alias.as_ref());
    match aliases.next() {
        Some(alias) => alias.clone(),
        None => disk.nodes().join(" "),
    }
}

fn client_rows(
    states: &HelperStates,
    counts: &PairCounts,
    disks: &[KnownDisk<'_>],
) -> Vec<ClientRow> {
    let mut rows: HashMap<&str, ClientRow> = HashMap::new();
    let new = |name: &str| ClientRow {
        name: name.to_owned(),
        pids: Vec::new(),
        activity: Activity::default(),
    };
    for (process, state) in states.documents() {
        for client in &state.clients {
            let name = client.process.name.as_str();
            let row = rows.entry(name).or_insert_with(|| new(name));
            let pid = u32::try_from(client.process.pid)
                .ok()
                .filter(|pid| *pid != 0);
            row.pids.extend(pid);
            if let Some(command) = &client.command {
                let disk = disks
                    .iter()
                    .find(|disk| disk.has_device(process.pid, &command.device));
                let mut command = command.clone();
                command.device = disk.map_or(command.device, self::name);
                row.activity.add_waiting(&command);
            }
        }
    }
    for (pair, counts) in counts.iter().filter(|(_, counts)| counts.commands > 0) {
        let row = rows
            .entry(&pair.client)
            .or_insert_with(|| new(&pair.client));
        row.activity.counts.add(counts);
    }
    let rows = rows.into_values();
    rows.map(|mut row| {
        row.pids = distinct(row.pids.into_iter());
        row
    })
    .collect()
}

fn disk_rows(states: &HelperStates, counts: &PairCounts, disks: &[KnownDisk<'_>]) -> Vec<DiskRow> {
    let rows = disks.iter().map(|disk| {
        let mut activity = Activity::default();
        let own = counts
            .iter()
            .filter(|(pair, _)| disk.has_device(pair.helper, &pair.device));
        own.for_each(|(_, counts)| activity.counts.add(counts));
        for (process, state) in states.documents() {
            let commands = state
                .clients
                .iter()
                .filter_map(|client| client.command.as_ref());
            commands
                .filter(|command| disk.has_device(process.pid, &command.device))
                .for_each(|command| activity.add_waiting(command));
        }
        DiskRow {
            name: name(disk),
            wwn: disk.wwn.map(str::to_owned),
            registrations: disk.registrations().len(),
            reservation: disk.reservation().cloned(),
            activity,
        }
    });
    rows.collect()
}

fn warnings(states: &HelperStates, disks: &[KnownDisk<'_>]) -> Vec<String> {
    let errors = states
        .0
        .iter()
        .filter_map(|helper| helper.state.as_ref().err());
    let errors = errors.map(|error| format!("{error}; it is not shown"));
    let sharing = disks.iter().filter_map(|disk| {
        let clients = disk.sharing_clients();
        let names = clients.join(" and ");
        (!clients.is_empty()).then(|| {
            format!(
                "{names} share {} through this host, see 'prhctl disks'",
                name(disk)
            )
        })
    });
    let limits = states.documents().filter_map(|(helper, state)| {
        let Limits {
            rejected_connections,
            accept_pauses,
            busy_devices,
            busy_threads,
            request_timeouts,
            refused_registrations,
        } = state.limits;
        let texts = [
            (
                busy_devices.saturating_add(busy_threads),
                "commands ended with BUSY",
            ),
            (rejected_connections, "connections were rejected"),
            (accept_pauses, "pauses of accepting connections"),
            (request_timeouts, "requests timed out"),
            (refused_registrations, "registrations were refused"),
            (state.journal.lost, "journal records were lost"),
        ];
        let texts = texts.into_iter().filter(|(count, _)| *count > 0);
        let texts: Vec<_> = texts
            .map(|(count, text)| format!("{count} {text}"))
            .collect();
        let text = texts.join(", ");
        (!texts.is_empty()).then(|| format!("{helper}: {text} since it was started"))
    });
    errors.chain(sharing).chain(limits).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::console::{INVALID, PLAIN, REJECTED};
    use crate::state_fixture::{
        NOW, client, disk, document, registration, reservation, states, statistics,
    };
    use clap::ValueEnum as _;
    use helper_state::{CommandInProgress, StateDocument};

    /// Returns a command in progress.
    fn command(device: &str, action: &str, age_us: u64) -> Option<CommandInProgress> {
        let (device, action) = (device.to_owned(), action.to_owned());
        Some(CommandInProgress {
            device,
            action,
            age_us,
        })
    }

    /// Returns a document with a disk that web1 holds and that web2 waits for, a disk that hangs
    /// for db1, and a client without commands.
    pub(in super::super) fn busy_document() -> StateDocument {
        let mut map = disk(
            "253:3",
            Some("naa.600140500000000000000000000000aa"),
            "dm-3",
        );
        map.alias = Some("quorum".to_owned());
        map.registrations = vec![registration("0xa1", "web1"), registration("0xb2", "web2")];
        map.reservation = Some(reservation("0xa1", "web1"));
        let mut state = document();
        state.disks = vec![map, disk("8:16", None, "sdb")];
        let names = ["web1", "web2", "db1", "backup"];
        state.clients = names
            .into_iter()
            .zip(1..)
            .map(|(name, id)| client(id, name))
            .collect();
        state.clients[1].command = command("253:3", "PREEMPT AND ABORT", 1_500_000);
        state.clients[2].command = command("8:16", "READ KEYS", 42_000_000);
        let mut fast = vec![400; 118];
        fast.extend([3_000; 2]);
        state.statistics = vec![
            statistics("web1", "253:3", "GOOD", &fast),
            statistics("web2", "253:3", "GOOD", &[900; 30]),
            statistics("web2", "253:3", "RESERVATION CONFLICT", &[300; 4]),
            statistics("db1", "8:16", "GOOD", &[70_000]),
        ];
        state
    }

    fn view(document: StateDocument, order: Order) -> View {
        View::since_start(&states([document]), order)
    }

    fn names(order: Order) -> (Vec<String>, Vec<String>) {
        let view = view(busy_document(), order);
        let clients = view.clients.into_iter().map(|row| row.name);
        (
            clients.collect(),
            view.disks.into_iter().map(|row| row.name).collect(),
        )
    }

    #[test]
    fn rows_are_sorted() {
        for (order, clients, disks) in [
            (
                Order::Waiting,
                ["db1", "web2", "backup", "web1"],
                ["sdb", "quorum"],
            ),
            (
                Order::Commands,
                ["web1", "web2", "db1", "backup"],
                ["quorum", "sdb"],
            ),
            (
                Order::Conflicts,
                ["web2", "backup", "db1", "web1"],
                ["quorum", "sdb"],
            ),
            (
                Order::P99,
                ["db1", "web1", "web2", "backup"],
                ["sdb", "quorum"],
            ),
            (
                Order::Name,
                ["backup", "db1", "web1", "web2"],
                ["quorum", "sdb"],
            ),
        ] {
            let (found_clients, found_disks) = names(order);
            assert_eq!(found_clients, clients, "{order:?}");
            assert_eq!(found_disks, disks, "{order:?}");
            assert_ne!(order.next(), order);
        }
    }

    #[test]
    fn clients_have_their_commands() {
        let view = view(busy_document(), Order::Waiting);
        let rows: Vec<_> = view.client_cells();
        let cells = [
            "db1",
            "1003",
            "1",
            "0.0",
            "0",
            "70ms",
            "42s",
            "READ KEYS on sdb",
        ];
        assert_eq!(rows[0], (INVALID, cells.map(str::to_owned).to_vec()));
        let command = "PREEMPT AND ABORT on quorum";
        let cells = ["web2", "1002", "34", "0.0", "4", "900us", "1s", command];
        assert_eq!(rows[1], (REJECTED, cells.map(str::to_owned).to_vec()));
        let cells = ["backup", "1004", "0", "0.0", "0", "-", "-", "-"];
        assert_eq!(rows[2], (PLAIN, cells.map(str::to_owned).to_vec()));
        assert_eq!(
            view.title(&TimeZone::UTC),
            "12:00:00  1 helper, 4 clients, 2 disks, 2 waiting, 155 commands in 1h 30m"
        );
    }

    #[test]
    fn disks_have_the_commands_of_all_clients() {
        let view = view(busy_document(), Order::Name);
        let (style, cells) = view.disk_cells().remove(0);
        let expected = [
            "quorum",
            "154",
            "0.0",
            "4",
            "3ms",
            "1s",
            "2",
            "we-ro 0xa1 web1",
            "naa.600140500000000000000000000000aa",
        ];
        assert_eq!(
            (style, cells),
            (REJECTED, expected.map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn connections_with_one_name_are_one_row() {
        let mut state = busy_document();
        state.clients = vec![client(1, "web1"), client(2, "web1"), client(2, "web1")];
        state.clients[2].process.pid = 0;
        state.clients[1].command = command("8:16", "RESERVE", 1);
        state.clients[2].command = command("253:3", "CLEAR", 2_000_000);
        let view = view(state, Order::Waiting);
        let row = &view.clients[0];
        assert_eq!((row.name.as_str(), &row.pids), ("web1", &vec![1001, 1002]));
        let cells = &view.client_cells()[0].1;
        assert_eq!(
            [1, 6, 7].map(|column| cells[column].as_str()),
            ["2 processes", "2s (2)", "CLEAR on quorum"]
        );
        // Clients that have disconnected are shown with the commands of the period.
        assert!(
            view.clients
                .iter()
                .any(|row| row.name == "db1" && row.pids.is_empty())
        );
    }

    /// Each user can run a process that looks like a helper.
    #[test]
    fn large_numbers_do_not_overflow() {
        let mut state = busy_document();
        state.time_us = u64::MAX;
        state.helper.started_us = 0;
        for one in &mut state.statistics {
            (one.count, one.max_us) = (u64::MAX, u64::MAX);
            one.buckets.fill(u64::MAX);
        }
        for client in &mut state.clients {
            client.command = command("8:16", "CLEAR", u64::MAX);
        }
        state.limits.busy_devices = u64::MAX;
        state.limits.busy_threads = u64::MAX;
        let states = states([state.clone(), state]);
        for order in Order::value_variants() {
            let view = View::since_start(&states, *order);
            assert!(view.title(&TimeZone::UTC).contains("2 helpers"));
            assert_eq!(view.client_cells().len() + view.disk_cells().len(), 6);
        }
    }

    #[test]
    fn attention_is_needed() {
        let mut state = busy_document();
        state.limits.busy_devices = 2;
        state.journal.lost = 7;
        state.time_us = NOW + 1;
        let view = view(state, Order::Waiting);
        assert_eq!(
            view.warnings,
            [
                "web1 and web2 share quorum through this host, see 'prhctl disks'",
                "helper (process 100): 2 commands ended with BUSY, 7 journal records were lost \
                 since it was started",
            ]
        );
    }
}
