//! SPDX license expressions.

/// Returns the licenses of the first choice that `allowed` contains completely; `None` if there is
/// none.
///
/// Old crates use `/` for OR.
pub(super) fn choose(expression: &str, allowed: &[String]) -> Option<Vec<String>> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut parser = Parser {
        tokens: spaced.split_whitespace().peekable(),
        allowed,
    };
    let choice = parser.parse_or()?;
    match parser.tokens.next() {
        None => choice.0,
        Some(_) => None,
    }
}

/// Result of a subexpression; `None` if no choice is allowed.
struct Choice(Option<Vec<String>>);

struct Parser<'a, I: Iterator<Item = &'a str>> {
    tokens: std::iter::Peekable<I>,
    allowed: &'a [String],
}

impl<'a, I: Iterator<Item = &'a str>> Parser<'a, I> {
    /// Parses terms separated by OR. Like the other functions, it returns `None` for a syntax
    /// error.
    fn parse_or(&mut self) -> Option<Choice> {
        let mut choice = self.parse_and()?;
        while self.tokens.next_if_eq(&"OR").is_some() {
            let other = self.parse_and()?;
            choice = Choice(choice.0.or(other.0));
        }
        Some(choice)
    }

    /// Parses factors separated by AND, which binds tighter.
    fn parse_and(&mut self) -> Option<Choice> {
        let mut choice = self.parse_factor()?;
        while self.tokens.next_if_eq(&"AND").is_some() {
            let other = self.parse_factor()?;
            choice = Choice(
                choice
                    .0
                    .zip(other.0)
                    .map(|(one, other)| [one, other].concat()),
            );
        }
        Some(choice)
    }

    fn parse_factor(&mut self) -> Option<Choice> {
        let word = self.tokens.next()?;
        if word == "(" {
            let choice = self.parse_or()?;
            return (self.tokens.next() == Some(")")).then_some(choice);
        }
        let mut license = word.to_owned();
        if self.tokens.next_if_eq(&"WITH").is_some() {
            license = format!("{license} WITH {}", self.tokens.next()?);
        }
        Some(Choice(
            self.allowed.contains(&license).then(|| vec![license]),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_allowed_choice_is_returned() {
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
