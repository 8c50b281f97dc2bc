// SPDX-License-Identifier: MIT OR Apache-2.0

//! Additional sense codes: numbers and the names that T10 assigned to them.

use std::fmt;

/// ADDITIONAL SENSE CODE and its QUALIFIER: the exact reason for a failure (SPC-4, 4.5.6).
///
/// Any two bytes are a value. The text form is the name in the standard or, if this crate does not
/// know the name, the numbers as `T10` writes them: `ASC/ASCQ 5d/10`.
///
/// ```
/// # use scsi_pr::AdditionalSense;
/// let code = AdditionalSense { asc: 0x26, ascq: 0x04 };
/// assert_eq!(code, AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
/// assert_eq!(code.to_string(), "INVALID RELEASE OF PERSISTENT RESERVATION");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AdditionalSense {
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
}

/// Defines constants and names from one table, so that each constant has a name.
macro_rules! additional_sense {
    ($($asc:literal / $ascq:literal $name:ident $text:literal)*) => {
        impl AdditionalSense {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: AdditionalSense = AdditionalSense { asc: $asc, ascq: $ascq };
            )*

            /// Returns the name in the standard, or `None` if this crate does not know it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match (self.asc, self.ascq) {
                    $(($asc, $ascq) => Some($text),)*
                    _ => None,
                }
            }

            /// All codes with a name, in the order of their numbers.
            pub const NAMED: &'static [AdditionalSense] = &[$(AdditionalSense::$name),*];
        }
    };
}

