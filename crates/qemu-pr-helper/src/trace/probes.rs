//! Arguments of events for static probes: one machine word each, and texts by address.

use std::ffi::CString;

use super::argument::Value;

/// Arguments of a probe. The addresses among the words are valid as long as the value lives.
#[derive(Debug, Default)]
pub(crate) struct ProbeArgs {
    words: Vec<isize>,
    /// Texts to which the addresses point.
    texts: Vec<CString>,
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
}

/// Arguments that are made when the first one is needed.
#[derive(Debug)]
pub(crate) struct LazyProbeArgs<F> {
    make: Option<F>,
    args: ProbeArgs,
    next: usize,
}

impl<F: FnOnce() -> ProbeArgs> LazyProbeArgs<F> {
    pub(crate) fn new(make: F) -> Self {
        Self {
            make: Some(make),
            args: ProbeArgs::default(),
            next: 0,
        }
    }

    /// Returns the next argument, in the order in which the event declares them.
    pub(crate) fn next(&mut self, _name: &str) -> isize {
        if let Some(make) = self.make.take() {
            self.args = make();
        }
        let word = self.args.words.get(self.next).copied();
        self.next += 1;
        word.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_args_are_made_once_and_in_order() {
        let mut made = 0;
        let values = [
            Value::Number(7),
            Value::Number(u64::MAX),
            Value::Text("a\0b"),
        ];
        let mut args = LazyProbeArgs::new(|| {
            made += 1;
            ProbeArgs::new(&values)
        });
        assert_eq!([args.next("one"), args.next("two")], [7, -1]);
        assert_ne!(args.next("three"), 0);
        assert_eq!(args.args.texts, [CString::new("ab").unwrap()]);
        assert_eq!(made, 1);
    }
}
