// SPDX-License-Identifier: MIT OR Apache-2.0

//! Properties of explanations. Examples are in tests/prhctl/decode.rs.

use proptest::prelude::*;

use super::*;

/// Returns the first and last byte of a position, and the highest bit in it.
fn span(position: &str) -> (usize, usize, u8) {
    let position = position.strip_prefix("list ").unwrap_or(position);
    let (bytes, bits) = position.split_once(", ").unwrap_or((position, "bits 7-0"));
    let first_number = |text: &str| {
        let number = text.split([' ', '-']).nth(1).unwrap();
        number.parse::<usize>().unwrap()
    };
    let last = bytes.rsplit([' ', '-']).next().unwrap().parse().unwrap();
    (
        first_number(bytes),
        last,
        first_number(bits).try_into().unwrap(),
    )
}

proptest! {
    #[test]
    fn any_bytes_decode_as_any_kind(
        bytes in prop::collection::vec(any::<u8>(), 1..120),
        start in prop::option::of(prop::sample::select(vec![0x5e, 0x5f, 0x70, 0x72])),
        action in prop::sample::select(OutServiceAction::ALL.to_vec()),
    ) {
        let bytes: Vec<u8> = start.into_iter().chain(bytes).collect();
        for kind in DataKind::value_variants() {
            let action = (*kind == DataKind::Parameters).then_some(action);
            let found = explain(&bytes, Some(*kind), action).unwrap();
            prop_assert_eq!(found.kind, *kind);
            // Each field is inside the bytes and behind the previous one.
            let (mut is_in_list, mut previous) = (false, None);
            for field in &found.fields {
                let (first, last, high) = span(&field.position);
                if field.position.starts_with("list ") && !is_in_list {
                    (is_in_list, previous) = (true, None);
                }
                prop_assert!(first <= last || field.value.is_empty(), "{}", field.position);
                prop_assert!(last < bytes.len() || field.value.is_empty(), "{}", field.position);
                let start = (first, 7 - high);
                prop_assert!(
                    previous.is_none_or(|previous| previous <= start), "{:?}", found.fields
                );
                previous = Some(start);
            }
        }
        let _ = explain(&bytes, None, None);
    }
}
