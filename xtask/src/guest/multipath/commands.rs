//! PERSISTENT RESERVE OUT commands, right and wrong ones, byte by byte (SPC-4, 6.16).

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

/// A command: how the protocol with QEMU carries it.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) cdb: [u8; 16],
    pub(super) list: Vec<u8>,
}

impl Order {
    /// One with this byte of scope and type.
    pub(super) fn new(action: u8, scope_type: u8, list: Vec<u8>) -> Self {
        let mut cdb = [0; 16];
        cdb[..3].copy_from_slice(&[0x5f, action, scope_type]);
        let length = u16::try_from(list.len()).unwrap_or(u16::MAX);
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        Self { cdb, list }
    }

    /// The same with flags in byte 20.
    pub(super) fn flags(mut self, flags: u8) -> Self {
        self.list[20] |= flags;
        self
    }

    /// The same with a list that is cut off, or has zeros behind it.
    pub(super) fn length(mut self, length: u16) -> Self {
        self.list.resize(length.into(), 0);
        Self::new(self.cdb[1], self.cdb[2], self.list)
    }
}

/// Any service action with the basic parameter list.
pub(super) fn out(action: u8, scope_type: u8, key: u64, new: u64) -> Order {
    let keys = [key.to_be_bytes(), new.to_be_bytes()].concat();
    let mut list = vec![0; 24];
    list[..16].copy_from_slice(&keys);
    Order::new(action, scope_type, list)
}

pub(super) fn register(key: u64, new: u64) -> Order {
    out(0, 0, key, new)
}

pub(super) fn reserve(key: u64, kind: u8) -> Order {
    out(1, kind, key, 0)
}

pub(super) fn release(key: u64, kind: u8) -> Order {
    out(2, kind, key, 0)
}

pub(super) fn clear(key: u64) -> Order {
    out(3, 0, key, 0)
}

pub(super) fn preempt(key: u64, victim: u64, kind: u8) -> Order {
    out(4, kind, key, victim)
}

pub(super) fn register_and_ignore(new: u64) -> Order {
    out(6, 0, 0, new)
}

/// REGISTER with `SPEC_I_PT`, for a SAS port too.
pub(super) fn register_with(new: u64, address: u64) -> Order {
    let mut list = register(0, new).flags(SPEC_I_PT).list;
    let id = sas(address);
    list.extend([0, 0, 0, 24]);
    list.extend(id);
    Order::new(0, 0, list)
}

/// REGISTER AND MOVE to a SAS port by a target port.
pub(super) fn register_and_move(key: u64, new: u64, flags: u8, target: u16, address: u64) -> Order {
    let mut list = [key.to_be_bytes(), new.to_be_bytes()].concat();
    list.extend([0, flags]);
    list.extend(target.to_be_bytes());
    list.extend([0, 0, 0, 24]);
    list.extend(sas(address));
    Order::new(7, 0, list)
}

/// The address of the initiator that the target's loopback fabric has for a port.
pub(super) fn address(port: u32) -> u64 {
    // Its two last digits are decimal.
    0x5001_4050_0000_0000 + u64::from(port / 10 * 16 + port % 10)
}

/// A TransportID (SPC-4, 7.6.4.7).
fn sas(address: u64) -> Vec<u8> {
    let mut id = vec![0; 24];
    id[0] = 0x06;
    id[4..12].copy_from_slice(&address.to_be_bytes());
    id
}
