// SPDX-License-Identifier: MIT OR Apache-2.0

//! Failover of a cluster with two nodes: node 2 takes over the reservation of node 1, which has
//! stopped responding. Node 1 learns that it was fenced from a unit attention when it returns.
//!
//! Run it with `cargo run -p soft-lun --example failover`.

use scsi_pr::{
    BasicParameterList, Cdb, OutServiceAction, PersistentReserveOut, ReservationKey,
    ReservationType, ScopeType,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response};

const KEY_1: ReservationKey = ReservationKey::new(0x1111);
const KEY_2: ReservationKey = ReservationKey::new(0x2222);

/// Sends a PERSISTENT RESERVE OUT with a key of the sender and a service action key.
fn reserve_out(
    unit: &mut LogicalUnit,
    node: NexusId,
    service_action: OutServiceAction,
    reservation_key: ReservationKey,
    service_action_reservation_key: ReservationKey,
) -> Response {
    let list = BasicParameterList {
        reservation_key,
        service_action_reservation_key,
        ..BasicParameterList::default()
    };
    let list = list.encode();
    let cdb = PersistentReserveOut {
        service_action,
        scope_type: ScopeType::from(ReservationType::WriteExclusiveRegistrantsOnly),
        parameter_list_length: u32::try_from(list.len()).expect("a list of 24 bytes"),
        control: 0,
    };
    unit.execute(node, &Cdb::Out(cdb).encode(), &list)
}

fn print(event: &str, response: &Response) {
    match response.sense {
        Some(sense) => println!("{event}: {}, {sense}", response.status),
        None => println!("{event}: {}", response.status),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use OutServiceAction::{Preempt, Register, Reserve};
    let nexus = |initiator: &str, target_port: u16| -> Result<_, scsi_pr::TransportIdTextError> {
        Ok(Nexus {
            initiator: initiator.parse()?,
            target_port: target_port.into(),
        })
    };
    let mut unit = LogicalUnit::new(vec![
        nexus("sas,5001405000000001", 1)?,
        nexus("sas,5001405000000002", 2)?,
    ])?;
    let nodes: Vec<NexusId> = unit.nexuses().map(|(id, _)| id).collect();
    let [node1, node2] = *nodes else {
        return Err("the unit has two nexuses".into());
    };

    let response = reserve_out(&mut unit, node1, Register, ReservationKey::ZERO, KEY_1);
    print("node 1 registers", &response);
    let response = reserve_out(&mut unit, node2, Register, ReservationKey::ZERO, KEY_2);
    print("node 2 registers", &response);
    let response = reserve_out(&mut unit, node1, Reserve, KEY_1, ReservationKey::ZERO);
    print("node 1 reserves", &response);

    // Node 1 stops responding. Node 2 preempts its key, which removes its registration.
    let response = reserve_out(&mut unit, node2, Preempt, KEY_2, KEY_1);
    print("node 2 preempts node 1", &response);
    print("node 2 writes", &unit.access(node2, Access::Write));

    // Node 1 returns. Its first command fails with the unit attention, its second with a conflict.
    print("node 1 writes", &unit.access(node1, Access::Write));
    print("node 1 writes again", &unit.access(node1, Access::Write));
    Ok(())
}
