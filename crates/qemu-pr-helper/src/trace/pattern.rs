//! Patterns of names, as glib's `g_pattern_match_simple` has them.

/// Whether `name` fits `pattern`, in which `*` stands for anything and `?` for any one character.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Whether what was looked at of the pattern fits the first n characters of the name, for each n.
    let mut fits = vec![false; name.len().saturating_add(1)];
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    for wanted in pattern {
        let mut before = false;
        for (place, fit) in fits.iter_mut().enumerate() {
            let found = place.checked_sub(1).and_then(|place| name.get(place));
            let now = match wanted {
                // Nothing more, or one character more.
                '*' => *fit || before,
                wanted => before && found.is_some_and(|found| wanted == '?' || wanted == *found),
            };
            before = if wanted == '*' { now } else { *fit };
            *fit = now;
        }
    }
    fits.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything_and_a_question_mark_is_one() {
        for (pattern, name, expected) in [
            ("pr_helper_stopping", "pr_helper_stopping", true),
            ("pr_*", "pr_helper_stopping", true),
            ("*stop*", "pr_helper_stopping", true),
            ("*ing", "pr_helper_stopping", true),
            ("*", "", true),
            ("**", "x", true),
            ("pr_?elper*", "pr_helper_stopping", true),
            ("*?????????", "stopping", false),
            ("?", "é", true),
            ("pr_*x", "pr_helper_stopping", false),
            ("", "pr_helper_stopping", false),
            ("pr_helper", "pr_helper_stopping", false),
            ("pr_helper_stoppingé", "pr_helper_stopping", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "*a".repeat(200);
        assert!(!matches(&pattern, &"a".repeat(199)));
        assert!(matches(&pattern, &"a".repeat(200)));
    }
}
