//! The unit: a command comes in, an answer goes out.

use scsi_pr::{
    BasicParameterList, Cdb, CdbError, OutServiceAction, ParameterList, PersistentReserveOut,
    PrGeneration, ReservationKey, truncate,
};

use crate::access::{self, Access};
use crate::answer::{CommandError, Response};
use crate::attention::UnitAttention;
use crate::nexus::{Nexus, NexusError, NexusId, Nexuses};
use crate::snapshot::{ImpossibleState, Snapshot};
use crate::state::{Registration, Reservation, State};
use crate::supported::SupportedFeatures;
use crate::{clear, preempt, register, register_and_move, release, report, reserve};

/// A logical unit with a fixed list of nexuses.
///
/// A value: two units that are equal answer every command alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogicalUnit {
    nexuses: Nexuses,
    supported: SupportedFeatures,
    state: State,
}

impl LogicalUnit {
    /// A unit that nobody has registered with, and that supports everything.
    ///
    /// # Errors
    ///
    /// [`NexusError`]: one of the nexuses cannot be, or is there twice.
    pub fn new(nexuses: Vec<Nexus>) -> Result<Self, NexusError> {
        let nexuses = Nexuses::new(nexuses)?;
        let state = State::new(nexuses.len());
        let supported = SupportedFeatures::default();
        Ok(LogicalUnit {
            nexuses,
            supported,
            state,
        })
    }

    /// The same unit, with support for no more than this.
    #[must_use]
    pub const fn with_features(mut self, supported: SupportedFeatures) -> Self {
        self.supported = supported;
        self
    }

    /// What the unit supports.
    #[must_use]
    pub const fn supported_features(&self) -> SupportedFeatures {
        self.supported
    }

    /// The nexuses, in the order in which they were given.
    pub fn nexuses(&self) -> impl Iterator<Item = (NexusId, &Nexus)> {
        self.nexuses.iter()
    }

    /// Which nexus that is; `None` for one of another unit, with a longer list.
    #[must_use]
    pub fn nexus(&self, id: NexusId) -> Option<&Nexus> {
        self.nexuses.get(id)
    }

    /// A nexus as commands name it.
    #[must_use]
    pub fn find(&self, nexus: &Nexus) -> Option<NexusId> {
        self.nexuses.find(nexus)
    }

    /// The registrations, in the order in which they were made.
    #[must_use]
    pub fn registrations(&self) -> &[Registration] {
        self.state.registrations()
    }

    /// The key that a nexus is registered with.
    #[must_use]
    pub fn key_of(&self, nexus: NexusId) -> Option<ReservationKey> {
        self.state.key_of(nexus)
    }

    /// The reservation, if there is one.
    #[must_use]
    pub const fn reservation(&self) -> Option<Reservation> {
        self.state.reservation()
    }

    /// Whether a nexus holds the reservation, alone or with all registrants.
    #[must_use]
    pub fn is_holder(&self, nexus: NexusId) -> bool {
        self.state.is_holder(nexus)
    }

    /// How often registrations were changed.
    #[must_use]
    pub const fn generation(&self) -> PrGeneration {
        self.state.generation()
    }

    /// Whether registrations and reservation outlast a loss of power (`PTPL_A`).
    #[must_use]
    pub const fn aptpl(&self) -> bool {
        self.state.aptpl()
    }

    /// What a nexus will be told, in this order, instead of what it asks for next.
    #[must_use]
    pub fn unit_attentions(&self, nexus: NexusId) -> &[UnitAttention] {
        self.state.attentions(nexus)
    }

    /// Whether the reservation lets a nexus read. Nothing is delivered.
    #[must_use]
    pub fn may_read(&self, nexus: NexusId) -> bool {
        access::is_allowed(&self.state, nexus, Access::Read)
    }

    /// Whether the reservation lets a nexus write. Nothing is delivered.
    #[must_use]
    pub fn may_write(&self, nexus: NexusId) -> bool {
        access::is_allowed(&self.state, nexus, Access::Write)
    }

    /// What becomes of a command that is none of persistent reservations.
    ///
    /// GOOD means that it may be done. A unit attention that waits is delivered instead.
    pub fn access(&mut self, nexus: NexusId, access: Access) -> Response {
        self.answer(nexus, |unit| {
            match access::is_allowed(&unit.state, nexus, access) {
                true => Ok(Vec::new()),
                false => Err(CommandError::Conflict),
            }
        })
    }

