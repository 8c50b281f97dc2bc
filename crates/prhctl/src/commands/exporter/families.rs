// SPDX-License-Identifier: MIT OR Apache-2.0

//! Families of metrics with their names and help texts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::durations::Durations;

/// Labels of a series.
pub(super) type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;

/// Returns labels with these names and values.
pub(super) fn labels(pairs: &[(&'static str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

/// Sets a gauge.
pub(super) fn set(family: &Gauges, pairs: &[(&'static str, &str)], value: u64) {
    let value = value.try_into().unwrap_or(i64::MAX);
    family.get_or_create(&labels(pairs)).set(value);
}

/// Adds to a counter, which begins at 0.
pub(super) fn add(family: &Counters, pairs: &[(&'static str, &str)], value: u64) {
    family.get_or_create(&labels(pairs)).inc_by(value);
}

/// Registers a metric and returns it.
fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Registers a metric in seconds, and returns it. The name gets the unit as a suffix.
fn register_seconds<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// The families of metrics. Each one has the label `helper`, except `exporter`, `processes` and
/// `registered_clients`.
pub(super) struct Metrics {
    pub(super) exporter: Gauges,
    pub(super) processes: Gauges,
    pub(super) up: Gauges,
    pub(super) read_errors: Counters,
    pub(super) build: Gauges,
    pub(super) start_time: Seconds,
    pub(super) clients: Gauges,
    pub(super) commands: Counters,
    pub(super) durations: Family<Labels, Durations>,
    pub(super) oldest: Seconds,
    pub(super) conflicts: Counters,
    pub(super) fencing: Counters,
    pub(super) attentions: Counters,
    pub(super) disks: Gauges,
    pub(super) registrations: Gauges,
    pub(super) registered_clients: Gauges,
    pub(super) map_paths: Gauges,
    pub(super) limits: Counters,
    pub(super) workers: Gauges,
    pub(super) failed_workers: Counters,
    pub(super) lost_records: Counters,
}

impl Metrics {
    /// Registers all families.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let r = registry;
        Metrics {
            exporter: register(r, "exporter_build_info", "Version of prhctl"),
            processes: register(
                r,
                "processes",
                "Helpers on this host, with or without a state",
            ),
            up: register(r, "up", "Whether the helper sent its state"),
            read_errors: register(r, "read_errors", "Failed attempts to read the state"),
            build: register(r, "build_info", "Version of the helper"),
            start_time: register_seconds(r, "start_time", "Time of the start since 1970"),
            clients: register(r, "clients", "Connected clients"),
            commands: register(r, "commands", "Commands that have ended"),
            durations: register_seconds(r, "command_duration", "Durations of commands"),
            oldest: register_seconds(
                r,
                "oldest_command",
                "Time since the oldest command in progress was received",
            ),
            conflicts: register(
                r,
                "conflicts",
                "Commands that ended with RESERVATION CONFLICT",
            ),
            fencing: register(
                r,
                "fencing_commands",
                "Executed commands that remove registrations of others",
            ),
            attentions: register(
                r,
                "unit_attentions",
                "Commands that ended with a unit attention",
            ),
            disks: register(r, "disk_info", "Names of a disk"),
            registrations: register(r, "registrations", "Registrations that the client made"),
            registered_clients: register(
                r,
                "registered_clients",
                "Clients on this host that are registered with the disk",
            ),
            map_paths: register(r, "map_paths", "Paths of the multipath map"),
            limits: register(r, "limit_events", "Events because of a limit"),
            workers: register(r, "workers", "Workers for multipath maps"),
            failed_workers: register(
                r,
                "worker_failures",
                "Commands without a reply of their worker",
            ),
            lost_records: register(r, "journal_lost_records", "Journal records not written"),
        }
    }
}
