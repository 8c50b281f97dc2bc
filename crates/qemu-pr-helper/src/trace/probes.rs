// SPDX-License-Identifier: MIT OR Apache-2.0

//! Arguments of events for static probes: one machine word each, and texts by address.

use std::cell::Cell;
use std::ffi::CString;

use super::argument::Value;

/// Arguments of a probe. The addresses among them are valid as long as the value lives.
#[derive(Debug, Default)]
pub(crate) struct ProbeArgs {
    words: Vec<isize>,
    /// Texts to which the addresses point.
    texts: Vec<CString>,
    /// Number of arguments that [`Self::next`] has returned.
    returned: Cell<usize>,
}

impl ProbeArgs {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an argument of a probe is a machine word"
    )]
    pub(crate) fn new(values: &[Value<'_>]) -> Self {
        let mut args = Self::default();
        for value in values {
            let word = match value {
                Value::Number(number) => number.cast_signed() as isize,
                Value::Text(text) => {
                    let text = CString::new(text.replace('\0', "")).unwrap_or_default();
                    let address = text.as_ptr() as isize;
                    args.texts.push(text);
                    address
                }
            };
            args.words.push(word);
        }
        args
    }

    /// Returns the next argument, in the order in which the event declares them.
    pub(crate) fn next(&self, _name: &str) -> isize {
        let index = self.returned.replace(self.returned.get() + 1);
        self.words.get(index).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_args_are_words_in_order() {
        let values = [
            Value::Number(7),
            Value::Number(u64::MAX),
            Value::Text("a\0b"),
        ];
        let args = ProbeArgs::new(&values);
        assert_eq!([args.next("one"), args.next("two")], [7, -1]);
        assert_ne!(args.next("three"), 0);
        assert_eq!(args.texts, [CString::new("ab").unwrap()]);
    }
}
