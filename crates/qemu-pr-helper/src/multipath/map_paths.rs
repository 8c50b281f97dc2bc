// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations of the paths of maps, as commands and checks have shown them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use helper_state::{Path, PathRegistration};

use super::message::PathReport;
use crate::command::device::DeviceId;
use crate::command::timestamp::unix_microseconds;

/// Delay between two checks of a map with a path that is not known to be registered.
const CHECK_DELAY: Duration = Duration::from_secs(10);

/// End of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckEnd {
    /// Each path has answered, or has failed.
    Complete,
    /// The paths were not checked, for example because multipathd did not answer.
    Failed,
    /// A path hangs.
    Hung,
}

/// Delay between two checks of a map if all known paths are registered: a path can be added.
const ADDED_PATH_DELAY: Duration = Duration::from_secs(60);

/// Maximum delay between two checks. The delay is doubled after a check for which a path hangs: its
/// worker can exist until the kernel gives the command up.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Maps that clients have registered.
#[derive(Debug, Default)]
pub(super) struct MapPaths(Mutex<BTreeMap<DeviceId, RegisteredMap>>);

#[derive(Debug)]
struct RegisteredMap {
    paths: Vec<Path>,
    /// Delay before the next check.
    delay: Duration,
    next_check: Instant,
}

impl MapPaths {
    /// Sets the paths of a map after a command. If none is registered, the map is forgotten.
    pub(super) fn set(&self, map: DeviceId, reports: Vec<PathReport>) {
        let mut maps = self.lock();
        let known = maps.remove(&map).map(|map| map.paths).unwrap_or_default();
        let paths: Vec<_> = reports
            .into_iter()
            .map(|one| to_path(one, &known))
            .collect();
        if let Some(delay) = delay(&paths) {
            let next_check = Instant::now() + delay;
            let registered = RegisteredMap {
                paths,
                delay,
                next_check,
            };
            maps.insert(map, registered);
        }
    }

    /// Notes that the registrations of a map's paths are not known, because a command that changes
    /// them was not completed.
    pub(super) fn set_unknown(&self, map: DeviceId) {
        if let Some(registered) = self.lock().get_mut(&map) {
            for path in &mut registered.paths {
                if path.registration != PathRegistration::Unknown {
                    path.registration = PathRegistration::Unknown;
                    path.since_us = unix_microseconds(SystemTime::now());
                }
            }
            registered.postpone(CHECK_DELAY);
        }
    }

    /// Notes that a map cannot be checked now.
    pub(super) fn postpone(&self, map: DeviceId) {
        if let Some(registered) = self.lock().get_mut(&map) {
            registered.postpone(CHECK_DELAY);
        }
    }

    /// Sets the paths of a map after a check, unless the map was forgotten meanwhile. The check
    /// does not show the registration of each path. Returns the paths with another registration
    /// than before.
    pub(super) fn set_checked(
        &self,
        map: DeviceId,
        end: CheckEnd,
        reports: Vec<PathReport>,
    ) -> Vec<Path> {
        let mut maps = self.lock();
        let Some(registered) = maps.get_mut(&map) else {
            return Vec::new();
        };
        let known = registered.paths.clone();
        if end == CheckEnd::Complete || !reports.is_empty() {
            let paths = reports.into_iter().map(|report| {
                let is_shown = report.registration != PathRegistration::Unknown;
                match find(&known, &report).filter(|_| !is_shown) {
                    Some(path) => path.clone(),
                    None => to_path(report, &known),
                }
            });
            registered.paths = paths.collect();
        }
        let changed = registered.paths.iter().filter(|path| !known.contains(path));
        let changed = changed.cloned().collect();
        let Some(delay) = delay(&registered.paths) else {
            maps.remove(&map);
            return Vec::new();
        };
        let delay = match end {
            CheckEnd::Complete | CheckEnd::Failed => delay,
            CheckEnd::Hung => registered.delay.saturating_mul(2).min(MAX_DELAY),
        };
        registered.postpone(delay);
        changed
    }

    /// Forgets a map without a key.
    pub(super) fn remove(&self, map: DeviceId) {
        self.lock().remove(&map);
    }

    /// Returns the maps that are to be checked at `now`.
    pub(super) fn due(&self, now: Instant) -> Vec<DeviceId> {
        let maps = self.lock();
        let due = maps.iter().filter(|(_, map)| map.next_check <= now);
        due.map(|(id, _)| *id).collect()
    }

