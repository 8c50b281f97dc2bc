// SPDX-License-Identifier: MIT OR Apache-2.0

//! Identifiers of SCSI transport protocols.

use std::fmt;

/// PROTOCOL IDENTIFIER, 0 to 15 (SPC-4, 7.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProtocolIdentifier(u8);

impl ProtocolIdentifier {
    /// Fibre Channel.
    pub const FCP: ProtocolIdentifier = ProtocolIdentifier(0x0);
    /// Parallel SCSI.
    pub const SPI: ProtocolIdentifier = ProtocolIdentifier(0x1);
    /// Serial Storage Architecture.
    pub const SSA: ProtocolIdentifier = ProtocolIdentifier(0x2);
    /// Serial Bus Protocol on IEEE 1394.
    pub const SBP: ProtocolIdentifier = ProtocolIdentifier(0x3);
    /// SCSI RDMA Protocol.
    pub const SRP: ProtocolIdentifier = ProtocolIdentifier(0x4);
    /// iSCSI.
    pub const ISCSI: ProtocolIdentifier = ProtocolIdentifier(0x5);
    /// Serial Attached SCSI.
    pub const SAS: ProtocolIdentifier = ProtocolIdentifier(0x6);
    /// Automation/Drive Interface Transport.
    pub const ADT: ProtocolIdentifier = ProtocolIdentifier(0x7);
    /// AT Attachment Interface.
    pub const ATA: ProtocolIdentifier = ProtocolIdentifier(0x8);
    /// USB Attached SCSI.
    pub const UAS: ProtocolIdentifier = ProtocolIdentifier(0x9);
    /// SCSI over PCI Express.
    pub const SOP: ProtocolIdentifier = ProtocolIdentifier(0xa);
    /// PCI Express protocols (SPC-5).
    pub const PCIE: ProtocolIdentifier = ProtocolIdentifier(0xb);
    /// No specific protocol.
    pub const NONE: ProtocolIdentifier = ProtocolIdentifier(0xf);

    /// Returns the identifier in the low four bits of byte 0 of a TransportID. The high bits are
    /// other fields.
    #[must_use]
    pub const fn from_low_bits(byte: u8) -> Self {
        ProtocolIdentifier(byte & 0x0f)
    }

    /// Returns the number on the wire, 0 to 15.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Returns `true` if SPC-4 defines the layout of a TransportID of this protocol.
    #[must_use]
    pub const fn has_layout(self) -> bool {
        matches!(
            self,
            ProtocolIdentifier::FCP
                | ProtocolIdentifier::SPI
                | ProtocolIdentifier::SBP
                | ProtocolIdentifier::SRP
                | ProtocolIdentifier::ISCSI
                | ProtocolIdentifier::SAS
                | ProtocolIdentifier::SOP
        )
    }
}

impl fmt::Display for ProtocolIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            ProtocolIdentifier::FCP => "Fibre Channel",
            ProtocolIdentifier::SPI => "parallel SCSI",
            ProtocolIdentifier::SSA => "SSA",
            ProtocolIdentifier::SBP => "IEEE 1394",
            ProtocolIdentifier::SRP => "SRP",
            ProtocolIdentifier::ISCSI => "iSCSI",
            ProtocolIdentifier::SAS => "SAS",
            ProtocolIdentifier::ADT => "ADT",
            ProtocolIdentifier::ATA => "ATA",
            ProtocolIdentifier::UAS => "UAS",
            ProtocolIdentifier::SOP => "SOP",
            ProtocolIdentifier::PCIE => "PCIe",
            ProtocolIdentifier::NONE => "no specific protocol",
            ProtocolIdentifier(code) => return write!(f, "protocol {code:x}h (reserved)"),
        })
    }
}