additional_sense! {
    0x00/0x00 NO_ADDITIONAL_SENSE_INFORMATION "NO ADDITIONAL SENSE INFORMATION"
    0x00/0x06 IO_PROCESS_TERMINATED "I/O PROCESS TERMINATED"
    0x04/0x00 NOT_READY_CAUSE_NOT_REPORTABLE "LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE"
    0x04/0x01 BECOMING_READY "LOGICAL UNIT IS IN PROCESS OF BECOMING READY"
    0x04/0x02 INITIALIZING_COMMAND_REQUIRED "LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED"
    0x04/0x03 MANUAL_INTERVENTION_REQUIRED "LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED"
    0x04/0x04 FORMAT_IN_PROGRESS "LOGICAL UNIT NOT READY, FORMAT IN PROGRESS"
    0x04/0x07 OPERATION_IN_PROGRESS "LOGICAL UNIT NOT READY, OPERATION IN PROGRESS"
    0x04/0x09 SELF_TEST_IN_PROGRESS "LOGICAL UNIT NOT READY, SELF-TEST IN PROGRESS"
    0x04/0x0a ASYMMETRIC_ACCESS_STATE_TRANSITION
        "LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION"
    0x04/0x0b TARGET_PORT_IN_STANDBY_STATE
        "LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE"
    0x04/0x0c TARGET_PORT_IN_UNAVAILABLE_STATE
        "LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE"
    0x04/0x12 OFFLINE "LOGICAL UNIT NOT READY, OFFLINE"
    0x04/0x1b SANITIZE_IN_PROGRESS "LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS"
    0x05/0x00 LOGICAL_UNIT_DOES_NOT_RESPOND_TO_SELECTION
        "LOGICAL UNIT DOES NOT RESPOND TO SELECTION"
    0x08/0x00 LOGICAL_UNIT_COMMUNICATION_FAILURE "LOGICAL UNIT COMMUNICATION FAILURE"
    0x08/0x01 LOGICAL_UNIT_COMMUNICATION_TIME_OUT "LOGICAL UNIT COMMUNICATION TIME-OUT"
    0x0c/0x00 WRITE_ERROR "WRITE ERROR"
    0x11/0x00 UNRECOVERED_READ_ERROR "UNRECOVERED READ ERROR"
    0x1a/0x00 PARAMETER_LIST_LENGTH_ERROR "PARAMETER LIST LENGTH ERROR"
    0x20/0x00 INVALID_COMMAND_OPERATION_CODE "INVALID COMMAND OPERATION CODE"
    0x21/0x00 LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE "LOGICAL BLOCK ADDRESS OUT OF RANGE"
    0x24/0x00 INVALID_FIELD_IN_CDB "INVALID FIELD IN CDB"
    0x25/0x00 LOGICAL_UNIT_NOT_SUPPORTED "LOGICAL UNIT NOT SUPPORTED"
    0x26/0x00 INVALID_FIELD_IN_PARAMETER_LIST "INVALID FIELD IN PARAMETER LIST"
    0x26/0x01 PARAMETER_NOT_SUPPORTED "PARAMETER NOT SUPPORTED"
    0x26/0x02 PARAMETER_VALUE_INVALID "PARAMETER VALUE INVALID"
    0x26/0x04 INVALID_RELEASE_OF_PERSISTENT_RESERVATION "INVALID RELEASE OF PERSISTENT RESERVATION"
    0x27/0x00 WRITE_PROTECTED "WRITE PROTECTED"
    0x27/0x07 SPACE_ALLOCATION_FAILED_WRITE_PROTECT "SPACE ALLOCATION FAILED WRITE PROTECT"
    0x28/0x00 MEDIUM_MAY_HAVE_CHANGED "NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED"
    0x29/0x00 POWER_ON_RESET_OR_BUS_DEVICE_RESET "POWER ON, RESET, OR BUS DEVICE RESET OCCURRED"
    0x29/0x01 POWER_ON_OCCURRED "POWER ON OCCURRED"
    0x29/0x02 SCSI_BUS_RESET_OCCURRED "SCSI BUS RESET OCCURRED"
    0x29/0x03 BUS_DEVICE_RESET_FUNCTION_OCCURRED "BUS DEVICE RESET FUNCTION OCCURRED"
    0x29/0x04 DEVICE_INTERNAL_RESET "DEVICE INTERNAL RESET"
    0x29/0x07 I_T_NEXUS_LOSS_OCCURRED "I_T NEXUS LOSS OCCURRED"
    0x2a/0x01 MODE_PARAMETERS_CHANGED "MODE PARAMETERS CHANGED"
    0x2a/0x03 RESERVATIONS_PREEMPTED "RESERVATIONS PREEMPTED"
    0x2a/0x04 RESERVATIONS_RELEASED "RESERVATIONS RELEASED"
    0x2a/0x05 REGISTRATIONS_PREEMPTED "REGISTRATIONS PREEMPTED"
    0x2a/0x06 ASYMMETRIC_ACCESS_STATE_CHANGED "ASYMMETRIC ACCESS STATE CHANGED"
    0x2a/0x09 CAPACITY_DATA_HAS_CHANGED "CAPACITY DATA HAS CHANGED"
    0x2c/0x00 COMMAND_SEQUENCE_ERROR "COMMAND SEQUENCE ERROR"
    0x2e/0x02 COMMAND_TIMEOUT_DURING_PROCESSING "COMMAND TIMEOUT DURING PROCESSING"
    0x2f/0x00 COMMANDS_CLEARED_BY_ANOTHER_INITIATOR "COMMANDS CLEARED BY ANOTHER INITIATOR"
    0x2f/0x02 COMMANDS_CLEARED_BY_DEVICE_SERVER "COMMANDS CLEARED BY DEVICE SERVER"
    0x3a/0x00 MEDIUM_NOT_PRESENT "MEDIUM NOT PRESENT"
    0x3f/0x0e REPORTED_LUNS_DATA_HAS_CHANGED "REPORTED LUNS DATA HAS CHANGED"
    0x44/0x00 INTERNAL_TARGET_FAILURE "INTERNAL TARGET FAILURE"
    0x44/0x01 PERSISTENT_RESERVATION_INFORMATION_LOST "PERSISTENT RESERVATION INFORMATION LOST"
    0x47/0x00 SCSI_PARITY_ERROR "SCSI PARITY ERROR"
    0x4b/0x00 DATA_PHASE_ERROR "DATA PHASE ERROR"
    0x55/0x00 SYSTEM_RESOURCE_FAILURE "SYSTEM RESOURCE FAILURE"
    0x55/0x02 INSUFFICIENT_RESERVATION_RESOURCES "INSUFFICIENT RESERVATION RESOURCES"
    0x55/0x03 INSUFFICIENT_RESOURCES "INSUFFICIENT RESOURCES"
    0x55/0x04 INSUFFICIENT_REGISTRATION_RESOURCES "INSUFFICIENT REGISTRATION RESOURCES"
}

impl fmt::Display for AdditionalSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "ASC/ASCQ {:02x}/{:02x}", self.asc, self.ascq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_code_displays_as_numbers() {
        // A code of a vendor, which T10 does not name.
        let code = AdditionalSense {
            asc: 0xff,
            ascq: 0xff,
        };
        assert_eq!(code.to_string(), "ASC/ASCQ ff/ff");
    }

    #[test]
    fn named_codes_are_in_order() {
        for pair in AdditionalSense::NAMED.windows(2) {
            let [before, after] = pair else {
                unreachable!("windows of two");
            };
            let numbers = |code: &AdditionalSense| (code.asc, code.ascq);
            let text = "order the lines of additional_sense! by number";
            let (before, after) = (numbers(before), numbers(after));
            assert!(before < after, "{before:02x?}, then {after:02x?}: {text}");
        }
    }
}
