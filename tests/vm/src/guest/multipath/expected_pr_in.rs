// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replies of PERSISTENT RESERVE IN, and the differences that two paths cause.
//!
//! A difference is accepted only if the map's reply is the one that follows from the reply of the
//! single path.

use std::fmt;

use scsi_pr::{FullStatus, FullStatusDescriptor, Keys, ReservationData};

use super::device::Reply;
use super::table::Expected;

/// Allocation lengths. The last one is enough for all data, and is used in every state. Replies to
/// shorter ones depend on the state only by the data, and are compared for each size of the data.
pub(super) const ALLOCATIONS: [u16; 5] = [0, 8, 24, 255, 8192];

pub(super) const GENERATION: &str =
    "PRgeneration counts changes of the unit, and each path registers separately";
pub(super) const NEXUSES: &str =
    "each path is an I_T nexus with a registration of its own, with the same key";

/// Replies of one service action for each allocation length.
#[derive(PartialEq, Eq)]
pub(super) struct Replies {
    pub(super) action: u8,
    pub(super) replies: Vec<Reply>,
}

/// `I_T` nexuses of the guest and of the other host at both endpoints.
pub(super) struct Nexuses {
    /// Port number of the single path.
    pub(super) single: u32,
    /// Port numbers of the map's paths.
    pub(super) map: Vec<u32>,
    /// Port numbers of the other host at both endpoints.
    pub(super) others: [u32; 2],
    /// Key of the guest on the single path.
    pub(super) key: Option<u64>,
}

impl Nexuses {
    /// Returns the expectation for two replies.
    pub(super) fn expect(&self, single: &Replies, map: &Replies) -> Expected {
        if single == map {
            return Expected::Same;
        }
        // If the guest is registered, the map must have more registrations.
        let is_listed = matches!(single.action, 0 | 3) && self.key.is_some();
        if !is_listed && without_generation(single) == without_generation(map) {
            return Expected::Different(GENERATION);
        }
        let is_alike = single.without_lengths() == map.without_lengths();
        let follows = match single.action {
            0 => self.keys_follow(single, map),
            3 => self.registrations_follow(single, map),
            _ => None,
        };
        match is_alike && follows == Some(true) {
            true => Expected::Different(NEXUSES),
            false => Expected::Same,
        }
    }

    /// The map's keys are those of the single path, plus the guest's key for each further path.
    fn keys_follow(&self, single: &Replies, map: &Replies) -> Option<bool> {
        let keys = |replies: &Replies| -> Option<Vec<u64>> {
            let keys = Keys::decode(replies.complete_data()?)
                .ok()?
                .complete()?
                .keys;
            let mut keys: Vec<_> = keys.iter().map(|key| key.get()).collect();
            keys.sort_unstable();
            Some(keys)
        };
        let mut expected = keys(single)?;
        expected.extend(self.map.iter().skip(1).filter_map(|_| self.key));
        expected.sort_unstable();
        Some(expected == keys(map)?)
    }

    /// Each path of the map has the registration of the single path, and the reservation is held as
    /// on the single path. The other host has the same registration.
    fn registrations_follow(&self, single: &Replies, map: &Replies) -> Option<bool> {
        let all =
            |replies: &Replies| Some(decode_full_status(replies.complete_data()?)?.descriptors);
        let (single, map) = (all(single)?, all(map)?);
        let of = |all: &[FullStatusDescriptor], port| {
            let found = all
                .iter()
                .find(|registration| port_of(registration) == Some(port));
            found.cloned()
        };
        let facts = |registration: FullStatusDescriptor| {
            let held = registration.holder.then_some(registration.scope_type);
            (registration.key, registration.all_tg_pt, held)
        };
        let others: Vec<_> = [(&single, self.others[0]), (&map, self.others[1])]
            .map(|(all, port)| of(all, port).map(facts))
            .into();
        let own = of(&single, self.single).map(facts);
        let ours: Vec<_> = self
            .map
            .iter()
            .filter_map(|&port| of(&map, port).map(facts))
            .collect();
        let Some((key, all_tg_pt, held)) = own else {
            return Some(others[0] == others[1] && ours.is_empty());
        };
        let holders = ours
            .iter()
            .filter(|registration| registration.2.is_some())
            .count();
        let expected_holders = match held.and_then(scsi_pr::ScopeType::reservation_type) {
            None => 0,
            Some(kind) if kind.is_all_registrants() => ours.len(),
            Some(_) => 1,
        };
        let are_consistent = ours.iter().all(|registration| {
            registration.0 == key
                && registration.1 == all_tg_pt
                && (registration.2.is_none() || registration.2 == held)
        });
        let has_all = single.len() + self.map.len() - 1 == map.len();
        let has_each_path = ours.len() == self.map.len();
        Some(
            others[0] == others[1]
                && are_consistent
                && has_all
                && has_each_path
                && holders == expected_holders,
        )
    }
}

