// SPDX-License-Identifier: MIT OR Apache-2.0

//! The expected state of LIO: a [`LogicalUnit`], and the state that only LIO has.

use std::collections::BTreeSet;
use std::fmt;

use scsi_pr::{
    AdditionalSense, OutServiceAction, PrGeneration, ReservationType, Sense, SenseKey, Status,
    TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response, Snapshot};

use crate::command::{Command, Node, Step, hex};
use crate::kernel::Kernel;

const MOVE: u8 = OutServiceAction::RegisterAndMove.code();
const PREEMPT: u8 = OutServiceAction::Preempt.code();

/// The unit behind both nexuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) unit: LogicalUnit,
    /// The release of Linux that LIO belongs to.
    pub(crate) kernel: Kernel,
    /// With an all registrants type, the node that LIO records as the holder: the node that
    /// reserved and, after its registration is removed, the node that has been registered longest.
    pub(crate) nominal_holder: Option<Node>,
    /// Registrations in which LIO has overwritten the scope with the type. LIO does so for the
    /// registration that a reservation is moved away from.
    pub(crate) corrupt_scopes: BTreeSet<Node>,
}

/// The result of a command: the response and the state afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) response: Response,
    pub(crate) model: Model,
}

impl Model {
    /// Creates a unit without registrations.
    pub(crate) fn empty(kernel: Kernel, generation: PrGeneration) -> Self {
        let nexuses = Node::BOTH.map(|node| Nexus {
            initiator: TransportId::Sas {
                sas_address: node.address(),
            },
            target_port: node.port().into(),
        });
        let mut unit = LogicalUnit::new(nexuses.to_vec()).unwrap();
        let snapshot = Snapshot {
            generation,
            ..Snapshot::default()
        };
        unit.restore(&snapshot).unwrap();
        Model {
            unit,
            kernel,
            nominal_holder: None,
            corrupt_scopes: BTreeSet::new(),
        }
    }

    pub(crate) fn id(&self, node: Node) -> NexusId {
        self.unit.nexuses().nth(node as usize).unwrap().0
    }

    fn node(&self, id: NexusId) -> Node {
        let all = Node::BOTH.into_iter();
        all.into_iter().find(|node| self.id(*node) == id).unwrap()
    }

    /// Returns the outcome of a command in soft-lun.
    pub(crate) fn soft_lun_outcome(&self, step: &Step) -> Outcome {
        let mut model = self.clone();
        let id = self.id(step.node);
        let unit = &mut model.unit;
        let response = match &step.command {
            Command::TestUnitReady => unit.access(id, Access::TestUnitReady),
            Command::Read => unit.access(id, Access::Read),
            Command::Write => unit.access(id, Access::Write),
            command @ Command::In { .. } => unit.execute(id, &command.cdb(), &[]),
            Command::Out(out) => unit.execute(id, &step.command.cdb(), &out.list()),
        };
        model.update_lio_state(self, step);
        Outcome { response, model }
    }

    /// Returns the model with the given changes to its unit.
    pub(crate) fn with_snapshot(&self, edit: impl FnOnce(&mut Snapshot)) -> Self {
        let mut snapshot = self.unit.snapshot();
        edit(&mut snapshot);
        let mut model = self.clone();
        model.unit.restore(&snapshot).unwrap();
        model
    }

    /// Updates the state that only LIO has, after a command that has changed the unit.
    pub(crate) fn update_lio_state(&mut self, before: &Model, step: &Step) {
        self.update_nominal_holder(before, step.node);
        self.update_corrupt_scopes(before, step);
    }

    fn update_nominal_holder(&mut self, before: &Model, sender: Node) {
        let first = self
            .unit
            .registrations()
            .first()
            .map(|one| self.node(one.nexus));
        self.nominal_holder = match (self.all_registrants(), before.nominal_holder) {
            (false, _) => None,
            (true, None) => Some(sender),
            (true, Some(nominal_holder)) => match self.key(nominal_holder) {
                Some(_) => Some(nominal_holder),
                None => first,
            },
        };
    }

