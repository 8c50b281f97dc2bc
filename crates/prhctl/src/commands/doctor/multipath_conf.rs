// SPDX-License-Identifier: MIT OR Apache-2.0

//! Settings in the configuration of multipath-tools.

/// A setting in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: String,
    /// Number of the line, from 1.
    pub(super) line: usize,
    /// The innermost section, such as `defaults`.
    pub(super) section: String,
    pub(super) name: String,
    pub(super) value: String,
}

impl Setting {
    /// Returns the setting with its place, as evidence.
    pub(super) fn evidence(&self) -> String {
        format!("{}:{}: {} {}", self.file, self.line, self.name, self.value)
    }
}

/// Parses the contents of a file (`multipath.conf(5)`).
pub(super) fn parse(file: &str, text: &str) -> Vec<Setting> {
    let (mut sections, mut settings) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let mut words = words(line);
        let closes = words.iter().filter(|word| *word == "}").count();
        words.retain(|word| word != "}");
        match words.split_first() {
            Some((name, rest)) if rest.first().is_some_and(|word| word == "{") => {
                sections.push(name.clone());
            }
            Some((name, value)) if !value.is_empty() => settings.push(Setting {
                file: file.to_owned(),
                line: index + 1,
                section: sections.last().cloned().unwrap_or_default(),
                name: name.clone(),
                value: value.join(" "),
            }),
            _ => {}
        }
        sections.truncate(sections.len().saturating_sub(closes));
    }
    settings
}

/// Returns the words of a line before a comment. Quotes enclose a word with blanks.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '#' | '!' if !is_quoted => break,
            '{' | '}' if !is_quoted => {
                words.push(std::mem::take(&mut word));
                words.push(character.to_string());
            }
            blank if blank.is_whitespace() && !is_quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_their_section_and_line() {
        let text = "# comment\ndefaults {\n\treservation_key file # note\n}\n\
            devices {\n device {\n vendor \"A B\"\n }\n}\noverrides{ path_checker tur\n}\n\
            ! no_path_retry queue\n";
        let settings = parse("f", text);
        let found: Vec<_> = settings
            .iter()
            .map(|one| (one.line, &*one.section, &*one.name, &*one.value))
            .collect();
        let expected = [
            (3, "defaults", "reservation_key", "file"),
            (7, "device", "vendor", "A B"),
        ];
        assert_eq!(found, expected);
        assert_eq!(settings[0].evidence(), "f:3: reservation_key file");
    }
}