    /// Returns the device numbers of the registered paths of a map, if a check is due at `now`.
    pub(super) fn registered_if_due(&self, map: DeviceId, now: Instant) -> Option<Vec<String>> {
        let maps = self.lock();
        let map = maps.get(&map).filter(|map| map.next_check <= now)?;
        let registered = map.paths.iter().filter(|path| is_registered(path));
        Some(registered.map(|path| path.device.clone()).collect())
    }

    /// Returns the paths in the form of the state document.
    pub(super) fn to_state(&self) -> BTreeMap<DeviceId, Vec<Path>> {
        let maps = self.lock();
        maps.iter()
            .map(|(id, map)| (*id, map.paths.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, RegisteredMap>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegisteredMap {
    fn postpone(&mut self, delay: Duration) {
        self.delay = delay;
        self.next_check = Instant::now() + delay;
    }
}

fn is_registered(path: &Path) -> bool {
    path.registration == PathRegistration::Registered
}

/// Returns the delay before the next check of these paths; `None` if none can be registered.
fn delay(paths: &[Path]) -> Option<Duration> {
    let delay = match paths.iter().all(is_registered) {
        true => ADDED_PATH_DELAY,
        false => CHECK_DELAY,
    };
    let can_be_registered = |path: &Path| path.registration != PathRegistration::NotRegistered;
    paths.iter().any(can_be_registered).then_some(delay)
}

fn find<'a>(known: &'a [Path], report: &PathReport) -> Option<&'a Path> {
    let is_same = |path: &&Path| path.node == report.name && path.device == report.number;
    known.iter().find(is_same)
}

/// Returns the path of a report. The time is that of the path before if it had this registration.
fn to_path(report: PathReport, known: &[Path]) -> Path {
    let known = find(known, &report).filter(|path| path.registration == report.registration);
    Path {
        since_us: known.map_or_else(
            || unix_microseconds(SystemTime::now()),
            |path| path.since_us,
        ),
        node: report.name,
        device: report.number,
        registration: report.registration,
    }
}

#[cfg(test)]
mod tests {
    use super::PathRegistration::{NotRegistered, Registered, Unknown};
    use super::*;

    const MAP: DeviceId = DeviceId::Block(253, 0);

    fn reports(registrations: &[(&str, PathRegistration)]) -> Vec<PathReport> {
        let report = |(name, registration): &(&str, _)| PathReport {
            name: (*name).to_owned(),
            number: format!("8:{name}"),
            registration: *registration,
        };
        registrations.iter().map(report).collect()
    }

    fn registrations(maps: &MapPaths) -> Vec<(String, PathRegistration)> {
        let paths = maps.to_state().remove(&MAP).unwrap_or_default();
        let paths = paths.into_iter();
        paths.map(|path| (path.node, path.registration)).collect()
    }

    fn expected(registrations: &[(&str, PathRegistration)]) -> Vec<(String, PathRegistration)> {
        let registrations = registrations.iter();
        registrations
            .map(|(name, registration)| ((*name).to_owned(), *registration))
            .collect()
    }

    /// Checks the map now. Returns the names of the changed paths.
    fn check(maps: &MapPaths, result: &[(&str, PathRegistration)]) -> Vec<String> {
        let changed = maps.set_checked(MAP, CheckEnd::Complete, reports(result));
        changed.into_iter().map(|path| path.node).collect()
    }

    #[test]
    fn check_keeps_what_it_does_not_show() {
        let maps = MapPaths::default();
        maps.set(MAP, reports(&[("a", Registered), ("b", NotRegistered)]));
        // The path b is offline, and c was added.
        let result = [("a", Registered), ("b", Unknown), ("c", Unknown)];
        assert_eq!(check(&maps, &result), ["c"]);
        let known = [("a", Registered), ("b", NotRegistered), ("c", Unknown)];
        assert_eq!(registrations(&maps), expected(&known));
        // The path c is removed, and b registered.
        let result = [("a", Registered), ("b", Registered)];
        assert_eq!(check(&maps, &result), ["b"]);
        assert_eq!(registrations(&maps), expected(&result));
        assert_eq!(check(&maps, &result), [""; 0]);
    }

    #[test]
    fn map_without_registration_is_forgotten() {
        let maps = MapPaths::default();
        let none = [("a", NotRegistered), ("b", NotRegistered)];
        maps.set(MAP, reports(&[("a", Registered), ("b", NotRegistered)]));
        maps.set(MAP, reports(&none));
        assert_eq!(registrations(&maps), []);
        maps.set(MAP, reports(&[("a", Registered), ("b", NotRegistered)]));
        assert_eq!(check(&maps, &none), [""; 0]);
        assert_eq!(registrations(&maps), []);
        // A check that ends after the last client has disconnected.
        assert_eq!(check(&maps, &[("a", Registered)]), [""; 0]);
        assert_eq!(registrations(&maps), []);
    }

    #[test]
    fn registered_paths_are_not_checked() {
        let maps = MapPaths::default();
        maps.set(MAP, reports(&[("a", Registered), ("b", NotRegistered)]));
        let now = Instant::now();
        assert_eq!(maps.due(now), []);
        assert_eq!(maps.registered_if_due(MAP, now), None);
        assert_eq!(maps.due(now + CHECK_DELAY), [MAP]);
        let registered = maps.registered_if_due(MAP, now + CHECK_DELAY);
        assert_eq!(registered, Some(vec!["8:a".to_owned()]));
        check(&maps, &[("a", Registered), ("b", Registered)]);
        assert_eq!(maps.due(Instant::now() + CHECK_DELAY), []);
        assert_eq!(maps.due(Instant::now() + ADDED_PATH_DELAY).len(), 1);
    }

    #[test]
    fn path_that_hangs_is_checked_less_often() {
        let maps = MapPaths::default();
        let paths = [("a", Registered), ("b", NotRegistered)];
        maps.set(MAP, reports(&paths));
        for result in [&[("a", Registered), ("b", Unknown)][..], &[]] {
            assert_eq!(maps.set_checked(MAP, CheckEnd::Hung, reports(result)), []);
            assert_eq!(registrations(&maps), expected(&paths));
        }
        assert_eq!(maps.due(Instant::now() + 3 * CHECK_DELAY), []);
        assert_eq!(maps.due(Instant::now() + 4 * CHECK_DELAY).len(), 1);
        for _ in 0..64 {
            maps.set_checked(MAP, CheckEnd::Hung, Vec::new());
        }
        assert_eq!(maps.due(Instant::now() + MAX_DELAY).len(), 1);
        check(&maps, &paths);
        assert_eq!(maps.due(Instant::now() + CHECK_DELAY).len(), 1);
    }

    /// The guest registers the map while another map is checked.
    #[test]
    fn map_with_a_command_is_not_due_anymore() {
        let maps = MapPaths::default();
        maps.set(MAP, reports(&[("a", Registered), ("b", NotRegistered)]));
        let now = Instant::now() + CHECK_DELAY;
        assert_eq!(maps.due(now), [MAP]);
        maps.set(MAP, reports(&[("a", NotRegistered), ("b", Registered)]));
        assert_eq!(maps.registered_if_due(MAP, now), None);
    }

    #[test]
    fn command_that_is_not_completed_makes_all_paths_unknown() {
        let maps = MapPaths::default();
        maps.set(MAP, reports(&[("a", Registered), ("b", Registered)]));
        maps.set_unknown(MAP);
        let unknown = [("a", Unknown), ("b", Unknown)];
        assert_eq!(registrations(&maps), expected(&unknown));
        assert_eq!(maps.due(Instant::now() + CHECK_DELAY), [MAP]);
        // multipathd does not answer.
        assert_eq!(maps.set_checked(MAP, CheckEnd::Failed, Vec::new()), []);
        assert_eq!(maps.due(Instant::now() + CHECK_DELAY), [MAP]);
        assert_eq!(
            check(&maps, &[("a", Registered), ("b", NotRegistered)]),
            ["a", "b"]
        );
    }

    #[test]
    fn time_is_that_of_the_change() {
        let maps = MapPaths::default();
        let times = || {
            maps.to_state()[&MAP]
                .iter()
                .map(|path| path.since_us)
                .collect::<Vec<_>>()
        };
        maps.set(MAP, reports(&[("a", Registered), ("b", NotRegistered)]));
        let before = times();
        std::thread::sleep(Duration::from_millis(1));
        maps.set(MAP, reports(&[("a", Registered), ("b", Registered)]));
        let after = times();
        assert_eq!(before[0], after[0]);
        assert!(before[1] < after[1]);
    }
}
