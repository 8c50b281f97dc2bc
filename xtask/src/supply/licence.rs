//! SPDX licence expressions: which choice they leave.

/// The licences of the first choice among `allowed`; `None` if there is none.
///
/// `/` is what crates once wrote for OR.
pub(super) fn choose(expression: &str, allowed: &[String]) -> Option<Vec<String>> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = Words {
        left: spaced.split_whitespace().peekable(),
        allowed,
    };
    let choice = words.any()?;
    match words.left.next() {
        None => choice.0,
        Some(_) => None,
    }
}

/// What a part of an expression comes to; `None` where it asks for what is not allowed.
struct Choice(Option<Vec<String>>);

struct Words<'a, I: Iterator<Item = &'a str>> {
    left: std::iter::Peekable<I>,
    allowed: &'a [String],
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a, I> {
    /// Parts with OR between them. `None`, as in the others: it is no expression.
    fn any(&mut self) -> Option<Choice> {
        let mut choice = self.all()?;
        while self.left.next_if_eq(&"OR").is_some() {
            let other = self.all()?;
            choice = Choice(choice.0.or(other.0));
        }
        Some(choice)
    }

    /// Parts with AND between them, which binds more.
    fn all(&mut self) -> Option<Choice> {
        let mut choice = self.one()?;
        while self.left.next_if_eq(&"AND").is_some() {
            let other = self.one()?;
            choice = Choice(
                choice
                    .0
                    .zip(other.0)
                    .map(|(one, other)| [one, other].concat()),
            );
        }
        Some(choice)
    }

    fn one(&mut self) -> Option<Choice> {
        let word = self.left.next()?;
        if word == "(" {
            let choice = self.any()?;
            return (self.left.next() == Some(")")).then_some(choice);
        }
        let mut licence = word.to_owned();
        if self.left.next_if_eq(&"WITH").is_some() {
            licence = format!("{licence} WITH {}", self.left.next()?);
        }
        Some(Choice(
            self.allowed.contains(&licence).then(|| vec![licence]),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_choice_has_to_be_allowed() {
        let allowed = ["MIT", "NCSA"].map(str::to_owned);
        for (expression, chosen) in [
            ("MIT", Some(&["MIT"][..])),
            ("Apache-2.0/MIT", Some(&["MIT"])),
            ("(MIT OR Apache-2.0) AND NCSA", Some(&["MIT", "NCSA"])),
            ("Apache-2.0 OR MIT AND NCSA", Some(&["MIT", "NCSA"])),
            ("Apache-2.0 WITH LLVM-exception OR MIT", Some(&["MIT"])),
            ("MIT WITH LLVM-exception", None),
            ("MIT AND Apache-2.0", None),
            ("(MIT OR Apache-2.0", None),
            ("MIT NCSA", None),
            ("MIT OR", None),
            ("", None),
        ] {
            let chosen = chosen.map(|chosen| chosen.iter().map(|one| (*one).to_owned()).collect());
            assert_eq!(choose(expression, &allowed), chosen, "{expression}");
        }
    }
}
