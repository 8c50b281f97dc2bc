// SPDX-License-Identifier: MIT OR Apache-2.0

//! Warnings about reservations that exclude the host's own paths, and about maps without a path.

use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::cases::register;
use crate::map::{Map, PathState, TestCommand};

/// Returns the warnings about RESERVE with this type on a map of two paths.
fn warnings_about_reserve(kind: ReservationType) -> Vec<String> {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    let reserve = TestCommand::new(OutServiceAction::Reserve, 1, 0).with_type(kind);
    let done = map.execute(&reserve);
    assert_eq!(done.result.status, Status::GOOD);
    done.warnings
}

#[test]
fn exclusive_type_on_a_map_is_warned_about() {
    for kind in ReservationType::ALL {
        let warnings = warnings_about_reserve(kind);
        match kind.allows_registrants() {
            true => assert_eq!(warnings, [""; 0], "{kind}"),
            false => {
                let [warning] = warnings.as_slice() else {
                    panic!("{kind}: {warnings:?}");
                };
                let start = format!("reservation of type {kind}: only the path that holds it");
                assert!(warning.starts_with(&start), "{warning}");
                assert!(warning.contains("type for registrants"), "{warning}");
            }
        }
    }
}

#[test]
fn preempt_with_an_exclusive_type_is_warned_about() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    assert_eq!(map.execute_b(&register(0, 9)).status, Status::GOOD);
    let exclusive = ReservationType::WriteExclusive;
    let reserve = TestCommand::new(OutServiceAction::Reserve, 9, 0).with_type(exclusive);
    assert_eq!(map.execute_b(&reserve).status, Status::GOOD);
    let preempt = TestCommand::new(OutServiceAction::Preempt, 1, 9).with_type(exclusive);
    let done = map.execute(&preempt);
    assert_eq!(done.result.status, Status::GOOD);
    assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
    assert!(done.warnings[0].contains("only the path that holds it"));
}

#[test]
fn exclusive_type_on_a_single_path_is_not_warned_about() {
    let mut map = Map::with_paths(&[(1, 1)], Default::default());
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    let reserve = TestCommand::new(OutServiceAction::Reserve, 1, 0)
        .with_type(ReservationType::WriteExclusive);
    assert_eq!(map.execute(&reserve).warnings, [""; 0]);
}

#[test]
fn map_without_a_path_is_warned_about() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    for path in &mut map.paths {
        path.state = PathState::Down;
    }
    for action in OutServiceAction::ALL {
        let done = map.execute(&TestCommand::new(action, 1, 2));
        assert_eq!(done.result.status, Status::CHECK_CONDITION, "{action}");
        let has_warning = done
            .warnings
            .iter()
            .any(|warning| warning.starts_with("no path of the map can be reached"));
        assert!(has_warning, "{action}: {:?}", done.warnings);
    }
}
