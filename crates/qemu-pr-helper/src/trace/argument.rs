//! The types that arguments of events have: in a record, and in QEMU's syntax.

use std::fmt;

/// An argument's value, as records have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, in two's complement where it is negative; or an address.
    Number(u64),
    /// A text.
    Text(&'a str),
}

/// What an argument is called, and what type it has in C.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type, as `trace-events` files have it.
    pub kind: Kind,
}

/// A type, in the words of C.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub c_type: &'static str,
    /// How `printf` prints it; for numbers in decimal.
    pub decimal: &'static str,
    /// How `printf` prints it in hexadecimal; none if it is no number.
    pub hexadecimal: Option<&'static str>,
}

/// Something that can be an event's argument.
pub trait Argument {
    /// Its type.
    const KIND: Kind;

    /// Its value in a record.
    fn value(&self) -> Value<'_>;
}

macro_rules! numbers {
    ($($number:ty: $c_type:literal, $decimal:literal, $hexadecimal:literal;)+) => {$(
        impl Argument for $number {
            const KIND: Kind = Kind {
                c_type: $c_type,
                decimal: $decimal,
                hexadecimal: Some($hexadecimal),
            };

            fn value(&self) -> Value<'_> {
                Value::Number(u64::from(*self))
            }
        }
    )+};
}

// As QEMU's own files write them: the macros of <inttypes.h> between two string literals.
numbers! {
    u8: "uint8_t", "%u", "%x";
    u16: "uint16_t", "%u", "%x";
    u32: "uint32_t", "%u", "%x";
    u64: "uint64_t", "%\"PRIu64\"", "%\"PRIx64\"";
}

impl Argument for i32 {
    const KIND: Kind = Kind {
        c_type: "int",
        decimal: "%d",
        hexadecimal: Some("%x"),
    };

    fn value(&self) -> Value<'_> {
        Value::Number(i64::from(*self).cast_unsigned())
    }
}

impl Argument for &str {
    const KIND: Kind = Kind {
        c_type: "const char *",
        decimal: "%s",
        hexadecimal: None,
    };

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

/// What stands where QEMU's events have the address of an object: a number that tells it from others of its
/// kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl fmt::Pointer for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Argument for Address {
    const KIND: Kind = Kind {
        c_type: "void *",
        decimal: "%p",
        hexadecimal: None,
    };

    fn value(&self) -> Value<'_> {
        Value::Number(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_printf_does() {
        assert_eq!(format!("ioc={:p}", Address(0x1f)), "ioc=0x1f");
    }
}
