//! What PERSISTENT RESERVE IN answers, in short, and which differences two paths make unavoidable.
//!
//! Such a difference is not taken as given: from the answer of the single path it follows what the map has
//! to answer, and that is what is compared.

use std::fmt;

use scsi_pr::{FullStatus, FullStatusDescriptor, Keys, ReservationData};

use super::device::Reply;
use super::table::Expected;

/// The allocation lengths that are asked with. The last has room for everything.
pub(super) const ALLOCATIONS: [u16; 5] = [0, 8, 24, 255, 8192];

pub(super) const GENERATION: &str =
    "PRgeneration counts what is done to the unit: a registration is done by each path";
pub(super) const NEXUSES: &str =
    "each path is an I_T nexus, and so has a registration, with the same key";

/// The answers to one service action, one for each allocation length.
#[derive(PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) action: u8,
    pub(super) replies: Vec<Reply>,
}

/// Whose registrations those of the guest are.
pub(super) struct Nexuses {
    /// The numbers of the ports of the side with one path.
    pub(super) single: u32,
    /// Those of the map's paths.
    pub(super) map: Vec<u32>,
    /// Those of the other host, on both sides.
    pub(super) others: [u32; 2],
    /// The key that the guest on the single path has registered.
    pub(super) key: Option<u64>,
}

