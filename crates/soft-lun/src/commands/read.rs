// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE IN, which no reservation forbids.
//!
//! Source: SPC-4, 6.15.

use scsi_pr::{
    AllowCommands, Capabilities, FullStatus, FullStatusDescriptor, InServiceAction, Keys,
    RelativeTargetPort, ReservationData, ReservationDescriptor, ReservationKey, ScopeType,
};

use super::CommandContext;
use crate::nexus::NexusId;
use crate::state::Registration;

/// Returns the complete parameter data of a service action.
pub(super) fn parameter_data(context: &CommandContext<'_>, action: InServiceAction) -> Vec<u8> {
    match action {
        InServiceAction::ReadKeys => read_keys(context).encode(),
        InServiceAction::ReadReservation => read_reservation(context).encode(),
        InServiceAction::ReportCapabilities => report_capabilities(context).encode().to_vec(),
        InServiceAction::ReadFullStatus => read_full_status(context).encode(),
    }
}

/// SPC-4, 6.15.2: one key for each registration.
fn read_keys(context: &CommandContext<'_>) -> Keys {
    let registrations = context.state.registrations().iter();
    Keys {
        generation: context.state.generation,
        keys: registrations.map(|one| one.key).collect(),
    }
}

/// SPC-4, 6.15.3: the key of the holder; zero for an all registrants type.
fn read_reservation(context: &CommandContext<'_>) -> ReservationData {
    let state = &*context.state;
    let reservation = state.reservation.map(|held| ReservationDescriptor {
        key: state.holder_key().unwrap_or(ReservationKey::ZERO),
        scope_type: held.kind().into(),
    });
    ReservationData {
        generation: state.generation,
        reservation,
    }
}

/// SPC-4, 6.15.4. `CRH` is zero, because the unit does not implement RESERVE and RELEASE of SPC-2.
fn report_capabilities(context: &CommandContext<'_>) -> Capabilities {
    let features = context.features;
    Capabilities {
        replace_lost_reservation: false,
        compatible_reservation_handling: false,
        specify_initiator_ports: features.specify_initiator_ports,
        all_target_ports: features.all_target_ports,
        persist_through_power_loss: features.persist_through_power_loss,
        persist_through_power_loss_active: context.state.aptpl,
        // 1: TEST UNIT READY is allowed. The standard does not require the other commands.
        allow_commands: AllowCommands::new(1).unwrap_or_default(),
        type_mask: Some(features.types),
    }
}

/// SPC-4, 6.15.5: one descriptor for each registration, or for all registrations of an initiator
/// port that share a descriptor.
fn read_full_status(context: &CommandContext<'_>) -> FullStatus {
    let registrations = context.state.registrations().iter();
    let descriptors = registrations.filter_map(|one| match shared_descriptor(context, one) {
        Some(first) if first != one.nexus => None,
        first => descriptor(context, one, first.is_some()),
    });
    FullStatus {
        generation: context.state.generation,
        descriptors: descriptors.collect(),
    }
}

fn descriptor(
    context: &CommandContext<'_>,
    registration: &Registration,
    all_tg_pt: bool,
) -> Option<FullStatusDescriptor> {
    let nexus = context.nexuses.get(registration.nexus)?;
    let state = &*context.state;
    let held = state
        .reservation
        .filter(|_| state.is_holder(registration.nexus));
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

/// Returns the first registered nexus of those that share one descriptor with `registration`;
/// `None` if the registration needs its own descriptor. All nexuses of the initiator port share a
/// descriptor if all are registered with `ALL_TG_PT` and the same key, and either all or none of
/// them hold the reservation.
fn shared_descriptor(context: &CommandContext<'_>, registration: &Registration) -> Option<NexusId> {
    if !registration.all_tg_pt {
        return None;
    }
    let state = &*context.state;
    let ports = context.nexuses.same_initiator(registration.nexus);
    let shares = |one: &&Registration| {
        ports.contains(&one.nexus)
            && one.all_tg_pt
            && one.key == registration.key
            && state.is_holder(one.nexus) == state.is_holder(registration.nexus)
    };
    let mut shared = state.registrations().iter().filter(shares);
    let first = shared.next()?.nexus;
    (shared.count().saturating_add(1) == ports.len()).then_some(first)
}
