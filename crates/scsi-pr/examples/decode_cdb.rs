// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decodes a PERSISTENT RESERVE command and, for PERSISTENT RESERVE OUT, its parameter list.
//!
//! ```text
//! $ cargo run -q --example decode_cdb -- 5f000000000000001800 \
//!       00000000000000000000000000123abc0000000001000000
//! PERSISTENT RESERVE OUT REGISTER, parameter list length 24
//! key 0x0, service action key 0x123abc, APTPL
//! ```

use anyhow::{Context as _, Result, bail};
use scsi_pr::{Cdb, ParameterList};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(cdb) = args.next() else {
        bail!("usage: decode_cdb CDB [PARAMETER-LIST], in hexadecimal digits");
    };
    let cdb = Cdb::decode(&parse_hex(&cdb)?)?;
    println!("{cdb}");

    let Some(list) = args.next() else {
        return Ok(());
    };
    let Cdb::Out(command) = cdb else {
        bail!("PERSISTENT RESERVE IN has no parameter list");
    };
    // The layout of the list depends on the service action.
    match ParameterList::decode(command.service_action, &parse_hex(&list)?) {
        Ok(list) => println!("{list}"),
        // A device reports the same code as sense data, with ILLEGAL REQUEST.
        Err(error) => println!("{error}: {}", error.additional_sense()),
    }
    Ok(())
}

/// Converts a text of two hexadecimal digits per byte.
fn parse_hex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?))
        .collect::<Result<_>>()
        .with_context(|| format!("{text:?} is not a sequence of two-digit hexadecimal bytes"))
}