/// Returns the port of a registration, from the SAS address in the loopback fabric.
pub(super) fn port_of(registration: &FullStatusDescriptor) -> Option<u32> {
    let id = registration.transport_id.as_ref().ok()?.to_string();
    let number = id.strip_prefix("sas,50014050000000")?;
    number.parse().ok()
}

fn decode_full_status(data: &[u8]) -> Option<FullStatus> {
    FullStatus::decode(data).ok()?.complete()
}

/// Returns the replies with PRgeneration 0.
fn without_generation(replies: &Replies) -> Vec<Reply> {
    let has_none = replies.action == 2;
    let zeroed = |reply: &Reply| match reply {
        Reply::Response {
            status: 0,
            sense,
            data,
        } if !has_none && data.len() >= 4 => Reply::Response {
            status: 0,
            sense: sense.clone(),
            data: [&[0; 4], &data[4..]].concat(),
        },
        reply => reply.clone(),
    };
    replies.replies.iter().map(zeroed).collect()
}

impl Replies {
    /// Returns the data of the largest allocation length if the status is GOOD.
    pub(super) fn complete_data(&self) -> Option<&[u8]> {
        match self.replies.last() {
            Some(Reply::Response {
                status: 0, data, ..
            }) => Some(data),
            _ => None,
        }
    }

    /// Returns PRgeneration if the data has it.
    pub(super) fn generation(&self) -> Option<u32> {
        let bytes = self.complete_data().filter(|_| self.action != 2)?;
        bytes.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// Returns the results without anything that depends on the amount of data.
    fn without_lengths(&self) -> Vec<(Option<[u8; 3]>, bool)> {
        let facts = |reply: &Reply| (reply.sense(), reply.is_good());
        self.replies.iter().map(facts).collect()
    }
}

impl fmt::Display for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reply in &self.replies {
            match reply {
                Reply::Response {
                    status: 0, data, ..
                } => write!(f, "{} ", data.len())?,
                reply => write!(f, "{reply} ")?,
            }
        }
        let Some(data) = self.complete_data() else {
            return Ok(());
        };
        let text = match self.action {
            0 => keys_text(data),
            1 => reservation_text(data),
            3 => decode_full_status(data).map(|status| full_text(&status)),
            _ => None,
        };
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{data:02x?}"),
        }
    }
}

fn keys_text(data: &[u8]) -> Option<String> {
    let all = Keys::decode(data).ok()?.complete()?;
    let keys: String = all
        .keys
        .iter()
        .map(|key| format!(" {:x}", key.get()))
        .collect();
    Some(format!("gen {}:{keys}", all.generation.get()))
}

fn reservation_text(data: &[u8]) -> Option<String> {
    let all = ReservationData::decode(data).ok()?;
    let held = match all.reservation {
        None => "none".to_owned(),
        Some(held) => format!("{:x} type {:x}", held.key.get(), held.scope_type.0),
    };
    Some(format!("gen {}: {held}", all.generation.get()))
}

