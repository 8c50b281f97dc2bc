// SPDX-License-Identifier: MIT OR Apache-2.0

//! Argument types of events: their values in a record, and their types in C.

use std::fmt;

/// Value of an argument in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number (in two's complement if it is signed) or an address.
    Number(u64),
    Text(&'a str),
}

/// Parameter of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: ArgumentKind,
}

/// Type of an argument in C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArgumentKind {
    pub(crate) c_type: &'static str,
    /// Conversion of `printf`; decimal for numbers.
    pub(crate) conversion: &'static str,
    /// Hexadecimal conversion of `printf`, if the type is a number.
    pub(crate) hexadecimal: Option<&'static str>,
}

/// Type that an event can have as an argument.
pub(crate) trait Argument {
    const KIND: ArgumentKind;

    /// Returns the value for a record.
    fn value(&self) -> Value<'_>;
}

macro_rules! arguments {
    (
        $($type:ty: $c_type:literal, $conversion:literal, $hexadecimal:expr,
            $argument:ident => $value:expr;)+
    ) => {$(
        impl Argument for $type {
            const KIND: ArgumentKind = ArgumentKind {
                c_type: $c_type,
                conversion: $conversion,
                hexadecimal: $hexadecimal,
            };

            fn value(&self) -> Value<'_> {
                let $argument = *self;
                $value
            }
        }
    )+};
}

// QEMU's own files use the macros of <inttypes.h> in the same way, between two string literals.
arguments! {
    u8: "uint8_t", "%u", Some("%x"), number => Value::Number(u64::from(number));
    u16: "uint16_t", "%u", Some("%x"), number => Value::Number(u64::from(number));
    u32: "uint32_t", "%u", Some("%x"), number => Value::Number(u64::from(number));
    u64: "uint64_t", "%\"PRIu64\"", Some("%\"PRIx64\""), number => Value::Number(number);
    i32: "int", "%d", Some("%x"), number => Value::Number(i64::from(number).cast_unsigned());
    &str: "const char *", "%s", None, text => Value::Text(text);
    ObjectId: "void *", "%p", None, id => Value::Number(id.0);
}

/// Number that identifies an object among those of its kind. It is printed like the address that
/// QEMU's events have in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectId(pub(crate) u64);

impl fmt::Pointer for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_id_is_printed_like_an_address() {
        assert_eq!(format!("ioc={:p}", ObjectId(0x1f)), "ioc=0x1f");
    }
}
