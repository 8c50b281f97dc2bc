// SPDX-License-Identifier: MIT OR Apache-2.0

//! Encodes PERSISTENT RESERVE OUT commands, valid and invalid ones (SPC-4, 6.16).

/// Flags in byte 20 of the parameter list.
pub(super) const APTPL: u8 = 0x01;
pub(super) const ALL_TG_PT: u8 = 0x04;
pub(super) const SPEC_I_PT: u8 = 0x08;

/// UNREG, in byte 17 of the parameter list of REGISTER AND MOVE.
pub(super) const UNREG: u8 = 0x02;

/// Write Exclusive, Write Exclusive - Registrants Only, Write Exclusive - All Registrants.
pub(super) const EXCLUSIVE: u8 = 1;
pub(super) const REGISTRANTS: u8 = 5;
pub(super) const ALL: u8 = 7;

/// A command in the encoding of the helper's protocol.
#[derive(Clone)]
pub(super) struct PrOutCommand {
    pub(super) cdb: [u8; 16],
    pub(super) parameter_list: Vec<u8>,
}

impl PrOutCommand {
    /// Creates a command with this byte of scope and type.
    pub(super) fn new(action: u8, scope_type: u8, parameter_list: Vec<u8>) -> Self {
        let mut cdb = [0; 16];
        cdb[..3].copy_from_slice(&[0x5f, action, scope_type]);
        let length = u16::try_from(parameter_list.len()).unwrap_or(u16::MAX);
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        Self {
            cdb,
            parameter_list,
        }
    }

    /// Sets flags in byte 20.
    pub(super) fn flags(mut self, flags: u8) -> Self {
        self.parameter_list[20] |= flags;
        self
    }

    /// Truncates the parameter list or extends it with zeros.
    pub(super) fn length(mut self, length: u16) -> Self {
        self.parameter_list.resize(length.into(), 0);
        Self::new(self.cdb[1], self.cdb[2], self.parameter_list)
    }
}

/// Creates a command of any service action with the basic parameter list.
pub(super) fn out(action: u8, scope_type: u8, key: u64, new: u64) -> PrOutCommand {
    let keys = [key.to_be_bytes(), new.to_be_bytes()].concat();
    let mut parameter_list = vec![0; 24];
    parameter_list[..16].copy_from_slice(&keys);
    PrOutCommand::new(action, scope_type, parameter_list)
}

pub(super) fn register(key: u64, new: u64) -> PrOutCommand {
    out(0, 0, key, new)
}

pub(super) fn reserve(key: u64, kind: u8) -> PrOutCommand {
    out(1, kind, key, 0)
}

pub(super) fn release(key: u64, kind: u8) -> PrOutCommand {
    out(2, kind, key, 0)
}

pub(super) fn clear(key: u64) -> PrOutCommand {
    out(3, 0, key, 0)
}

pub(super) fn preempt(key: u64, victim: u64, kind: u8) -> PrOutCommand {
    out(4, kind, key, victim)
}

pub(super) fn register_and_ignore(new: u64) -> PrOutCommand {
    out(6, 0, 0, new)
}

/// Creates REGISTER with `SPEC_I_PT`, which also registers a SAS port.
pub(super) fn register_with(new: u64, address: u64) -> PrOutCommand {
    let mut parameter_list = register(0, new).flags(SPEC_I_PT).parameter_list;
    let id = sas(address);
    parameter_list.extend([0, 0, 0, 24]);
    parameter_list.extend(id);
    PrOutCommand::new(0, 0, parameter_list)
}

/// Creates REGISTER AND MOVE to a SAS port and a target port.
pub(super) fn register_and_move(
    key: u64,
    new: u64,
    flags: u8,
    target: u16,
    address: u64,
) -> PrOutCommand {
    let mut parameter_list = [key.to_be_bytes(), new.to_be_bytes()].concat();
    parameter_list.extend([0, flags]);
    parameter_list.extend(target.to_be_bytes());
    parameter_list.extend([0, 0, 0, 24]);
    parameter_list.extend(sas(address));
    PrOutCommand::new(7, 0, parameter_list)
}

/// Returns the SAS address of a port's initiator in the target's loopback fabric.
pub(super) fn sas_address(port: u32) -> u64 {
    // The last two digits are decimal.
    0x5001_4050_0000_0000 + u64::from(port / 10 * 16 + port % 10)
}

/// Returns the TransportID of a SAS port (SPC-4, 7.6.4.7).
fn sas(address: u64) -> Vec<u8> {
    let mut id = vec![0; 24];
    id[0] = 0x06;
    id[4..12].copy_from_slice(&address.to_be_bytes());
    id
}
