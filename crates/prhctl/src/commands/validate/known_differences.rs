// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deviations from SPC-4 of LIO, the SCSI target of Linux, that steps find.
//!
//! docs/lio-differences.md describes each one.

use super::session::SentCommand;

/// Vendor of LIO's disks in their inquiry data.
pub(super) const LIO_VENDOR: &str = "LIO-ORG";

/// A deviation that a step finds.
#[derive(Debug)]
pub(super) struct KnownDifference {
    step: &'static str,
    /// The answer to the last command of the step.
    answer: &'static str,
    /// Row of docs/lio-differences.md.
    pub(super) id: &'static str,
    pub(super) text: &'static str,
}

const KNOWN: &[KnownDifference] = &[
    KnownDifference {
        step: "reserve-unregistered",
        answer: "NOT READY, LOGICAL UNIT COMMUNICATION FAILURE",
        id: "L11",
        text: "LIO answers a node that is not registered with NOT READY, LOGICAL UNIT \
               COMMUNICATION FAILURE, if no reservation forbids the command",
    },
    KnownDifference {
        step: "release-wrong-type",
        answer: "RESERVATION CONFLICT",
        id: "L15",
        text: "LIO answers a RELEASE with another type with RESERVATION CONFLICT",
    },
    KnownDifference {
        step: "generation-unregister",
        answer: "GOOD",
        id: "L21",
        text: "LIO does not count the removal of a registration in PRgeneration",
    },
];

/// Returns the deviation that explains the failure of a step.
pub(super) fn find(step: &str, commands: &[SentCommand]) -> Option<&'static KnownDifference> {
    let last = commands.last()?;
    KNOWN
        .iter()
        .find(|known| known.step == step && last.answer.starts_with(known.answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::validate::steps;

    #[test]
    fn known_differences_name_steps_and_rows_of_the_document() {
        let document = include_str!("../../../../../docs/lio-differences.md");
        for known in KNOWN {
            assert!(
                steps::spc4().any(|step| step.name == known.step),
                "{known:?}"
            );
            let row = format!("| {} |", known.id);
            assert!(document.contains(&row), "{known:?}");
        }
    }
}
