// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parameter lists and parameter data of persistent reservations, encoded by hand from SPC-4.

/// The SAS addresses of the two initiator ports.
pub(super) const INITIATORS: [u64; 2] = [0x5001_4050_0000_0001, 0x5001_4050_0000_0002];

/// The relative identifiers of the target ports that they are connected to.
pub(super) const TARGETS: [u16; 2] = [1, 2];

/// A reservation type; its code is in the low half of byte 2 of the CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) code: u8,
    /// Others can read.
    pub(super) reads_allowed: bool,
    /// Registrants can read and write.
    pub(super) registrants_allowed: bool,
    /// All registrants hold the reservation.
    pub(super) all_hold: bool,
}

const fn kind(name: &'static str, code: u8, reads: bool, registrants: bool, all: bool) -> Type {
    Type {
        name,
        code,
        reads_allowed: reads,
        registrants_allowed: registrants,
        all_hold: all,
    }
}

pub(super) const WRITE_EXCLUSIVE: Type = kind("write_exclusive", 1, true, false, false);
pub(super) const EXCLUSIVE: Type = kind("exclusive_access", 3, false, false, false);
pub(super) const WRITE_REGISTRANTS: Type =
    kind("write_exclusive_registrants_only", 5, true, true, false);
pub(super) const EXCLUSIVE_REGISTRANTS: Type =
    kind("exclusive_access_registrants_only", 6, false, true, false);
pub(super) const WRITE_ALL: Type = kind("write_exclusive_all_registrants", 7, true, true, true);
pub(super) const EXCLUSIVE_ALL: Type =
    kind("exclusive_access_all_registrants", 8, false, true, true);

pub(super) const TYPES: [Type; 6] = [
    WRITE_EXCLUSIVE,
    EXCLUSIVE,
    WRITE_REGISTRANTS,
    EXCLUSIVE_REGISTRANTS,
    WRITE_ALL,
    EXCLUSIVE_ALL,
];

/// Flags of byte 20 of the basic parameter list.
pub(super) const APTPL: u8 = 0x01;
pub(super) const ALL_TG_PT: u8 = 0x04;
pub(super) const SPEC_I_PT: u8 = 0x08;

/// Returns the basic parameter list of PERSISTENT RESERVE OUT.
pub(super) fn basic(key: u64, action_key: u64, flags: u8) -> Vec<u8> {
    let mut list = Vec::with_capacity(24);
    list.extend(key.to_be_bytes());
    list.extend(action_key.to_be_bytes());
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

/// Returns the list of REGISTER with `SPEC_I_PT`: the length of the TransportIDs, and the
/// TransportIDs.
pub(super) fn with_transport_ids(key: u64, action_key: u64, ids: &[Vec<u8>]) -> Vec<u8> {
    let mut list = basic(key, action_key, SPEC_I_PT);
    list.extend(length_of(&ids.concat()));
    list.extend(ids.concat());
    list
}

/// Returns the list of REGISTER AND MOVE. Flags: bit 1 unregisters the sender, bit 0 is `APTPL`.
pub(super) fn moving(key: u64, action_key: u64, flags: u8, port: u16, id: &[u8]) -> Vec<u8> {
    let mut list = Vec::with_capacity(24 + id.len());
    list.extend(key.to_be_bytes());
    list.extend(action_key.to_be_bytes());
    list.extend([0, flags]);
    list.extend(port.to_be_bytes());
    list.extend(length_of(id));
    list.extend(id);
    list
}

/// Returns the `TransportID` of a SAS initiator port.
pub(super) fn sas(address: u64) -> Vec<u8> {
    let mut id = vec![0; 24];
    id[0] = 0x06;
    id[4..12].copy_from_slice(&address.to_be_bytes());
    id
}

fn length_of(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Returns the data of READ KEYS.
pub(super) fn keys(generation: u32, keys: &[u64]) -> Vec<u8> {
    let body: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
    with_header(generation, &body)
}

/// Returns the data of READ RESERVATION, with the holder's key and the type if there is a
/// reservation.
pub(super) fn reservation(generation: u32, held: Option<(u64, Type)>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some((key, kind)) = held {
        let key = if kind.all_hold { 0 } else { key };
        body.extend(key.to_be_bytes());
        body.extend([0, 0, 0, 0, 0, kind.code, 0, 0]);
    }
    with_header(generation, &body)
}

/// A registration in the data of READ FULL STATUS.
pub(super) struct Registration {
    pub(super) key: u64,
    pub(super) all_ports: bool,
    pub(super) held: Option<Type>,
    /// Index of its initiator port.
    pub(super) port: usize,
}

/// Returns the data of READ FULL STATUS.
pub(super) fn full_status(generation: u32, registrations: &[Registration]) -> Vec<u8> {
    let mut body = Vec::new();
    for registration in registrations {
        let id = sas(INITIATORS[registration.port]);
        body.extend(registration.key.to_be_bytes());
        body.extend([0; 4]);
        body.push(u8::from(registration.all_ports) << 1 | u8::from(registration.held.is_some()));
        body.push(registration.held.map_or(0, |kind| kind.code));
        body.extend([0; 4]);
        // The identifier is 0 for a registration on all target ports.
        let target = if registration.all_ports {
            0
        } else {
            TARGETS[registration.port]
        };
        body.extend(target.to_be_bytes());
        body.extend(length_of(&id));
        body.extend(id);
    }
    with_header(generation, &body)
}

fn with_header(generation: u32, body: &[u8]) -> Vec<u8> {
    let mut data = generation.to_be_bytes().to_vec();
    data.extend(length_of(body));
    data.extend(body);
    data
}
