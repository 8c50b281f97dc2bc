// SPDX-License-Identifier: MIT OR Apache-2.0

//! Metrics of the helpers of this host, made from their state documents.
//!
//! A helper bounds the number of entries in its document. The labels of a series come from one
//! entry, so the number of series is bounded as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use helper_state::{Limits, Path, PathRegistration, StateDocument, Statistics};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::durations::seconds;
use super::families::{Labels, Metrics, add, labels, set};

/// Names of the clients that are registered with each disk.
type Registered<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The helpers at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Number of helpers, with or without a state socket.
    pub(super) processes: usize,
    /// The helpers with a state socket.
    pub(super) helpers: Vec<Sample>,
}

/// A helper at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Name of the helper, which differs from those of the other helpers.
    pub(super) name: String,
    /// `None` if the helper sent no document.
    pub(super) document: Option<StateDocument>,
    /// Number of failed attempts to read the document.
    pub(super) read_errors: u64,
}

/// Format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The text format of `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus' older text format, which `node_exporter` reads.
    Prometheus,
}

impl Format {
    /// Returns the media type.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Returns the metrics as text, or an error if the library cannot encode a metric.
pub(super) fn encode(snapshot: &Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("pr_helper");
    let metrics = Metrics::new(&mut registry);
    let version = labels(&[("version", env!("CARGO_PKG_VERSION"))]);
    metrics.exporter.get_or_create(&version).set(1);
    let processes = metrics.processes.get_or_create(&Labels::new());
    processes.set(snapshot.processes.try_into().unwrap_or(i64::MAX));
    drop(processes);
    let mut registered = Registered::new();
    for sample in &snapshot.helpers {
        metrics.add_sample(sample, &mut registered);
    }
    for (disk, clients) in registered {
        set(
            &metrics.registered_clients,
            &[("disk", disk)],
            clients.len() as u64,
        );
    }
    let mut text = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut text, &registry)?,
        Format::Prometheus => prometheus_text::encode(&mut text, &registry)?,
    }
    Ok(text)
}

impl Metrics {
    fn add_sample<'a>(&self, sample: &'a Sample, registered: &mut Registered<'a>) {
        let helper = ("helper", sample.name.as_str());
        set(&self.up, &[helper], sample.document.is_some().into());
        add(&self.read_errors, &[helper], sample.read_errors);
        let Some(document) = &sample.document else {
            return;
        };
        let helper = Helper {
            metrics: self,
            helper,
            document,
        };
        helper.add_process();
        helper.add_commands();
        helper.add_disks(registered);
    }
}

/// A helper, for the addition of its metrics.
struct Helper<'a, 'm> {
    metrics: &'m Metrics,
    /// The label with the helper's name.
    helper: (&'static str, &'a str),
    document: &'a StateDocument,
}

