// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filters of LVM (`lvm.conf(5)`): which devices they accept.

/// A filter: patterns in their order.
#[derive(Debug)]
pub(super) struct Filter<'a>(Vec<&'a str>);

/// The effect of a filter on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Accepted,
    Rejected,
    /// A pattern has an operator that is not evaluated.
    Unknown,
}

impl<'a> Filter<'a> {
    /// Parses the value as `lvmconfig` prints it: `["a|.*|","r|^/dev/sdb|"]`.
    pub(super) fn parse(value: &'a str) -> Self {
        let elements = value.trim_matches(['[', ']']).split('"').skip(1);
        Self(elements.step_by(2).collect())
    }

    /// Returns the effect on the device with these names. LVM accepts a device if the first pattern
    /// that matches one of its names accepts it, or if no pattern matches any.
    pub(super) fn effect(&self, names: &[String]) -> Effect {
        let effects: Vec<_> = names.iter().filter_map(|name| self.on_name(name)).collect();
        let has = |effect| effects.contains(&effect);
        match () {
            () if has(Effect::Accepted) => Effect::Accepted,
            () if has(Effect::Unknown) => Effect::Unknown,
            () if has(Effect::Rejected) => Effect::Rejected,
            () => Effect::Accepted,
        }
    }

    /// Returns the effect of the first pattern that matches a name.
    fn on_name(&self, name: &str) -> Option<Effect> {
        self.0.iter().find_map(|pattern| {
            let effect = match pattern.chars().next()? {
                'a' => Effect::Accepted,
                _ => Effect::Rejected,
            };
            let expression = pattern.get(1..)?;
            let delimiter = expression.chars().next()?;
            match matches(expression.trim_matches(delimiter), name) {
                Some(true) => Some(effect),
                Some(false) => None,
                None => Some(Effect::Unknown),
            }
        })
    }
}

/// Returns whether a regular expression matches a part of a name; `None` for one with operators
/// besides anchors, the dot, and `.*` at its beginning and end.
fn matches(expression: &str, name: &str) -> Option<bool> {
    let (rest, at_start) = match expression.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (expression, false),
    };
    let (rest, at_end) = match rest.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (rest, at_start) = match rest.strip_prefix(".*") {
        Some(rest) => (rest, false),
        None => (rest, at_start),
    };
    let (rest, at_end) = match rest.strip_suffix(".*") {
        Some(rest) => (rest, false),
        None => (rest, at_end),
    };
    if rest.contains([
        '*', '+', '?', '[', ']', '(', ')', '|', '\\', '^', '$', '{', '}',
    ]) {
        return None;
    }
    let (rest, name): (Vec<_>, Vec<_>) = (rest.chars().collect(), name.chars().collect());
    let is_equal = |part: &[char]| {
        let mut pairs = rest.iter().zip(part);
        part.len() == rest.len() && pairs.all(|(one, other)| *one == '.' || one == other)
    };
    let parts = || (0..=name.len()).map(|start| name.get(start..start + rest.len()));
    Some(match (at_start, at_end) {
        (true, true) => is_equal(&name),
        (true, false) => name.get(..rest.len()).is_some_and(is_equal),
        (false, true) => {
            let start = name.len().checked_sub(rest.len());
            start
                .and_then(|start| name.get(start..))
                .is_some_and(is_equal)
        }
        (false, false) => parts().flatten().any(is_equal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_accepted_name_is_sufficient() {
        let names = ["/dev/sdb", "/dev/disk/by-id/wwn-0x6"].map(str::to_owned);
        for (filter, effect) in [
            (r#"["a|.*|"]"#, Effect::Accepted),
            (r#"["r|^/dev/sdb.*|","a|.*|"]"#, Effect::Accepted),
            (r#"["r|^/dev/sdb.*|"]"#, Effect::Rejected),
            (r#"["r|^/dev/sdc|"]"#, Effect::Accepted),
            (r#"["a|^/dev/sda$|","r|.*|"]"#, Effect::Rejected),
            (r#"["a/wwn-0x6$/","r/.*/"]"#, Effect::Accepted),
            (r#"["a|/dev/sd[ac]|","r|.*|"]"#, Effect::Unknown),
            (r#"["r|/dev/|"]"#, Effect::Rejected),
            ("[]", Effect::Accepted),
        ] {
            assert_eq!(Filter::parse(filter).effect(&names), effect, "{filter}");
        }
    }

    #[test]
    fn expressions_are_evaluated() {
        for (expression, name, expected) in [
            (".*", "", Some(true)),
            ("^/dev/sdb", "/dev/sdba", Some(true)),
            ("^/dev/sdb$", "/dev/sdba", Some(false)),
            ("sd.$", "/dev/sdb", Some(true)),
            ("sd.$", "/dev/sdba", Some(false)),
            ("mapper", "/dev/mapper/a", Some(true)),
            ("^mapper", "/dev/mapper/a", Some(false)),
            ("^.*a$", "/dev/mapper/a", Some(true)),
            ("sd[ab]", "/dev/sda", None),
            ("/dev/.*/a", "/dev/mapper/a", None),
        ] {
            assert_eq!(matches(expression, name), expected, "{expression} {name}");
        }
    }
}
