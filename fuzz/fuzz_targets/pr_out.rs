// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE OUT: decoded commands and parameter lists are encoded to the same bytes,
//! except for reserved fields.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use scsi_pr::{BasicParameterList, Cdb, OutServiceAction, ParameterList, TransportId};

fuzz::target!(run);

/// Length of a parameter list before its TransportIDs.
const HEADER_SIZE: usize = 24;

/// Input: a CDB of ten bytes and a parameter list.
fn run(bytes: &[u8]) {
    let decoded = Cdb::decode(bytes);
    let _ = decoded.map(|cdb| cdb.to_string());
    let (Ok(cdb), Some((first, list))) = (decoded, bytes.split_first_chunk::<10>()) else {
        return;
    };
    let mut expected = *first;
    expected[1] &= 0x1f;
    let reserved = match cdb {
        Cdb::In(_) => 2..7,
        Cdb::Out(_) => 3..5,
    };
    expected[reserved].fill(0);
    assert_eq!(cdb.encode(), expected);
    if let Cdb::Out(command) = cdb {
        check_list(command.service_action, list);
    }
}

fn check_list(action: OutServiceAction, bytes: &[u8]) {
    let header = BasicParameterList::without_ids(bytes);
    assert_eq!(header.is_some(), bytes.len() >= HEADER_SIZE);
    let list = match ParameterList::decode(action, bytes) {
        Ok(list) => list,
        Err(error) => {
            let _ = (error.to_string(), error.additional_sense());
            return;
        }
    };
    let _ = list.to_string();
    let encoded = list.encode();
    assert_eq!(ParameterList::decode(action, &encoded).as_ref(), Ok(&list));

    let mut expected = bytes[..HEADER_SIZE].to_vec();
    let ids: Vec<u8> = match &list {
        ParameterList::Basic(basic) => {
            let header = header.unwrap();
            assert_eq!(header.reservation_key, basic.reservation_key);
            assert_eq!(
                (header.all_tg_pt, header.aptpl),
                (basic.all_tg_pt, basic.aptpl)
            );
            expected[16..].fill(0);
            expected[20] = bytes[20] & 0x0d;
            let ids = basic.spec_i_pt.iter().flatten();
            ids.flat_map(TransportId::encode).collect()
        }
        ParameterList::RegisterAndMove(list) => {
            expected[16] = 0;
            expected[17] &= 0x03;
            list.transport_id.encode()
        }
    };
    let length = u32::try_from(ids.len()).unwrap().to_be_bytes();
    match &list {
        ParameterList::Basic(basic) if basic.spec_i_pt.is_none() => {}
        ParameterList::Basic(_) => expected.extend(length),
        ParameterList::RegisterAndMove(_) => expected[20..].copy_from_slice(&length),
    }
    expected.extend(ids);
    assert_eq!(encoded, expected);
}
