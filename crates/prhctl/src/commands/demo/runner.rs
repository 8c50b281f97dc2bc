// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs the steps, and compares the results with what the standard requires.

use std::os::fd::AsFd as _;

use pr_helper_protocol::wire::pad_cdb;
use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, Keys, PersistentReserveIn, PersistentReserveOut,
    ReservationKey, ReservationType, ScopeType, Sense, SenseKey, Status,
};
use soft_lun::{Access, LogicalUnit};

use super::DemoError;
use super::scenario::{Action, DemoStep, ExpectedResponse, Node, RESERVATION_TYPE};
use super::setup::{DemoSetup, port_name};

/// The result of a step.
#[derive(Debug)]
pub(crate) struct StepResult {
    pub(crate) step: DemoStep,
    /// The response, unless the node sends nothing.
    pub(crate) response: Option<NodeResponse>,
    /// The state after the step.
    pub(crate) state: LunState,
    /// The differences from what the standard requires.
    pub(crate) mismatches: Vec<String>,
}

/// The response to a node's command.
#[derive(Debug)]
pub(crate) struct NodeResponse {
    pub(crate) status: Status,
    /// The sense data of a CHECK CONDITION.
    pub(crate) sense: Option<Sense>,
    /// The keys that READ KEYS returned.
    pub(crate) keys: Option<Vec<ReservationKey>>,
}

impl NodeResponse {
    pub(crate) fn is_good(&self) -> bool {
        self.status == Status::GOOD
    }
}

/// The registrations and the reservation of the disk.
#[derive(Clone, Debug)]
pub(crate) struct LunState {
    /// The registered nodes and their keys, in the order of their registrations.
    pub(crate) registered: Vec<(Node, ReservationKey)>,
    /// The type of the reservation, and its holder unless all registrants are holders.
    pub(crate) reservation: Option<(ReservationType, Option<Node>)>,
    /// The nodes that may write.
    pub(crate) writers: Vec<Node>,
}

/// Runs `steps` up to the first one with a mismatch, and passes each result to `report` at once.
pub(super) fn run(
    setup: &mut DemoSetup<'_>,
    steps: &[DemoStep],
    mut report: impl FnMut(StepResult),
) -> Result<(), DemoError> {
    for step in steps {
        let response = perform(setup, step)?;
        let state = LunState::new(&setup.lun().load()?);
        let mismatches = mismatches(step, response.as_ref(), &state);
        let is_last = !mismatches.is_empty();
        report(StepResult {
            step: *step,
            response,
            state,
            mismatches,
        });
        if is_last {
            break;
        }
    }
    Ok(())
}

fn perform(setup: &mut DemoSetup<'_>, step: &DemoStep) -> Result<Option<NodeResponse>, DemoError> {
    let node = step.node;
    Ok(match step.action {
        Action::Change(service_action, key, action_key) => {
            let list = BasicParameterList {
                reservation_key: key,
                service_action_reservation_key: action_key,
                ..BasicParameterList::default()
            };
            let list = list.encode();
            let reservation_type = step.action.reservation_type();
            let command = PersistentReserveOut {
                service_action,
                scope_type: reservation_type.map(ScopeType::from).unwrap_or_default(),
                parameter_list_length: u32::try_from(list.len()).unwrap_or(u32::MAX),
                control: 0,
            };
            Some(send(setup, node, command.into(), &list)?)
        }
        Action::ReadKeys => {
            let command = PersistentReserveIn {
                service_action: InServiceAction::ReadKeys,
                allocation_length: 1024,
                control: 0,
            };
            Some(send(setup, node, command.into(), &[])?)
        }
        // A write does not go through the helper: the disk itself checks the reservation.
        Action::Write => {
            let response = setup.lun().access(&port_name(node), Access::Write)?;
            Some(NodeResponse {
                status: response.status,
                sense: response.sense,
                keys: None,
            })
        }
        Action::Fail => {
            setup.disconnect(node);
            None
        }
    })
}

/// Sends a command through the helper.
fn send(
    setup: &mut DemoSetup<'_>,
    node: Node,
    command: Cdb,
    list: &[u8],
) -> Result<NodeResponse, DemoError> {
    let (client, port) = setup.connection(node)?;
    let response = client
        .execute(pad_cdb(&command.encode()), port.as_fd(), list)
        .map_err(DemoError::Send)?;
    let is_good = response.status == Status::GOOD;
    let keys = Keys::decode(&response.data).ok();
    let keys = keys.filter(|_| is_good && matches!(command, Cdb::In(_)));
    Ok(NodeResponse {
        status: response.status,
        sense: Sense::decode(&response.sense).ok().filter(|_| !is_good),
        keys: keys.map(|keys| keys.value.keys),
    })
}