impl<'a> Helper<'a, '_> {
    /// Returns the identifier of the disk with this device, or else the device.
    fn disk(&self, device: &'a str) -> &'a str {
        let disk = self
            .document
            .disks
            .iter()
            .find(|disk| disk.device == device);
        disk.and_then(|disk| disk.wwn.as_deref()).unwrap_or(device)
    }

    fn add_process(&self) {
        let (metrics, helper, document) = (self.metrics, self.helper, self.document);
        let version = ("version", document.helper.version.as_str());
        set(&metrics.build, &[helper, version], 1);
        let start_time = metrics.start_time.get_or_create(&labels(&[helper]));
        start_time.set(seconds(document.helper.started_us));
        set(&metrics.clients, &[helper], document.clients.len() as u64);
        for (event, count) in limit_events(&document.limits) {
            add(&metrics.limits, &[helper, ("event", event)], count);
        }
        let workers = &document.workers;
        set(&metrics.workers, &[helper, ("state", "idle")], workers.idle);
        set(&metrics.workers, &[helper, ("state", "busy")], workers.busy);
        add(&metrics.failed_workers, &[helper], workers.failed);
        add(&metrics.lost_records, &[helper], document.journal.lost);
    }

    fn add_commands(&self) {
        let (metrics, helper) = (self.metrics, self.helper);
        for one in &self.document.statistics {
            let client = ("client", one.client.as_str());
            let disk = ("disk", self.disk(&one.device));
            let action = ("action", one.action.as_str());
            let series = [
                helper,
                client,
                disk,
                action,
                ("result", one.result.as_str()),
            ];
            add(&metrics.commands, &series, one.count);
            metrics.durations.get_or_create(&labels(&series)).add(one);
            // All three counters exist from the first command on, because increase() ignores the
            // value that a counter has when it appears.
            let series = [helper, client, disk];
            add(
                &metrics.conflicts,
                &series,
                count_if(one, one.is_conflict()),
            );
            add(&metrics.fencing, &series, count_if(one, is_fencing(one)));
            add(
                &metrics.attentions,
                &series,
                count_if(one, is_attention(one)),
            );
        }
        for client in &self.document.clients {
            let Some(command) = &client.command else {
                continue;
            };
            let (client, disk) = (client.process.name.as_str(), self.disk(&command.device));
            let series = labels(&[helper, ("client", client), ("disk", disk)]);
            let oldest = metrics.oldest.get_or_create(&series);
            oldest.set(oldest.get().max(seconds(command.age_us)));
        }
    }

    fn add_disks(&self, registered: &mut Registered<'a>) {
        let (metrics, helper) = (self.metrics, self.helper);
        let mut registrations = BTreeMap::new();
        for one in &self.document.disks {
            let disk = self.disk(&one.device);
            let text = |value: &'a Option<String>| value.as_deref().unwrap_or_default();
            let nodes = one.nodes.join(" ");
            let series = [
                helper,
                ("disk", disk),
                ("device", one.device.as_str()),
                ("nodes", nodes.as_str()),
                ("kind", one.kind.as_str()),
                ("alias", text(&one.alias)),
                ("transport", text(&one.transport)),
            ];
            set(&metrics.disks, &series, 1);
            for registration in &one.registrations {
                let client = registration.client.as_str();
                *registrations.entry((disk, client)).or_insert(0) += 1;
            }
            for (registration, count) in path_counts(&one.paths) {
                let series = [helper, ("disk", disk), ("registration", registration)];
                set(&metrics.map_paths, &series, count);
            }
            // Each port of a soft LUN is another initiator, so its clients share none.
            if one.kind != "soft LUN" {
                let clients = one.registrations.iter();
                let clients = clients.map(|registration| registration.client.as_str());
                registered.entry(disk).or_default().extend(clients);
            }
        }
        for ((disk, client), count) in registrations {
            let series = [helper, ("client", client), ("disk", disk)];
            set(&metrics.registrations, &series, count);
        }
    }
}

/// Returns the number of paths with each registration, if the disk has paths.
fn path_counts(paths: &[Path]) -> impl Iterator<Item = (&'static str, u64)> {
    let all = [
        ("registered", PathRegistration::Registered),
        ("not-registered", PathRegistration::NotRegistered),
        ("unknown", PathRegistration::Unknown),
    ];
    let all = all.into_iter().filter(|_| !paths.is_empty());
    all.map(|(name, registration)| {
        let same = paths
            .iter()
            .filter(|path| path.registration == registration);
        (name, same.count() as u64)
    })
}

/// Returns the number of commands if they are counted.
const fn count_if(commands: &Statistics, is_counted: bool) -> u64 {
    if is_counted { commands.count } else { 0 }
}

fn is_attention(commands: &Statistics) -> bool {
    commands.result == "UNIT ATTENTION"
}

fn is_fencing(commands: &Statistics) -> bool {
    let is_removal = ["PREEMPT", "PREEMPT AND ABORT", "CLEAR"].contains(&commands.action.as_str());
    is_removal && commands.result == "GOOD"
}

