// SPDX-License-Identifier: MIT OR Apache-2.0

//! Data of PERSISTENT RESERVE IN: decoded data is encoded to the same bytes, and truncated data
//! decodes to a prefix.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use scsi_pr::{
    Capabilities, FullStatus, Keys, ParameterDataError, ReservationData, Truncatable, truncate,
};

use fuzz::input::Input;

fuzz::target!(run);

/// Input: kind, length of the truncated data, and the data.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (kind, cut) = (input.below(4), input.word());
    let whole = input.rest();
    let short = truncate(whole, cut);
    match kind {
        0 => keys(whole, short),
        1 => reservation(whole, short),
        2 => capabilities(whole, short),
        _ => full_status(whole, short),
    }
}

/// Returns the length in the header of a list.
fn declared(bytes: &[u8]) -> usize {
    let length = bytes[4..8].try_into().unwrap();
    u32::from_be_bytes(length).try_into().unwrap()
}

/// Checks the number of missing bytes of a list with a generation and a length.
fn check_missing<T>(bytes: &[u8], list: &Truncatable<T>) {
    let present = (bytes.len() - 8).min(declared(bytes));
    assert_eq!(present + list.missing, declared(bytes));
    assert_eq!(list.is_complete(), list.missing == 0);
}

fn keys(whole: &[u8], short: &[u8]) {
    let Some(read) = format_and_unwrap(Keys::decode(whole)) else {
        return;
    };
    check_missing(whole, &read);
    let encoded = read.value.encode();
    assert_eq!(
        Keys::decode(&encoded).unwrap().complete().as_ref(),
        Some(&read.value)
    );
    assert_eq!(encoded[8..], whole[8..encoded.len()]);
    if short.len() >= 8 {
        let cut = Keys::decode(short).unwrap().value;
        assert_eq!(cut.generation, read.value.generation);
        assert!(read.value.keys.starts_with(&cut.keys));
    }
}

fn reservation(whole: &[u8], short: &[u8]) {
    let Some(read) = format_and_unwrap(ReservationData::decode(whole)) else {
        return;
    };
    let encoded = read.encode();
    assert_eq!(ReservationData::decode(&encoded).as_ref(), Ok(&read));
    assert_eq!(encoded[..8], whole[..8]);
    if let Some(held) = read.reservation {
        assert_eq!(held.key.get().to_be_bytes(), whole[8..16]);
        assert_eq!(held.scope_type.0, whole[21]);
    }
    // Truncated data must not be accepted as complete.
    let cut = ReservationData::decode(short);
    assert_eq!(cut.ok(), (short.len() >= encoded.len()).then_some(read));
}

fn capabilities(whole: &[u8], short: &[u8]) {
    let Some(read) = format_and_unwrap(Capabilities::decode(whole)) else {
        return;
    };
    let encoded = read.encode();
    assert_eq!(Capabilities::decode(&encoded), Ok(read));
    let mask = if whole[3] & 0x80 == 0 { 0 } else { 0xff };
    let expected = [
        whole[2] & 0x9d,
        whole[3] & 0xf1,
        whole[4] & mask,
        whole[5] & mask,
    ];
    assert_eq!(encoded[2..6], expected);
    let cut = Capabilities::decode(short);
    assert_eq!(cut.ok(), (short.len() >= 8).then_some(read));
}

fn full_status(whole: &[u8], short: &[u8]) {
    let Some(read) = format_and_unwrap(FullStatus::decode(whole)) else {
        return;
    };
    check_missing(whole, &read);
    let again = FullStatus::decode(&read.value.encode()).unwrap();
    assert_eq!(again.complete().as_ref(), Some(&read.value));
    if short.len() >= 8 {
        let cut = FullStatus::decode(short).unwrap().value;
        assert_eq!(cut.generation, read.value.generation);
        assert!(read.value.descriptors.starts_with(&cut.descriptors));
    }
}

/// Returns the decoded value, after formatting the value or the error.
fn format_and_unwrap<T: std::fmt::Display>(decoded: Result<T, ParameterDataError>) -> Option<T> {
    let _ = decoded
        .as_ref()
        .map_or_else(ToString::to_string, ToString::to_string);
    decoded.ok()
}