    fn update_corrupt_scopes(&mut self, before: &Model, step: &Step) {
        let (holder, was) = (self.lio_holder(), before.lio_holder());
        let done = before.unit.generation() != self.unit.generation();
        let out = match &step.command {
            Command::Out(out) if done => Some(out),
            _ => None,
        };
        let moved = out.is_some_and(|out| out.action == MOVE);
        let victim = was.and_then(|one| before.key(one));
        let takes = out.is_some_and(|out| out.action == PREEMPT && Some(out.action_key) == victim);

        if moved {
            self.corrupt_scopes.insert(step.node);
        } else if takes || holder != was {
            let ends = [holder, was];
            self.corrupt_scopes
                .retain(|node| !ends.contains(&Some(*node)));
        }
        let keys = Node::BOTH.map(|node| self.key(node));
        self.corrupt_scopes
            .retain(|node| keys[*node as usize].is_some());
    }

    /// Returns the key that a nexus is registered with.
    pub(crate) fn key(&self, node: Node) -> Option<u64> {
        self.unit.key(self.id(node)).map(|key| key.get())
    }

    pub(crate) fn kind(&self) -> Option<ReservationType> {
        self.unit.reservation().map(|held| held.kind())
    }

    pub(crate) fn all_registrants(&self) -> bool {
        self.kind().is_some_and(|kind| kind.is_all_registrants())
    }

    /// Returns the node that LIO records as the holder.
    pub(crate) fn lio_holder(&self) -> Option<Node> {
        let held = self.unit.reservation()?;
        held.holder()
            .map(|id| self.node(id))
            .or(self.nominal_holder)
    }

    /// Returns whether a nexus is registered with `ALL_TG_PT`.
    pub(crate) fn all_tg_pt(&self, node: Node) -> bool {
        let id = self.id(node);
        let registrations = self.unit.registrations();
        registrations
            .iter()
            .any(|one| one.nexus == id && one.all_tg_pt)
    }

    /// Returns the outcome of a command that has this response and changes nothing.
    pub(crate) fn with_response(&self, response: Response) -> Outcome {
        Outcome {
            response,
            model: self.clone(),
        }
    }
}

pub(crate) fn good(data: Vec<u8>) -> Response {
    Response {
        status: Status::GOOD,
        sense: None,
        data,
    }
}

pub(crate) fn conflict() -> Response {
    Response {
        status: Status::RESERVATION_CONFLICT,
        sense: None,
        data: Vec::new(),
    }
}

pub(crate) fn check_condition(key: SenseKey, code: AdditionalSense) -> Response {
    Response {
        status: Status::CHECK_CONDITION,
        sense: Some(Sense::new(key, code)),
        data: Vec::new(),
    }
}

/// Returns CHECK CONDITION with ILLEGAL REQUEST.
pub(crate) fn illegal(code: AdditionalSense) -> Response {
    check_condition(SenseKey::IllegalRequest, code)
}

/// A response as text: `good`, `good 0000…`, `conflict`, `5/24/00`.
pub(crate) struct DisplayResponse<'a>(pub(crate) &'a Response);

impl fmt::Display for DisplayResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Response {
            status,
            sense,
            data,
        } = self.0;
        match (*status, sense) {
            (Status::GOOD, None) if data.is_empty() => f.write_str("good"),
            (Status::GOOD, None) => write!(f, "good {}", hex(data)),
            (Status::RESERVATION_CONFLICT, None) => f.write_str("conflict"),
            (Status::CHECK_CONDITION, Some(sense))
                if *sense == Sense::new(sense.key, sense.code) =>
            {
                let AdditionalSense { asc, ascq } = sense.code;
                write!(f, "{:x}/{asc:02x}/{ascq:02x}", sense.key.code())
            }
            _ => write!(f, "{:?}", self.0),
        }
    }
}