/// Returns the counts with their names, in which every member is present.
fn limit_events(limits: &Limits) -> [(&'static str, u64); 6] {
    let Limits {
        rejected_connections,
        accept_pauses,
        busy_devices,
        busy_threads,
        request_timeouts,
        refused_registrations,
    } = *limits;
    [
        ("rejected_connection", rejected_connections),
        ("accept_pause", accept_pauses),
        ("busy_device", busy_devices),
        ("busy_thread", busy_threads),
        ("request_timeout", request_timeouts),
        ("refused_registration", refused_registrations),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{client, document, paths};
    use helper_state::{CommandInProgress, Disk, Registration};

    fn statistics(client: &str, device: &str, action: &str, result: &str) -> Statistics {
        let mut buckets = vec![0; helper_state::BUCKETS];
        (buckets[1], buckets[15]) = (2, 1);
        Statistics {
            client: client.to_owned(),
            device: device.to_owned(),
            action: action.to_owned(),
            result: result.to_owned(),
            count: 3,
            total_us: 1_500_000,
            max_us: 1_000_000,
            buckets,
        }
    }

    fn disk(device: &str, wwn: Option<&str>, clients: &[&str]) -> Disk {
        let registrations = clients.iter().map(|client| Registration {
            key: "0x1".to_owned(),
            client: (*client).to_owned(),
            is_connected: true,
            time_us: 0,
        });
        Disk {
            device: device.to_owned(),
            wwn: wwn.map(str::to_owned),
            nodes: vec!["sda".to_owned(), "sg0".to_owned()],
            kind: "disk".to_owned(),
            registrations: registrations.collect(),
            ..Disk::default()
        }
    }

    fn sample(name: &str, document: Option<StateDocument>) -> Sample {
        Sample {
            name: name.to_owned(),
            document,
            read_errors: 0,
        }
    }

    /// Returns the sorted series with names that begin with `prefix`.
    fn series(helpers: Vec<Sample>, prefix: &str) -> Vec<String> {
        let snapshot = Snapshot {
            processes: 7,
            helpers,
        };
        let text = encode(&snapshot, Format::OpenMetrics).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("pr_helper_"));
        let lines = lines.filter(|line| line.starts_with(prefix));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Returns one helper with statistics.
    fn with_statistics(statistics: Vec<Statistics>) -> Vec<Sample> {
        let disks = vec![
            disk("8:0", Some("naa.6"), &[]),
            disk("21:0", Some("naa.6"), &[]),
        ];
        let document = StateDocument {
            disks,
            statistics,
            ..document()
        };
        vec![sample("h", Some(document))]
    }

    #[test]
    fn devices_of_a_disk_are_added_up() {
        let helpers = with_statistics(vec![
            statistics("vm1", "8:0", "RESERVE", "GOOD"),
            statistics("vm1", "21:0", "RESERVE", "GOOD"),
            statistics("vm1", "9:0", "RESERVE", "GOOD"),
        ]);
        let labels = |disk| {
            format!(
                "{{helper=\"h\",client=\"vm1\",disk=\"{disk}\",action=\"RESERVE\",result=\"GOOD\"}}"
            )
        };
        let expected = [("9:0", 3), ("naa.6", 6)]
            .map(|(disk, count)| format!("commands_total{} {count}", labels(disk)));
        assert_eq!(series(helpers.clone(), "commands_"), expected);
        let durations = series(helpers, "command_duration_seconds");
        let labels = labels("naa.6").replace('{', ",");
        for (bound, count) in [("0.00005", 0), ("0.0001", 4), ("30.0", 4), ("+Inf", 6)] {
            let line = format!("command_duration_seconds_bucket{{le=\"{bound}\"{labels} {count}");
            assert!(durations.contains(&line), "{line}: {durations:#?}");
        }
        let sum = durations
            .iter()
            .find(|line| line.contains("_sum") && line.contains("naa"));
        assert!(sum.unwrap().ends_with(" 3.0"), "{sum:?}");
    }

    #[test]
    fn conflicts_fencing_and_unit_attentions_are_counted() {
        for (action, result, counted) in [
            ("REGISTER", "GOOD", None),
            ("PREEMPT", "GOOD", Some("fencing_commands")),
            ("PREEMPT AND ABORT", "GOOD", Some("fencing_commands")),
            ("CLEAR", "GOOD", Some("fencing_commands")),
            ("PREEMPT", "RESERVATION CONFLICT", Some("conflicts")),
            ("READ KEYS", "UNIT ATTENTION", Some("unit_attentions")),
        ] {
            for name in ["conflicts", "fencing_commands", "unit_attentions"] {
                let helpers = with_statistics(vec![statistics("vm1", "8:0", action, result)]);
                let count = if counted == Some(name) { 3 } else { 0 };
                let labels = "{helper=\"h\",client=\"vm1\",disk=\"naa.6\"}";
                let expected = format!("{name}_total{labels} {count}");
                assert_eq!(series(helpers, name), [expected], "{action} {result}");
            }
        }
    }

    #[test]
    fn oldest_command_of_a_client_name_is_shown() {
        let with_command = |id, device: &str, age_us| {
            let mut client = client(id, "vm1");
            client.command = Some(CommandInProgress {
                device: device.to_owned(),
                action: "RESERVE".to_owned(),
                age_us,
            });
            client
        };
        let document = StateDocument {
            clients: vec![
                with_command(1, "8:0", 2_000_000),
                with_command(2, "8:0", 12_500_000),
                with_command(3, "8:0", 1_000_000),
                client(4, "vm2"),
            ],
            ..document()
        };
        let helpers = vec![sample("h", Some(document))];
        let expected = "oldest_command_seconds{helper=\"h\",client=\"vm1\",disk=\"8:0\"} 12.5";
        assert_eq!(series(helpers.clone(), "oldest"), [expected]);
        assert_eq!(series(helpers, "clients"), ["clients{helper=\"h\"} 4"]);
    }

    #[test]
    fn registered_clients_are_those_of_all_helpers() {
        let with_disks = |disks| {
            Some(StateDocument {
                disks,
                ..document()
            })
        };
        let helpers = vec![
            sample(
                "h1",
                with_disks(vec![
                    disk("8:0", Some("naa.6"), &["vm1"]),
                    disk("21:0", Some("naa.6"), &["vm1"]),
                    disk("8:16", None, &[]),
                ]),
            ),
            sample("h2", with_disks(vec![disk("8:0", Some("naa.6"), &["vm2"])])),
        ];
        let expected = [
            "registered_clients{disk=\"8:16\"} 0",
            "registered_clients{disk=\"naa.6\"} 2",
        ];
        assert_eq!(series(helpers.clone(), "registered"), expected);
        let expected = [
            "registrations{helper=\"h1\",client=\"vm1\",disk=\"naa.6\"} 2",
            "registrations{helper=\"h2\",client=\"vm2\",disk=\"naa.6\"} 1",
        ];
        assert_eq!(series(helpers, "registrations"), expected);
    }

    #[test]
    fn paths_of_a_map_are_counted() {
        let mut map = disk("253:3", Some("naa.6"), &["vm1"]);
        map.paths = paths(&[
            ("sda", PathRegistration::Registered),
            ("sdb", PathRegistration::NotRegistered),
            ("sdc", PathRegistration::Registered),
        ]);
        let document = StateDocument {
            disks: vec![map, disk("8:0", Some("naa.7"), &["vm1"])],
            ..document()
        };
        let expected = [("not-registered", 1), ("registered", 2), ("unknown", 0)];
        let expected = expected.map(|(registration, count)| {
            let labels = format!("helper=\"h\",disk=\"naa.6\",registration=\"{registration}\"");
            format!("map_paths{{{labels}}} {count}")
        });
        assert_eq!(series(vec![sample("h", Some(document))], "map_"), expected);
    }

    #[test]
    fn ports_of_a_soft_lun_are_not_shared() {
        let mut soft_lun = disk("/luns/a", Some("naa.6"), &["vm1", "vm2"]);
        soft_lun.kind = "soft LUN".to_owned();
        let document = StateDocument {
            disks: vec![soft_lun],
            ..document()
        };
        let helpers = vec![sample("h", Some(document))];
        assert!(series(helpers.clone(), "registered_clients{").is_empty());
        assert_eq!(series(helpers, "registrations{").len(), 2);
    }

    #[test]
    fn helper_without_a_document_is_down() {
        let helper = Sample {
            read_errors: 2,
            ..sample("h", None)
        };
        let found = series(vec![helper], "");
        let expected = [
            concat!(
                "exporter_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "processes 7",
            "read_errors_total{helper=\"h\"} 2",
            "up{helper=\"h\"} 0",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn label_values_are_escaped() {
        let helpers = vec![sample("a\"b\\c\nd", None)];
        let expected = r#"up{helper="a\"b\\c\nd"} 0"#;
        assert_eq!(series(helpers, "up"), [expected]);
    }
}
