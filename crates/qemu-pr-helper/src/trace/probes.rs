//! Arguments of events as static probes have them: a machine word each, texts by address.

use std::ffi::CString;

use super::argument::Value;

/// A probe's arguments. Addresses in it are good for as long as it lives.
#[derive(Debug, Default)]
pub struct Words {
    words: Vec<isize>,
    /// What the addresses are of.
    _texts: Vec<CString>,
}

impl Words {
    /// Those of an event with these values.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a probe's argument is a machine word, whatever is in it"
    )]
    #[must_use]
    pub fn of(values: &[Value<'_>]) -> Self {
        let mut words = Self::default();
        for value in values {
            let word = match value {
                // The bits as they are.
                Value::Number(number) => i64::from_ne_bytes(number.to_ne_bytes()) as isize,
                Value::Text(text) => {
                    let text = text.replace('\0', "");
                    let text = CString::new(text).unwrap_or_default();
                    let word = text.as_ptr() as isize;
                    words._texts.push(text);
                    word
                }
            };
            words.words.push(word);
        }
        words
    }
}

/// Words that are made when the first one is asked for.
#[derive(Debug)]
pub struct Lazy<F> {
    make: Option<F>,
    words: Words,
    next: usize,
}

impl<F: FnOnce() -> Words> Lazy<F> {
    /// Those that `make` will make.
    pub const fn new(make: F) -> Self {
        Self {
            make: Some(make),
            words: Words {
                words: Vec::new(),
                _texts: Vec::new(),
            },
            next: 0,
        }
    }

    /// The next one; they are asked for in the order of the event's arguments.
    pub fn next(&mut self, _name: &str) -> isize {
        if let Some(make) = self.make.take() {
            self.words = make();
        }
        let word = self.words.words.get(self.next).copied();
        self.next = self.next.saturating_add(1);
        word.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_made_once_and_in_order() {
        let mut made = 0;
        let mut words = Lazy::new(|| {
            made += 1;
            Words::of(&[
                Value::Number(7),
                Value::Number(u64::MAX),
                Value::Text("a\0b"),
            ])
        });
        assert_eq!([words.next("one"), words.next("two")], [7, -1]);
        assert_ne!(words.next("three"), 0);
        assert_eq!(words.words._texts, [CString::new("ab").unwrap()]);
        assert_eq!(made, 1);
    }
}
