//! `state.json` of a soft LUN: an error, or a state that can be and is written as it was read.

use soft_lun::store::{LunConfig, Port, StateFile};
use soft_lun::{LogicalUnit, Nexus, SupportedFeatures};

use crate::consistent;

/// The start of the host at which the unit is restored.
pub(crate) const BOOT: &str = "boot";

/// The content of the file.
pub fn run(bytes: &[u8]) {
    let Ok(record) = StateFile::from_json(bytes) else {
        return;
    };
    let text = record.to_json().unwrap();
    let again = StateFile::from_json(&text).unwrap().to_json().unwrap();
    assert_eq!(text, again);

    let description = description();
    let clean = description.unit().unwrap();
    let mut unit = clean.clone();
    match record.restore(&description, BOOT, &mut unit) {
        Ok(()) => {
            let stored = check(&description, &unit);
            // After a loss of power it is another one.
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

/// The lines in an order of their own: unit attentions are sorted by ports when they are written.
fn lines(text: &[u8]) -> Vec<&str> {
    let lines = str::from_utf8(text).unwrap().lines();
    let mut lines: Vec<_> = lines
        .map(|line| line.trim().trim_end_matches(','))
        .collect();
    lines.sort_unstable();
    lines
}

/// What is stored of a state that was restored.
fn check(description: &LunConfig, unit: &LogicalUnit) -> Vec<u8> {
    consistent::check(unit);
    let stored = StateFile::from_unit(description, BOOT, unit)
        .unwrap()
        .to_json()
        .unwrap();
    let mut other = description.unit().unwrap();
    let record = StateFile::from_json(&stored).unwrap();
    record.restore(description, BOOT, &mut other).unwrap();
    assert!(other == *unit);
    stored
}

/// A soft LUN with ports `a` to `d`, the last two of one initiator port.
pub(crate) fn description() -> LunConfig {
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