fn full_text(status: &FullStatus) -> String {
    let registration = |registration: &FullStatusDescriptor| {
        let port = port_of(registration).map_or_else(|| "?".to_owned(), |port| port.to_string());
        let all_tg_pt = if registration.all_tg_pt {
            " all_tg_pt"
        } else {
            ""
        };
        let held = match registration.holder {
            true => format!(" holds {:x}", registration.scope_type.0),
            false => String::new(),
        };
        format!(" {:x}@{port}{all_tg_pt}{held}", registration.key.get())
    };
    let all: String = status.descriptors.iter().map(registration).collect();
    format!("gen {}:{all}", status.generation.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXUSES_OF_A1: Nexuses = Nexuses {
        single: 5,
        map: Vec::new(),
        others: [6, 3],
        key: Some(0xa1),
    };

    fn replies(action: u8, data: &[u8]) -> Replies {
        let replies = vec![Reply::Response {
            status: 0,
            sense: Vec::new(),
            data: data.to_owned(),
        }];
        Replies { action, replies }
    }

    fn keys(generation: u32, keys: &[u64]) -> Replies {
        let keys = Keys {
            generation: scsi_pr::PrGeneration::new(generation),
            keys: keys.iter().map(|&key| key.into()).collect(),
        };
        replies(0, &keys.encode())
    }

    /// Registrations: key, port, and whether it holds the reservation.
    fn registrations(all: &[(u64, u32, bool)]) -> Replies {
        let registration = |&(key, port, holder): &(u64, u32, bool)| FullStatusDescriptor {
            key: key.into(),
            all_tg_pt: false,
            holder,
            scope_type: scsi_pr::ScopeType(if holder { 5 } else { 0 }),
            relative_target_port: scsi_pr::RelativeTargetPort::new(1),
            transport_id: Ok(format!("sas,50014050000000{port:02}").parse().unwrap()),
        };
        let status = FullStatus {
            descriptors: all.iter().map(registration).collect(),
            ..FullStatus::default()
        };
        replies(3, &status.encode())
    }

    fn reason(single: &Replies, map: &Replies) -> Option<&'static str> {
        let nexuses = Nexuses {
            map: vec![1, 2],
            ..NEXUSES_OF_A1
        };
        match nexuses.expect(single, map) {
            Expected::Same => None,
            Expected::Different(reason) => Some(reason),
        }
    }

    #[test]
    fn one_key_for_each_path_is_accepted() {
        let single = keys(1, &[0xb2, 0xa1]);
        assert_eq!(
            reason(&single, &keys(9, &[0xb2, 0xa1, 0xa1])),
            Some(NEXUSES)
        );
        for wrong in [
            &[0xb2, 0xa1, 0xa1, 0xa1][..],
            &[0xb2, 0xb2, 0xa1],
            &[0xa1, 0xa1],
            &[0xb2],
        ] {
            assert_eq!(reason(&single, &keys(9, wrong)), None, "{wrong:x?}");
        }
        assert_eq!(reason(&single, &keys(9, &[0xb2, 0xa1])), None);
    }

    #[test]
    fn one_registration_for_each_path_is_accepted() {
        let single = registrations(&[(0xa1, 5, true), (0xb2, 6, false)]);
        let right = [(0xa1, 1, true), (0xa1, 2, false), (0xb2, 3, false)];
        assert_eq!(reason(&single, &registrations(&right)), Some(NEXUSES));
        for (index, wrong) in [
            (0, (0xa2, 1, true)),
            (0, (0xa1, 1, false)),
            (1, (0xa1, 2, true)),
            (1, (0xa1, 4, false)),
            (2, (0xb2, 3, true)),
            (2, (0xb3, 3, false)),
        ] {
            let mut all = right;
            all[index] = wrong;
            assert_eq!(reason(&single, &registrations(&all)), None, "{wrong:x?}");
        }
        assert_eq!(reason(&single, &registrations(&right[..2])), None);
    }
}
