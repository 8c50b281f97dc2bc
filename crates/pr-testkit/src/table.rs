// SPDX-License-Identifier: MIT OR Apache-2.0

//! Comparison of a table in a document with the list in the program.

use std::collections::BTreeMap;
use std::fmt::Display;

/// Asserts that two lists have the same items, each of them once, in any order. Each list has a
/// name, such as the path of a document.
///
/// # Panics
///
/// Panics if they differ. The message names each item that a list lacks, or has several times.
#[track_caller]
pub fn assert_same<T: Ord + Display>(
    first: (&str, impl IntoIterator<Item = T>),
    second: (&str, impl IntoIterator<Item = T>),
) {
    let problems = differences(first, second).join("\n");
    assert!(problems.is_empty(), "{problems}");
}

fn differences<T: Ord + Display>(
    (first, first_items): (&str, impl IntoIterator<Item = T>),
    (second, second_items): (&str, impl IntoIterator<Item = T>),
) -> Vec<String> {
    let mut counts: BTreeMap<T, (usize, usize)> = BTreeMap::new();
    for item in first_items {
        counts.entry(item).or_default().0 += 1;
    }
    for item in second_items {
        counts.entry(item).or_default().1 += 1;
    }
    let mut problems = Vec::new();
    for (item, count) in counts {
        match count {
            (0, _) => problems.push(format!("{first} lacks {item}, which {second} has")),
            (_, 0) => problems.push(format!("{second} lacks {item}, which {first} has")),
            (1, 1) => {}
            (1, more) => problems.push(format!("{second} has {item} {more} times")),
            (more, _) => problems.push(format!("{first} has {item} {more} times")),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_items_in_any_order_are_equal() {
        assert_same(("document", ["a", "b"]), ("program", ["b", "a"]));
    }

    #[test]
    fn differences_are_named() {
        let problems = differences(
            ("document", ["a", "b", "c", "c"]),
            ("program", ["b", "c", "d"]),
        );
        let expected = [
            "program lacks a, which document has",
            "document has c 2 times",
            "document lacks d, which program has",
        ];
        assert_eq!(problems, expected);
    }
}