impl Nexuses {
    /// What the row of these two answers has to be.
    pub(super) fn expect(&self, single: &Answers, map: &Answers) -> Expected {
        if single == map {
            return Expected::Same;
        }
        // Of the registrations that the guest has there must be more.
        let is_listed = matches!(single.action, 0 | 3) && self.key.is_some();
        if !is_listed && without_generation(single) == without_generation(map) {
            return Expected::Different(GENERATION);
        }
        let is_alike = single.lengths_aside() == map.lengths_aside();
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

    /// The keys are those of the single path, and the guest's once more for each path more.
    fn keys_follow(&self, single: &Answers, map: &Answers) -> Option<bool> {
        let keys = |answers: &Answers| -> Option<Vec<u64>> {
            let keys = Keys::decode(answers.longest()?).ok()?.complete()?.keys;
            let mut keys: Vec<_> = keys.iter().map(|key| key.get()).collect();
            keys.sort_unstable();
            Some(keys)
        };
        let mut expected = keys(single)?;
        expected.extend(self.map.iter().skip(1).filter_map(|_| self.key));
        expected.sort_unstable();
        Some(expected == keys(map)?)
    }

    /// Each path of the map has the registration that the single one has, and one of them what only one
    /// can have. The other host's is the same.
    fn registrations_follow(&self, single: &Answers, map: &Answers) -> Option<bool> {
        let all = |answers: &Answers| Some(full(answers.longest()?)?.descriptors);
        let (single, map) = (all(single)?, all(map)?);
        let of = |all: &[FullStatusDescriptor], port| {
            let found = all.iter().find(|one| port_of(one) == Some(port));
            found.cloned()
        };
        let facts = |one: FullStatusDescriptor| {
            let held = one.holder.then_some(one.scope_type);
            (one.key, one.all_tg_pt, held)
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
        let holders = ours.iter().filter(|one| one.2.is_some()).count();
        let must_hold = match held.and_then(scsi_pr::ScopeType::reservation_type) {
            None => 0,
            Some(kind) if kind.is_all_registrants() => ours.len(),
            Some(_) => 1,
        };
        let are_right = ours
            .iter()
            .all(|one| one.0 == key && one.1 == all_tg_pt && (one.2.is_none() || one.2 == held));
        let whole = single.len() + self.map.len() - 1 == map.len();
        let count = ours.len() == self.map.len();
        Some(others[0] == others[1] && are_right && whole && count && holders == must_hold)
    }
}

/// The port whose initiator has this registration, by the address that the loopback fabric gives it.
pub(super) fn port_of(registration: &FullStatusDescriptor) -> Option<u32> {
    let id = registration.transport_id.as_ref().ok()?.to_string();
    let number = id.strip_prefix("sas,50014050000000")?;
    number.parse().ok()
}

fn full(data: &[u8]) -> Option<FullStatus> {
    FullStatus::decode(data).ok()?.complete()
}

/// The same with PRgeneration zero.
fn without_generation(answers: &Answers) -> Vec<Reply> {
    let has_none = answers.action == 2;
    let zeroed = |reply: &Reply| match reply {
        Reply::Answer {
            status: 0,
            sense,
            data,
        } if !has_none && data.len() >= 4 => Reply::Answer {
            status: 0,
            sense: sense.clone(),
            data: [&[0; 4], &data[4..]].concat(),
        },
        reply => reply.clone(),
    };
    answers.replies.iter().map(zeroed).collect()
}

impl Answers {
    fn longest(&self) -> Option<&[u8]> {
        match self.replies.last() {
            Some(Reply::Answer {
                status: 0, data, ..
            }) => Some(data),
            _ => None,
        }
    }

    /// PRgeneration, if there is one.
    pub(super) fn generation(&self) -> Option<u32> {
        let bytes = self.longest().filter(|_| self.action != 2)?;
        bytes.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// All of the answers but what depends on how much there is to tell.
    fn lengths_aside(&self) -> Vec<(Option<[u8; 3]>, bool)> {
        let facts = |reply: &Reply| (reply.sense(), reply.is_good());
        self.replies.iter().map(facts).collect()
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reply in &self.replies {
            match reply {
                Reply::Answer {
                    status: 0, data, ..
                } => write!(f, "{} ", data.len())?,
                reply => write!(f, "{reply} ")?,
            }
        }
        let Some(data) = self.longest() else {
            return Ok(());
        };
        let text = match self.action {
            0 => keys_text(data),
            1 => reservation_text(data),
            3 => full(data).map(|full| full_text(&full)),
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

fn full_text(full: &FullStatus) -> String {
    let one = |one: &FullStatusDescriptor| {
        let port = port_of(one).map_or_else(|| "?".to_owned(), |port| port.to_string());
        let everywhere = if one.all_tg_pt { " everywhere" } else { "" };
        let held = match one.holder {
            true => format!(" holds {:x}", one.scope_type.0),
            false => String::new(),
        };
        format!(" {:x}@{port}{everywhere}{held}", one.key.get())
    };
    let all: String = full.descriptors.iter().map(one).collect();
    format!("gen {}:{all}", full.generation.get())
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

    fn answers(action: u8, data: &[u8]) -> Answers {
        let replies = vec![Reply::Answer {
            status: 0,
            sense: Vec::new(),
            data: data.to_owned(),
        }];
        Answers { action, replies }
    }

    fn keys(generation: u32, keys: &[u64]) -> Answers {
        let keys = Keys {
            generation: scsi_pr::PrGeneration::new(generation),
            keys: keys.iter().map(|&key| key.into()).collect(),
        };
        answers(0, &keys.encode())
    }

    /// Registrations: key, port, whether it holds.
    fn registrations(all: &[(u64, u32, bool)]) -> Answers {
        let one = |&(key, port, holder): &(u64, u32, bool)| FullStatusDescriptor {
            key: key.into(),
            all_tg_pt: false,
            holder,
            scope_type: scsi_pr::ScopeType(if holder { 5 } else { 0 }),
            relative_target_port: scsi_pr::RelativeTargetPort::new(1),
            transport_id: Ok(format!("sas,50014050000000{port:02}").parse().unwrap()),
        };
        let full = FullStatus {
            descriptors: all.iter().map(one).collect(),
            ..FullStatus::default()
        };
        answers(3, &full.encode())
    }

    fn reason(single: &Answers, map: &Answers) -> Option<&'static str> {
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
    fn keys_differ_by_one_for_each_path_and_no_other_way() {
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
    fn registrations_differ_by_one_for_each_path_and_no_other_way() {
        let single = registrations(&[(0xa1, 5, true), (0xb2, 6, false)]);
        let right = [(0xa1, 1, true), (0xa1, 2, false), (0xb2, 3, false)];
        assert_eq!(reason(&single, &registrations(&right)), Some(NEXUSES));
        for (place, wrong) in [
            (0, (0xa2, 1, true)),
            (0, (0xa1, 1, false)),
            (1, (0xa1, 2, true)),
            (1, (0xa1, 4, false)),
            (2, (0xb2, 3, true)),
            (2, (0xb3, 3, false)),
        ] {
            let mut all = right;
            all[place] = wrong;
            assert_eq!(reason(&single, &registrations(&all)), None, "{wrong:x?}");
        }
        assert_eq!(reason(&single, &registrations(&right[..2])), None);
    }
}
