//! What LIO is expected to be: a [`LogicalUnit`], and what LIO knows besides.

use std::collections::BTreeSet;
use std::fmt;

use scsi_pr::{
    AdditionalSense, OutServiceAction, PrGeneration, ReservationType, Sense, SenseKey, Status,
    TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response, Snapshot};

use crate::command::{Command, Side, Step, hex};

const MOVE: u8 = OutServiceAction::RegisterAndMove.code();
const PREEMPT: u8 = OutServiceAction::Preempt.code();

/// The unit behind both nexuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) unit: LogicalUnit,
    /// With a reservation of all registrants, the one that LIO keeps as the holder: who reserved, and
    /// after its registration the one that has been registered longest.
    pub(crate) nominal: Option<Side>,
    /// Registrations in which LIO has written the type in the place of the scope, as it does to the one
    /// that a reservation is moved away from.
    pub(crate) odd_scopes: BTreeSet<Side>,
}

/// What a command leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) answer: Response,
    pub(crate) model: Model,
}

impl Model {
    /// Nobody is registered.
    pub(crate) fn empty(generation: PrGeneration) -> Self {
        let nexuses = Side::BOTH.map(|side| Nexus {
            initiator: TransportId::Sas {
                sas_address: side.address(),
            },
            target_port: side.port().into(),
        });
        let mut unit = LogicalUnit::new(nexuses.to_vec()).unwrap();
        let snapshot = Snapshot {
            generation,
            ..Snapshot::default()
        };
        unit.restore(&snapshot).unwrap();
        Model {
            unit,
            nominal: None,
            odd_scopes: BTreeSet::new(),
        }
    }

    pub(crate) fn id(&self, side: Side) -> NexusId {
        self.unit.nexuses().nth(side as usize).unwrap().0
    }

    fn side(&self, id: NexusId) -> Side {
        let all = Side::BOTH.into_iter();
        all.into_iter().find(|side| self.id(*side) == id).unwrap()
    }

    /// What soft-lun makes of a command.
    pub(crate) fn standard(&self, step: &Step) -> Outcome {
        let mut model = self.clone();
        let id = self.id(step.side);
        let unit = &mut model.unit;
        let answer = match &step.command {
            Command::TestUnitReady => unit.access(id, Access::TestUnitReady),
            Command::Read => unit.access(id, Access::Read),
            Command::Write => unit.access(id, Access::Write),
            command @ Command::In { .. } => unit.execute(id, &command.cdb(), &[]),
            Command::Out(out) => unit.execute(id, &step.command.cdb(), &out.list()),
        };
        model.follow(self, step);
        Outcome { answer, model }
    }

    /// The same, but for what is changed here.
    pub(crate) fn edited(&self, edit: impl FnOnce(&mut Snapshot)) -> Self {
        let mut snapshot = self.unit.snapshot();
        edit(&mut snapshot);
        let mut model = self.clone();
        model.unit.restore(&snapshot).unwrap();
        model
    }

    /// Finds what LIO knows besides, after a command that has changed the unit.
    pub(crate) fn follow(&mut self, before: &Model, step: &Step) {
        self.follow_holder(before, step.side);
        self.follow_scopes(before, step);
    }

    fn follow_holder(&mut self, before: &Model, sender: Side) {
        let first = self
            .unit
            .registrations()
            .first()
            .map(|one| self.side(one.nexus));
        self.nominal = match (self.all_registrants(), before.nominal) {
            (false, _) => None,
            (true, None) => Some(sender),
            (true, Some(nominal)) => match self.key(nominal) {
                Some(_) => Some(nominal),
                None => first,
            },
        };
    }

    fn follow_scopes(&mut self, before: &Model, step: &Step) {
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
            self.odd_scopes.insert(step.side);
        } else if takes || holder != was {
            let ends = [holder, was];
            self.odd_scopes.retain(|side| !ends.contains(&Some(*side)));
        }
        let keys = Side::BOTH.map(|side| self.key(side));
        self.odd_scopes
            .retain(|side| keys[*side as usize].is_some());
    }

    /// The key that a nexus is registered with.
    pub(crate) fn key(&self, side: Side) -> Option<u64> {
        self.unit.key_of(self.id(side)).map(|key| key.get())
    }

    pub(crate) fn kind(&self) -> Option<ReservationType> {
        self.unit.reservation().map(|held| held.kind())
    }

    pub(crate) fn all_registrants(&self) -> bool {
        self.kind().is_some_and(|kind| kind.is_all_registrants())
    }

    /// The one that LIO takes for the holder.
    pub(crate) fn lio_holder(&self) -> Option<Side> {
        let held = self.unit.reservation()?;
        held.holder().map(|id| self.side(id)).or(self.nominal)
    }

    /// Whether a nexus was registered with `ALL_TG_PT`.
    pub(crate) fn all_tg_pt(&self, side: Side) -> bool {
        let id = self.id(side);
        let registrations = self.unit.registrations();
        registrations
            .iter()
            .any(|one| one.nexus == id && one.all_tg_pt)
    }

    /// The command changes nothing and is answered like this.
    pub(crate) fn answering(&self, answer: Response) -> Outcome {
        Outcome {
            answer,
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

/// ILLEGAL REQUEST.
pub(crate) fn illegal(code: AdditionalSense) -> Response {
    check_condition(SenseKey::IllegalRequest, code)
}

/// An answer as text: `good`, `good 0000…`, `conflict`, `5/24/00`.
pub(crate) struct Shown<'a>(pub(crate) &'a Response);

impl fmt::Display for Shown<'_> {
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