    /// Does a PERSISTENT RESERVE command that came through `nexus`.
    ///
    /// Of `parameters` as many bytes count as the CDB's PARAMETER LIST LENGTH says; if there are less,
    /// that length is wrong. They are ignored with PERSISTENT RESERVE IN. A unit attention that waits
    /// is delivered instead, and the command not done. CONTROL and reserved fields are ignored.
    pub fn execute(&mut self, nexus: NexusId, cdb: &[u8], parameters: &[u8]) -> Response {
        self.answer(nexus, |unit| match Cdb::decode(cdb) {
            Ok(Cdb::In(command)) => {
                let data = report::report(
                    &unit.state,
                    &unit.nexuses,
                    &unit.supported,
                    command.service_action,
                );
                Ok(truncate(&data, command.allocation_length).to_vec())
            }
            Ok(Cdb::Out(command)) => unit.change(nexus, command, parameters).map(|()| Vec::new()),
            Err(CdbError::Opcode(_)) => Err(CommandError::OPERATION_CODE),
            Err(CdbError::ServiceAction { .. } | CdbError::TooShort { .. }) => {
                Err(CommandError::CDB)
            }
        })
    }

    /// Loses power and comes back (SPC-4, 5.12, preserving persistent reservations).
    ///
    /// Registrations and reservation are kept if the last registration said so (`APTPL`), and gone
    /// otherwise. The generation begins at zero in either case (SPC-4, 6.15.2). Unit attentions that
    /// waited are forgotten, and each nexus is told of the loss.
    pub fn lose_power(&mut self) {
        self.state.lose_power();
    }

    /// All that changes, to be put back with [`Self::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.nexuses, &self.state)
    }

    /// Puts a snapshot in the place of whatever there was.
    ///
    /// # Errors
    ///
    /// [`ImpossibleState`]: no command leads there. Nothing is changed then.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), ImpossibleState> {
        self.state = snapshot.to_state(&self.nexuses, &self.supported)?;
        Ok(())
    }

    /// Answers a command, or delivers a unit attention.
    fn answer(
        &mut self,
        nexus: NexusId,
        command: impl FnOnce(&mut Self) -> Result<Vec<u8>, CommandError>,
    ) -> Response {
        if self.nexuses.get(nexus).is_none() {
            return CommandError::LOGICAL_UNIT.into();
        }
        if let Some(attention) = self.state.take_attention(nexus) {
            return attention.into();
        }
        command(self).map_or_else(Response::from, Response::good)
    }

    /// PERSISTENT RESERVE OUT.
    ///
    /// # Errors
    ///
    /// [`Refusal`], and nothing is changed.
    fn change(
        &mut self,
        sender: NexusId,
        command: PersistentReserveOut,
        parameters: &[u8],
    ) -> Result<(), CommandError> {
        let action = command.service_action;
        if action == OutServiceAction::ReplaceLostReservation {
            return Err(CommandError::CDB); // Not supported: RLR_C is zero.
        }
        if access::conflicts(&self.state, sender, action) {
            return Err(CommandError::Conflict);
        }
        let list = usize::try_from(command.parameter_list_length)
            .ok()
            .and_then(|length| parameters.get(..length))
            .ok_or(CommandError::PARAMETER_LIST_LENGTH)?;
        match ParameterList::decode(action, list)? {
            ParameterList::Basic(list) => self.change_basic(sender, command, &list),
            ParameterList::RegisterAndMove(list) => register_and_move::register_and_move(
                &mut self.state,
                &self.nexuses,
                &self.supported,
                sender,
                list,
            ),
        }
    }

    /// The service actions that have the basic parameter list.
    ///
    /// # Errors
    ///
    /// [`Refusal`], and nothing is changed.
    fn change_basic(
        &mut self,
        sender: NexusId,
        command: PersistentReserveOut,
        list: &BasicParameterList,
    ) -> Result<(), CommandError> {
        let (state, nexuses, supported) = (&mut self.state, &self.nexuses, &self.supported);
        let scope_type = command.scope_type;
        match command.service_action {
            OutServiceAction::Register => {
                register::register(state, nexuses, supported, sender, list)
            }
            OutServiceAction::RegisterAndIgnoreExistingKey => {
                register::register_and_ignore(state, nexuses, supported, sender, list)
            }
            OutServiceAction::Reserve => {
                reserve::reserve(state, supported, sender, scope_type, list)
            }
            OutServiceAction::Release => release::release(state, sender, scope_type, list),
            OutServiceAction::Clear => clear::clear(state, sender, list),
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
                preempt::preempt(state, supported, sender, scope_type, list)
            }
            // These two have other lists, or are not known.
            OutServiceAction::RegisterAndMove | OutServiceAction::ReplaceLostReservation => {
                Err(CommandError::CDB)
            }
        }
    }
}
