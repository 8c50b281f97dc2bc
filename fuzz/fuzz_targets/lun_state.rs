// SPDX-License-Identifier: MIT OR Apache-2.0

//! `state.json` of a soft LUN: reading it is an error, or results in a valid state that is written
//! in the same way.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use soft_lun::store::{LunConfig, Port, StateFile};
use soft_lun::{LogicalUnit, Nexus, SupportedFeatures};

use fuzz::invariants;

fuzz::target!(run);

/// Boot ID of the restored unit.
const BOOT: &str = "boot";

/// Input: the content of the file.
fn run(bytes: &[u8]) {
    let Ok(state) = StateFile::from_json(bytes) else {
        return;
    };
    let text = state.to_json().unwrap();
    let again = StateFile::from_json(&text).unwrap().to_json().unwrap();
    assert_eq!(text, again);

    let config = lun_config();
    let clean = config.unit().unwrap();
    let mut unit = clean.clone();
    match state.restore(&config, BOOT, &mut unit) {
        Ok(()) => {
            let stored = check(&config, &unit);
            // With another boot ID, the restored state is that after a power loss.
            if lines(&text).contains(&format!("\"boot\": \"{BOOT}\"").as_str()) {
                assert_eq!(lines(&stored), lines(&text));
            }
        }
        Err(error) => {
            let _ = error.to_string();
            assert!(unit == clean);
        }
    }
}

/// Returns the sorted lines, because unit attentions are sorted by ports when they are written.
fn lines(text: &[u8]) -> Vec<&str> {
    let lines = str::from_utf8(text).unwrap().lines();
    let mut lines: Vec<_> = lines
        .map(|line| line.trim().trim_end_matches(','))
        .collect();
    lines.sort_unstable();
    lines
}

/// Checks a restored state and returns its stored form.
fn check(config: &LunConfig, unit: &LogicalUnit) -> Vec<u8> {
    invariants::check(unit);
    let stored = StateFile::from_unit(config, BOOT, unit)
        .unwrap()
        .to_json()
        .unwrap();
    let mut other = config.unit().unwrap();
    let state = StateFile::from_json(&stored).unwrap();
    state.restore(config, BOOT, &mut other).unwrap();
    assert!(other == *unit);
    stored
}

/// Returns a soft LUN with the ports `a` to `d`, of which the last two have the same initiator
/// port.
fn lun_config() -> LunConfig {
    let port = |name: &str, initiator: &str, port: u16| Port {
        name: name.parse().unwrap(),
        nexus: Nexus {
            initiator: initiator.parse().unwrap(),
            target_port: port.into(),
        },
    };
    LunConfig {
        identity: "naa.3000000000000001".parse().unwrap(),
        ports: vec![
            port("a", "sas,0000000000000001", 1),
            port("b", "iqn.2024-01.x:a,i,0x000000000001", 2),
            port("c", "sas,0000000000000002", 1),
            port("d", "sas,0000000000000002", 2),
        ],
        supported_features: SupportedFeatures::default(),
    }
}
