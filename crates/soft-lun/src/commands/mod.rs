// SPDX-License-Identifier: MIT OR Apache-2.0

//! The PERSISTENT RESERVE commands: decoding, dispatch, and one module for each group of service
//! actions.

mod preempt;
mod read;
mod register;
mod register_and_move;
mod reserve;

use scsi_pr::{
    Cdb, CdbError, OutServiceAction, ParameterList, PersistentReserveOut, ReservationKey, truncate,
};

use crate::access;
use crate::nexus::{NexusId, Nexuses};
use crate::response::CommandError;
use crate::state::UnitState;
use crate::supported_features::SupportedFeatures;

/// The nexus that sent a command, and the parts of the unit that commands use.
pub(crate) struct CommandContext<'a> {
    pub(crate) state: &'a mut UnitState,
    pub(crate) nexuses: &'a Nexuses,
    pub(crate) features: &'a SupportedFeatures,
    pub(crate) sender: NexusId,
}

impl CommandContext<'_> {
    /// Checks that RESERVATION KEY is the key of the sender (SPC-4, 6.16.3). A wrong key, and any
    /// key of an unregistered sender, are a RESERVATION CONFLICT.
    fn check_key(&self, key: ReservationKey) -> Result<(), CommandError> {
        let matches = self.state.key(self.sender) == Some(key);
        matches.then_some(()).ok_or(CommandError::Conflict)
    }
}

/// Executes a command and returns its parameter data. A command that fails changes nothing.
pub(crate) fn execute(
    mut context: CommandContext<'_>,
    cdb: &[u8],
    parameters: &[u8],
) -> Result<Vec<u8>, CommandError> {
    match Cdb::decode(cdb) {
        Ok(Cdb::In(command)) => {
            let data = read::parameter_data(&context, command.service_action);
            Ok(truncate(&data, command.allocation_length).to_vec())
        }
        Ok(Cdb::Out(command)) => {
            execute_out(&mut context, command, parameters).map(|()| Vec::new())
        }
        Err(CdbError::Opcode(_)) => Err(CommandError::INVALID_OPCODE),
        Err(CdbError::ServiceAction { .. } | CdbError::TooShort { .. }) => {
            Err(CommandError::INVALID_CDB)
        }
    }
}

fn execute_out(
    context: &mut CommandContext<'_>,
    command: PersistentReserveOut,
    parameters: &[u8],
) -> Result<(), CommandError> {
    use OutServiceAction as Action;
    let (action, scope_type) = (command.service_action, command.scope_type);
    if action == Action::ReplaceLostReservation {
        return Err(CommandError::INVALID_CDB); // Not supported: RLR_C is zero.
    }
    if access::conflicts(context.state, context.sender, action) {
        return Err(CommandError::Conflict);
    }
    let list = usize::try_from(command.parameter_list_length)
        .ok()
        .and_then(|length| parameters.get(..length))
        .ok_or(CommandError::PARAMETER_LIST_LENGTH_ERROR)?;
    let list = match ParameterList::decode(action, list)? {
        ParameterList::Basic(list) => list,
        ParameterList::RegisterAndMove(list) => {
            return register_and_move::register_and_move(context, list);
        }
    };
    match action {
        Action::Register => register::register(context, &list),
        Action::RegisterAndIgnoreExistingKey => {
            register::register_and_ignore_existing_key(context, &list)
        }
        Action::Reserve => reserve::reserve(context, scope_type, &list),
        Action::Release => reserve::release(context, scope_type, &list),
        Action::Clear => reserve::clear(context, &list),
        Action::Preempt | Action::PreemptAndAbort => preempt::preempt(context, scope_type, &list),
        // Neither has the basic parameter list.
        Action::RegisterAndMove | Action::ReplaceLostReservation => Err(CommandError::INVALID_CDB),
    }
}