impl LunState {
    /// Returns the state of a new disk.
    pub(super) fn initial() -> Self {
        LunState {
            registered: Vec::new(),
            reservation: None,
            writers: Node::ALL.to_vec(),
        }
    }

    fn new(unit: &LogicalUnit) -> Self {
        // The setup creates one port for each node, in this order.
        let nexuses = unit.nexuses().map(|(nexus, _)| nexus);
        let nodes: Vec<_> = nexuses.zip(Node::ALL).collect();
        let node_of = |wanted| {
            let mut nodes = nodes.iter();
            nodes.find_map(|(nexus, node)| (*nexus == wanted).then_some(*node))
        };
        let registrations = unit.registrations().iter();
        let reservation = unit.reservation();
        let writers = nodes.iter().filter(|(nexus, _)| unit.can_write(*nexus));
        LunState {
            registered: registrations
                .filter_map(|registration| Some((node_of(registration.nexus)?, registration.key)))
                .collect(),
            reservation: reservation.map(|held| (held.kind(), held.holder().and_then(node_of))),
            writers: writers.map(|(_, node)| *node).collect(),
        }
    }
}

/// Returns the differences from what the standard requires.
fn mismatches(step: &DemoStep, response: Option<&NodeResponse>, state: &LunState) -> Vec<String> {
    let mut mismatches = Vec::new();
    if !is_expected(step.response, response) {
        mismatches.push(format!("expected response: {}", step.response));
    }
    let expected = step.state;
    let registered = expected.registered.iter().map(|node| (*node, node.key()));
    if !registered.eq(state.registered.iter().copied()) {
        let nodes = node_names(expected.registered);
        mismatches.push(format!(
            "expected registrations: {nodes}, each with its key"
        ));
    }
    let reservation = expected
        .holder
        .map(|holder| (RESERVATION_TYPE, Some(holder)));
    if state.reservation != reservation {
        mismatches.push(match expected.holder {
            Some(holder) => format!(
                "expected reservation: {RESERVATION_TYPE}, held by {}",
                holder.name()
            ),
            None => "expected reservation: none".to_owned(),
        });
    }
    if state.writers != expected.writers {
        mismatches.push(format!(
            "expected writers: {}",
            node_names(expected.writers)
        ));
    }
    mismatches
}

/// Returns the names of nodes, or `none`.
pub(super) fn node_names(nodes: &[Node]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| node.name()).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn is_expected(expected: ExpectedResponse, response: Option<&NodeResponse>) -> bool {
    let Some(response) = response else {
        return matches!(expected, ExpectedResponse::None);
    };
    match expected {
        ExpectedResponse::None => false,
        ExpectedResponse::Good => response.is_good(),
        ExpectedResponse::Keys(keys) => response.keys.as_deref() == Some(keys),
        ExpectedResponse::Conflict => response.status == Status::RESERVATION_CONFLICT,
        ExpectedResponse::UnitAttention(code) => response
            .sense
            .is_some_and(|sense| (sense.key, sense.code) == (SenseKey::UnitAttention, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::STEPS;
    use super::*;

    /// Returns the mismatches of the third step, if `node` holds a reservation afterwards.
    fn third_step(reservation_type: ReservationType, node: Node) -> Vec<String> {
        let state = LunState {
            registered: Node::ALL.map(|node| (node, node.key())).to_vec(),
            reservation: Some((reservation_type, Some(node))),
            writers: Node::ALL.to_vec(),
        };
        let response = NodeResponse {
            status: Status::GOOD,
            sense: None,
            keys: None,
        };
        mismatches(&STEPS[2], Some(&response), &state)
    }

    #[test]
    fn holder_and_type_must_match() {
        assert_eq!(third_step(RESERVATION_TYPE, Node::One), [""; 0]);
        let expected = "expected reservation: Write Exclusive - Registrants Only, held by node1";
        let other = ReservationType::WriteExclusive;
        assert_eq!(third_step(other, Node::One), [expected]);
        assert_eq!(third_step(RESERVATION_TYPE, Node::Two), [expected]);
    }

    #[test]
    fn mismatches_are_described() {
        let state = LunState {
            registered: Vec::new(),
            reservation: None,
            writers: Vec::new(),
        };
        let found: Vec<String> = STEPS
            .iter()
            .flat_map(|step| mismatches(step, None, &state))
            .collect();
        for line in [
            "expected response: GOOD",
            "expected response: UNIT ATTENTION, REGISTRATIONS PREEMPTED",
            "expected response: GOOD, keys: 0x1002",
            "expected registrations: node1, node2, each with its key",
            "expected writers: node2",
        ] {
            assert!(found.contains(&line.to_owned()), "{line}: {found:#?}");
        }
    }
}
