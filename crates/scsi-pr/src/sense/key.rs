//! Sense keys: the sixteen kinds of trouble.

use std::fmt;

/// SENSE KEY: in what way a command failed (SPC-4, 4.5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SenseKey {
    /// 0h: nothing to report.
    #[default]
    NoSense,
    /// 1h: it succeeded after the device recovered from an error.
    RecoveredError,
    /// 2h: the logical unit cannot be accessed now.
    NotReady,
    /// 3h: a flaw in the medium or in the recorded data.
    MediumError,
    /// 4h: a failure that is not the medium's.
    HardwareError,
    /// 5h: the command, its parameters or the logical unit number are wrong.
    IllegalRequest,
    /// 6h: something happened that this initiator port has to know of; the command was not done.
    UnitAttention,
    /// 7h: a protection forbids it.
    DataProtect,
    /// 8h: blank or unformatted medium where there should be none.
    BlankCheck,
    /// 9h: vendor specific.
    VendorSpecific,
    /// ah: a third-party copy stopped.
    CopyAborted,
    /// bh: the device aborted the command; it may be tried again.
    AbortedCommand,
    /// ch: reserved.
    Reserved,
    /// dh: data is left in the buffer at the end of the medium.
    VolumeOverflow,
    /// eh: data differ from those on the medium.
    Miscompare,
    /// fh: a sense descriptor has the result of a command that is done.
    Completed,
}

impl SenseKey {
    /// The sense keys in the order of their numbers.
    pub const ALL: [SenseKey; 16] = [
        SenseKey::NoSense,
        SenseKey::RecoveredError,
        SenseKey::NotReady,
        SenseKey::MediumError,
        SenseKey::HardwareError,
        SenseKey::IllegalRequest,
        SenseKey::UnitAttention,
        SenseKey::DataProtect,
        SenseKey::BlankCheck,
        SenseKey::VendorSpecific,
        SenseKey::CopyAborted,
        SenseKey::AbortedCommand,
        SenseKey::Reserved,
        SenseKey::VolumeOverflow,
        SenseKey::Miscompare,
        SenseKey::Completed,
    ];

    /// The key in the low four bits of a byte; the high ones are other fields.
    #[must_use]
    pub const fn from_low_bits(byte: u8) -> Self {
        match byte & 0x0f {
            0x0 => SenseKey::NoSense,
            0x1 => SenseKey::RecoveredError,
            0x2 => SenseKey::NotReady,
            0x3 => SenseKey::MediumError,
            0x4 => SenseKey::HardwareError,
            0x5 => SenseKey::IllegalRequest,
            0x6 => SenseKey::UnitAttention,
            0x7 => SenseKey::DataProtect,
            0x8 => SenseKey::BlankCheck,
            0x9 => SenseKey::VendorSpecific,
            0xa => SenseKey::CopyAborted,
            0xb => SenseKey::AbortedCommand,
            0xc => SenseKey::Reserved,
            0xd => SenseKey::VolumeOverflow,
            0xe => SenseKey::Miscompare,
            _ => SenseKey::Completed,
        }
    }

    /// The number on the wire, 0 to 15.
    #[must_use]
    pub const fn code(self) -> u8 {
        // The variants stand in the order of their numbers; a test holds that.
        self as u8
    }
}

impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SenseKey::NoSense => "NO SENSE",
            SenseKey::RecoveredError => "RECOVERED ERROR",
            SenseKey::NotReady => "NOT READY",
            SenseKey::MediumError => "MEDIUM ERROR",
            SenseKey::HardwareError => "HARDWARE ERROR",
            SenseKey::IllegalRequest => "ILLEGAL REQUEST",
            SenseKey::UnitAttention => "UNIT ATTENTION",
            SenseKey::DataProtect => "DATA PROTECT",
            SenseKey::BlankCheck => "BLANK CHECK",
            SenseKey::VendorSpecific => "VENDOR SPECIFIC",
            SenseKey::CopyAborted => "COPY ABORTED",
            SenseKey::AbortedCommand => "ABORTED COMMAND",
            SenseKey::Reserved => "RESERVED SENSE KEY",
            SenseKey::VolumeOverflow => "VOLUME OVERFLOW",
            SenseKey::Miscompare => "MISCOMPARE",
            SenseKey::Completed => "COMPLETED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_key() {
        for (code, key) in (0..).zip(SenseKey::ALL) {
            assert_eq!(key.code(), code);
            assert_eq!(SenseKey::from_low_bits(0xf0 | code), key);
        }
    }
}
