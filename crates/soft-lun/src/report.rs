//! PERSISTENT RESERVE IN: what each service action answers. A reservation of others never forbids it.
//!
//! Source: SPC-4, 6.15.

use scsi_pr::{
    AllowCommands, Capabilities, FullStatus, FullStatusDescriptor, InServiceAction, Keys,
    RelativeTargetPort, ReservationData, ReservationKey, ScopeType,
};

use crate::nexus::{NexusId, Nexuses};
use crate::state::{Registration, State};
use crate::supported::SupportedFeatures;

/// The whole of the parameter data.
pub(crate) fn report(
    state: &State,
    nexuses: &Nexuses,
    supported: &SupportedFeatures,
    action: InServiceAction,
) -> Vec<u8> {
    match action {
        InServiceAction::ReadKeys => keys(state).encode(),
        InServiceAction::ReadReservation => reservation(state).encode(),
        InServiceAction::ReportCapabilities => capabilities(state, supported).encode().to_vec(),
        InServiceAction::ReadFullStatus => full_status(state, nexuses).encode(),
    }
}

/// 6.15.2: a key for each registration.
fn keys(state: &State) -> Keys {
    Keys {
        generation: state.generation(),
        keys: state.registrations().iter().map(|one| one.key).collect(),
    }
}

/// 6.15.3: the key of the holder, and zero where all registrants hold it.
fn reservation(state: &State) -> ReservationData {
    let reservation = state
        .reservation()
        .map(|held| scsi_pr::ReservationDescriptor {
            key: state.holder_key().unwrap_or(ReservationKey::ZERO),
            scope_type: held.kind().into(),
        });
    ReservationData {
        generation: state.generation(),
        reservation,
    }
}

/// 6.15.4. RESERVE and RELEASE of SPC-2 are not there to be compatible with (`CRH`).
fn capabilities(state: &State, supported: &SupportedFeatures) -> Capabilities {
    Capabilities {
        replace_lost_reservation: false,
        compatible_reservation_handling: false,
        specify_initiator_ports: supported.specify_initiator_ports,
        all_target_ports: supported.all_target_ports,
        persist_through_power_loss: supported.persist_through_power_loss,
        persist_through_power_loss_active: state.aptpl(),
        // 1: TEST UNIT READY passes, and the standard's other commands do not have to.
        allow_commands: AllowCommands::new(1).unwrap_or_default(),
        type_mask: Some(supported.types),
    }
}

/// 6.15.5: a descriptor for each registration, or for those that an initiator port has at all target
/// ports.
fn full_status(state: &State, nexuses: &Nexuses) -> FullStatus {
    let descriptors =
        state
            .registrations()
            .iter()
            .filter_map(|one| match shared(state, nexuses, one) {
                Some(first) if first != one.nexus => None,
                first => descriptor(state, nexuses, one, first.is_some()),
            });
    FullStatus {
        generation: state.generation(),
        descriptors: descriptors.collect(),
    }
}

fn descriptor(
    state: &State,
    nexuses: &Nexuses,
    registration: &Registration,
    all_tg_pt: bool,
) -> Option<FullStatusDescriptor> {
    let nexus = nexuses.get(registration.nexus)?;
    let held = state.reservation();
    let held = held.filter(|_| state.is_holder(registration.nexus));
    Some(FullStatusDescriptor {
        key: registration.key,
        all_tg_pt,
        holder: held.is_some(),
        scope_type: held.map_or(ScopeType(0), |held| held.kind().into()),
        relative_target_port: match all_tg_pt {
            true => RelativeTargetPort::default(),
            false => nexus.target_port,
        },
        transport_id: Ok(nexus.initiator.clone()),
    })
}

/// If a single descriptor may stand for a registration and others with `ALL_TG_PT`, the nexus that was
/// registered first of them. All nexuses of the initiator port must have the same key, and be holders or
/// not.
fn shared(state: &State, nexuses: &Nexuses, registration: &Registration) -> Option<NexusId> {
    if !registration.all_tg_pt {
        return None;
    }
    let ports = nexuses.of_same_initiator(registration.nexus);
    let alike = |one: &&Registration| {
        ports.contains(&one.nexus)
            && one.all_tg_pt
            && one.key == registration.key
            && state.is_holder(one.nexus) == state.is_holder(registration.nexus)
    };
    let mut alike = state.registrations().iter().filter(alike);
    let first = alike.next()?.nexus;
    (alike.count().saturating_add(1) == ports.len()).then_some(first)
}
