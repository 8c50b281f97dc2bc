// SPDX-License-Identifier: MIT OR Apache-2.0

//! Serialization of values that both JSON files contain.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use scsi_pr::ReservationType;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A reservation type in kebab case, for example `write-exclusive-registrants-only`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct TypeJson(#[serde(with = "TypeName")] pub(super) ReservationType);

#[derive(Serialize, Deserialize)]
#[serde(remote = "ReservationType", rename_all = "kebab-case")]
enum TypeName {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
}

/// Serializes a file: indented, with a newline at the end.
pub(super) fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut content = serde_json::to_vec_pretty(value)?;
    content.push(b'\n');
    Ok(content)
}

/// Serialization with `Display` and `FromStr`, for `#[serde(with = "text")]`.
pub(super) mod text {
    use super::*;

    pub(in super::super) fn serialize<T, S>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Display,
        S: Serializer,
    {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| D::Error::custom(format_args!("{text:?}: {error}")))
    }
}
