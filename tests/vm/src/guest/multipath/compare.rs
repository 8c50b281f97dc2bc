// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs the scenarios through the helper on a single path and on a map, and compares each step.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;

use super::device::{Device, Reply};
use super::endpoint::{Endpoint, registrations};
use super::expected_pr_in::{ALLOCATIONS, Nexuses, Replies};
use super::scenarios::{self, Scenario, Step};
use super::table::{Expected, Table};

/// Names of the valid service actions of PERSISTENT RESERVE IN.
const ACTIONS: [&str; 4] = [
    "READ KEYS",
    "READ RESERVATION",
    "REPORT CAPABILITIES",
    "READ FULL STATUS",
];

/// A reserved service action.
const RESERVED: u8 = 0x1f;

/// A command's reply, and the unit attentions of the other host after it.
#[derive(PartialEq, Eq)]
struct Observation {
    reply: Reply,
    unit_attentions: Vec<Reply>,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reply)?;
        for attention in &self.unit_attentions {
            write!(f, ", other host: {attention}")?;
        }
        Ok(())
    }
}

/// Runs all scenarios and adds rows to the table.
pub(super) fn run(single: &mut Endpoint, map: &mut Endpoint, table: &mut Table) -> Result<()> {
    let mut comparison = Comparison {
        single,
        map,
        table,
        sizes: BTreeSet::new(),
        count: 0,
    };
    for scenario in scenarios::all() {
        comparison.run(&scenario)?;
    }
    let count = comparison.count;
    println!(
        "guest: {count} replies of PERSISTENT RESERVE IN compared with direct replies of a path"
    );
    Ok(())
}

/// The comparison of all scenarios.
struct Comparison<'a> {
    single: &'a mut Endpoint,
    map: &'a mut Endpoint,
    table: &'a mut Table,
    /// Service actions and sizes of the complete data that were read with all allocation lengths,
    /// and whether the guest was registered.
    sizes: BTreeSet<(u8, usize, bool)>,
    /// Number of replies compared with direct replies.
    count: usize,
}

impl Comparison<'_> {
    fn run(&mut self, scenario: &Scenario) -> Result<()> {
        self.single.clean()?;
        self.map.clean()?;
        let name = &scenario.name;
        let mut generations = [None, None];
        for step in &scenario.steps {
            match step {
                Step::Guest(what, make) => {
                    let [one, two] = self.endpoints().map(|endpoint| {
                        let pr_out = make(endpoint);
                        let reply = endpoint.guest.reserve_out(&pr_out)?;
                        let unit_attentions = endpoint.other.1.unit_attentions()?;
                        anyhow::Ok(Observation {
                            reply,
                            unit_attentions,
                        })
                    });
                    let case = format!("{name}: {what}");
                    self.table.add(case, &one?, &two?, Expected::Same);
                }
                Step::Other(what, pr_out) => {
                    let [one, two] = self
                        .endpoints()
                        .map(|endpoint| endpoint.other.1.reserve_out(pr_out));
                    let case = format!("{name}: other host: {what}");
                    self.table.add(case, &one, &two, Expected::Same);
                    // The guest's unit attentions have a table of their own.
                    self.single.drain_guest()?;
                    self.map.drain_guest()?;
                }
                Step::State => self.compare_state(name, &mut generations)?,
            }
        }
        Ok(())
    }

    fn endpoints(&mut self) -> [&mut Endpoint; 2] {
        [&mut *self.single, &mut *self.map]
    }

    /// Reads the state with all service actions and compares it; also compares it with replies of
    /// the paths without the helper.
    fn compare_state(&mut self, scenario: &str, generations: &mut [Option<u32>; 2]) -> Result<()> {
        let nexuses = nexuses(self.single, self.map)?;
        for action in (0..4).chain([RESERVED]) {
            let what = ACTIONS.get(usize::from(action)).unwrap_or(&"reserved");
            let allocations = self.allocations(action, nexuses.key.is_some())?;
            let [one, two] = self.endpoints().map(|endpoint| {
                let reply = read_in(action, allocations, |allocation| {
                    endpoint.guest.reserve_in(action, allocation)
                })?;
                let direct = read_directly(action, allocations, &endpoint.paths[0].1)?;
                anyhow::Ok((reply, direct))
            });
            let (one, two) = (one?, two?);
            for (label, (reply, direct)) in [("single", &one), ("map", &two)] {
                self.count += reply.replies.len();
                if reply != direct {
                    let case =
                        format!("{scenario}: {what}, {label}: directly | through the helper");
                    self.table.add(case, direct, reply, Expected::Same);
                }
            }
            let expected = nexuses.expect(&one.0, &two.0);
            let case = format!("{scenario}: {what}");
            self.table.add(case, &one.0, &two.0, expected);
            if action == 0 {
                let now = [one.0.generation(), two.0.generation()];
                compare_generations(scenario, *generations, now, self.table);
                *generations = now;
            }
        }
        Ok(())
    }

    /// Returns the allocation lengths for a service action: all of them for each size of its data,
    /// and the largest one afterwards. A registered guest has more data on the map.
    fn allocations(&mut self, action: u8, is_registered: bool) -> Result<&'static [u16]> {
        let largest = &ALLOCATIONS[ALLOCATIONS.len() - 1..];
        let direct = read_directly(action, largest, &self.single.paths[0].1)?;
        let size = direct.complete_data().map_or(0, <[u8]>::len);
        Ok(match self.sizes.insert((action, size, is_registered)) {
            true => &ALLOCATIONS,
            false => largest,
        })
    }
}

/// Compares PRgeneration: if it increases at one endpoint, it must increase at the other.
fn compare_generations(
    scenario: &str,
    before: [Option<u32>; 2],
    now: [Option<u32>; 2],
    table: &mut Table,
) {
    if before == [None, None] {
        return;
    }
    let [single, map] = [0, 1].map(|endpoint| match before[endpoint] == now[endpoint] {
        true => "unchanged",
        false => "increased",
    });
    table.add(
        format!("{scenario}: PRgeneration"),
        &single,
        &map,
        Expected::Same,
    );
}

fn nexuses(single: &Endpoint, map: &Endpoint) -> Result<Nexuses> {
    let (number, path) = &single.paths[0];
    let key = registrations(path)?
        .descriptors
        .iter()
        .find(|one| super::expected_pr_in::port_of(one) == Some(*number))
        .map(|one| one.key.get());
    Ok(Nexuses {
        single: *number,
        map: map.paths.iter().map(|(number, _)| *number).collect(),
        others: [single.other.0, map.other.0],
        key,
    })
}

fn read_in(
    action: u8,
    allocations: &[u16],
    read: impl FnMut(u16) -> Result<Reply>,
) -> Result<Replies> {
    let replies = allocations.iter().copied().map(read);
    Ok(Replies {
        action,
        replies: replies.collect::<Result<_>>()?,
    })
}

fn read_directly(action: u8, allocations: &[u16], path: &Device) -> Result<Replies> {
    read_in(action, allocations, |allocation| {
        Ok(path.reserve_in(action, allocation))
    })
}
