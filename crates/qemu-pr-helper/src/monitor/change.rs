// SPDX-License-Identifier: MIT OR Apache-2.0

//! The change to registrations and reservations that a command requests.

use pr_helper_protocol::{Direction, Request};
use scsi_pr::{
    Cdb, OutServiceAction, PersistentReserveOut, ReservationKey, ReservationType, ScopeType,
};

/// Bit and byte of UNREG in the parameter list of REGISTER AND MOVE.
const UNREG: u8 = 0x02;
const UNREG_OFFSET: usize = 17;

/// Change that a command requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// `None` for CLEANUP, PERSISTENT RESERVE IN, and malformed commands.
    command: Option<PersistentReserveOut>,
    pub(super) is_cleanup: bool,
    /// UNREG of REGISTER AND MOVE (SPC-4, 6.16.4).
    unregisters_sender: bool,
    /// Reservation key, and service action reservation key.
    pub(super) keys: Option<[ReservationKey; 2]>,
}

impl Change {
    pub(super) fn new(request: &Request) -> Self {
        let is_out = request.command.direction() == Direction::Out;
        let command = match Cdb::decode(request.command.cdb()) {
            Ok(Cdb::Out(command)) if is_out => Some(command),
            _ => None,
        };
        let (keys, _) = request.parameters.as_chunks::<8>();
        let key = |index: usize| Some(ReservationKey::new(u64::from_be_bytes(*keys.get(index)?)));
        let moves = command
            .is_some_and(|command| command.service_action == OutServiceAction::RegisterAndMove);
        let has_unreg = |flags: &u8| flags & UNREG != 0;
        Self {
            is_cleanup: request.command.is_cleanup(),
            unregisters_sender: moves
                && request.parameters.get(UNREG_OFFSET).is_some_and(has_unreg),
            keys: command.and_then(|_| Some([key(0)?, key(1)?])),
            command,
        }
    }

    pub(super) fn action(&self) -> Option<OutServiceAction> {
        self.command.map(|command| command.service_action)
    }

    pub(super) fn service_action_key(&self) -> Option<ReservationKey> {
        self.keys.map(|[_, key]| key)
    }

    /// Returns whether REGISTER AND MOVE removes the registration of its sender.
    pub(super) const fn unregisters_sender(&self) -> bool {
        self.unregisters_sender
    }

    /// Returns whether this registers a key.
    pub(super) fn registers(&self) -> bool {
        use OutServiceAction as Action;
        let is_register = matches!(
            self.action(),
            Some(Action::Register | Action::RegisterAndIgnoreExistingKey)
        );
        is_register && self.service_action_key().is_some_and(|key| !key.is_zero())
    }

    /// Returns the key of the registrations that a preemption removes; `None` for other actions.
    pub(super) fn victim(&self) -> Option<ReservationKey> {
        use OutServiceAction as Action;
        match self.action()? {
            Action::Preempt | Action::PreemptAndAbort => self.service_action_key(),
            _ => None,
        }
    }

    /// Returns the type that the command names, if its action has one.
    pub(super) fn scope_type(&self) -> Option<ScopeType> {
        use OutServiceAction as Action;
        let has_type = matches!(
            self.action()?,
            Action::Reserve
                | Action::Release
                | Action::Preempt
                | Action::PreemptAndAbort
                | Action::ReplaceLostReservation
        );
        self.command
            .filter(|_| has_type)
            .map(|command| command.scope_type)
    }

    /// Returns the name of the reservation type, if the action has one.
    pub(super) fn type_name(&self) -> Option<String> {
        Some(type_name(self.scope_type()?))
    }

    pub(super) fn key_text(&self) -> Option<String> {
        self.keys.map(|[key, _]| key.to_string())
    }

    pub(super) fn service_action_key_text(&self) -> Option<String> {
        use OutServiceAction as Action;
        let has_key = !matches!(
            self.action()?,
            Action::Reserve | Action::Release | Action::Clear
        );
        self.service_action_key()
            .filter(|_| has_key)
            .map(|key| key.to_string())
    }
}

/// Returns the name of a reservation type, or its code if it has none.
pub(super) fn type_name(scope_type: ScopeType) -> String {
    let known = scope_type.reservation_type();
    known.map_or_else(
        || format!("{:#04x}", scope_type.0),
        |known: ReservationType| known.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::{Command, RequestFd};
    use pr_testkit::cdb::{self, PrCommand};

    fn change(command: &PrCommand) -> Change {
        Change::new(&Request {
            command: Command::new(command.cdb).unwrap(),
            fd: RequestFd::Lost,
            parameters: command.parameter_list.clone(),
        })
    }

    #[test]
    fn keys_and_types_are_those_of_the_action() {
        let register = change(&cdb::register(1, 2));
        assert!(register.registers());
        assert_eq!(register.service_action_key_text().as_deref(), Some("0x2"));
        assert_eq!(register.type_name(), None);
        let clear = change(&cdb::clear(1));
        assert_eq!(clear.service_action_key_text(), None);
        assert_eq!(clear.key_text().as_deref(), Some("0x1"));
        let read = change(&cdb::read_keys(8));
        assert_eq!((read.key_text(), read.registers()), (None, false));
    }
}
