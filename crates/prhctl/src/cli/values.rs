//! Values of options: text to what the standard knows.

use scsi_pr::{
    OutServiceAction, RelativeTargetPort, ReservationKey, ReservationKeyError, ReservationType,
};
use thiserror::Error;

use crate::labels;

/// What is no key.
#[derive(Debug, Error)]
pub(super) enum KeyError {
    /// It is no key at all.
    #[error(transparent)]
    Key(#[from] ReservationKeyError),
    /// It is written as in `multipath.conf`.
    #[error("':aptpl' behind a key is for multipath.conf: give the key alone, and --aptpl")]
    Aptpl,
    /// It is zero.
    #[error("0 is no key; 'unregister' removes a registration")]
    Zero,
}

/// A key.
///
/// # Errors
///
/// [`KeyError`].
pub(super) fn key(text: &str) -> Result<ReservationKey, KeyError> {
    match text.to_ascii_lowercase().ends_with(":aptpl") {
        true => Err(KeyError::Aptpl),
        false => Ok(text.parse()?),
    }
}

/// A key that can be registered: any but zero.
///
/// # Errors
///
/// [`KeyError`].
pub(super) fn own_key(text: &str) -> Result<ReservationKey, KeyError> {
    let key = key(text)?;
    match key.is_zero() {
        true => Err(KeyError::Zero),
        false => Ok(key),
    }
}

/// A text is no type of reservation.
#[derive(Debug, Error)]
#[error(
    "not a type; it is one of we, ea, we-ro, ea-ro, we-ar, ea-ar, their long names, or 1, 3, 5, 6, \
     7, 8"
)]
pub(super) struct TypeError;

/// A type, by its short name, its long name or its number.
///
/// # Errors
///
/// [`TypeError`].
pub(super) fn reservation_type(text: &str) -> Result<ReservationType, TypeError> {
    ReservationType::ALL
        .into_iter()
        .find(|reservation_type| {
            let (short, long) = labels::of_type(*reservation_type);
            [short, long].contains(&text) || text == reservation_type.code().to_string()
        })
        .ok_or(TypeError)
}

/// A text is no service action of PERSISTENT RESERVE OUT.
#[derive(Debug, Error)]
#[error("not a service action; it is 0 to 8, or one of {}", OutServiceAction::ALL.map(labels::of_out).join(", "))]
pub(super) struct ServiceActionError;

/// A service action, by its name or number.
///
/// # Errors
///
/// [`ServiceActionError`].
pub(super) fn service_action(text: &str) -> Result<OutServiceAction, ServiceActionError> {
    OutServiceAction::ALL
        .into_iter()
        .find(|action| text == labels::of_out(*action) || text == action.code().to_string())
        .ok_or(ServiceActionError)
}

/// A text is no relative target port.
#[derive(Debug, Error)]
#[error("not a relative target port, which is a number from 1 to 65535")]
pub(crate) struct TargetPortError;

/// The relative number of a target port.
///
/// # Errors
///
/// [`TargetPortError`].
pub(super) fn target_port(text: &str) -> Result<RelativeTargetPort, TargetPortError> {
    match text.parse::<u16>() {
        Ok(number @ 1..) => Ok(number.into()),
        _ => Err(TargetPortError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_two_names_and_a_number() {
        for (short, long, number, expected) in [
            (
                "we",
                "write-exclusive",
                "1",
                ReservationType::WriteExclusive,
            ),
            (
                "ea",
                "exclusive-access",
                "3",
                ReservationType::ExclusiveAccess,
            ),
            (
                "we-ro",
                "write-exclusive-registrants-only",
                "5",
                ReservationType::WriteExclusiveRegistrantsOnly,
            ),
            (
                "ea-ro",
                "exclusive-access-registrants-only",
                "6",
                ReservationType::ExclusiveAccessRegistrantsOnly,
            ),
            (
                "we-ar",
                "write-exclusive-all-registrants",
                "7",
                ReservationType::WriteExclusiveAllRegistrants,
            ),
            (
                "ea-ar",
                "exclusive-access-all-registrants",
                "8",
                ReservationType::ExclusiveAccessAllRegistrants,
            ),
        ] {
            for text in [short, long, number] {
                assert_eq!(reservation_type(text).unwrap(), expected, "{text}");
            }
        }
        for text in ["", "0", "2", "4", "9", "+5", "05", "WE", "we-", "we-rо"] {
            assert!(reservation_type(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_not_written_as_in_multipath_conf() {
        assert_eq!(key("0").unwrap(), ReservationKey::ZERO);
        for text in ["0x123abc:aptpl", "1:APTPL"] {
            let error = own_key(text).unwrap_err().to_string();
            assert!(error.contains("--aptpl"), "{error}");
        }
    }

    #[test]
    fn service_actions_have_a_name_and_a_number() {
        for text in ["register-and-move", "7"] {
            let action = service_action(text).unwrap();
            assert_eq!(action, OutServiceAction::RegisterAndMove);
        }
        assert!(service_action("9").is_err());
    }

    #[test]
    fn target_ports_begin_with_one() {
        assert_eq!(target_port("65535").unwrap().get(), u16::MAX);
        for text in ["0", "65536", "-1", "a"] {
            assert!(target_port(text).is_err(), "{text}");
        }
    }
}
