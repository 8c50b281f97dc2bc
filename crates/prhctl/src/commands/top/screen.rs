// SPDX-License-Identifier: MIT OR Apache-2.0

//! The screen of `prhctl top`: draws the rows, and changes what is shown when a key is pressed.

use anstyle::{AnsiColor, Color, Style as TextStyle};
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color as ScreenColor, Modifier, Style};
use ratatui::termion::event::Key;
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::activity::Order;
use super::view::{CLIENT_HEADER, DISK_HEADER, View};
use crate::console::{BOLD, REJECTED, escape_control};
use crate::wrap::columns;

/// Number of columns between two cells.
const SPACING: u16 = 2;

/// Effects of the keys.
const KEYS: &str = "q quit  s sort  t period  Tab other table  Up/Down scroll";

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pane {
    Clients,
    Disks,
}

/// The screen, apart from the rows.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) order: Order,
    /// True if the commands since the start of the helpers are shown.
    pub(super) is_total: bool,
    has_color: bool,
    zone: TimeZone,
    /// The table that is scrolled.
    pane: Pane,
    skipped: Skipped,
}

/// Numbers of rows above the first one that is shown.
#[derive(Debug)]
struct Skipped {
    clients: usize,
    disks: usize,
}

impl Skipped {
    const fn of(&mut self, pane: Pane) -> &mut usize {
        match pane {
            Pane::Clients => &mut self.clients,
            Pane::Disks => &mut self.disks,
        }
    }
}

/// Consequence of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    Quit,
    /// The screen has to be drawn again.
    Draw,
    Nothing,
}

impl Screen {
    pub(super) const fn new(order: Order, has_color: bool, zone: TimeZone) -> Self {
        Screen {
            order,
            is_total: false,
            has_color,
            zone,
            pane: Pane::Clients,
            skipped: Skipped {
                clients: 0,
                disks: 0,
            },
        }
    }

    /// Changes what is shown.
    pub(super) fn press(&mut self, key: Key) -> Reaction {
        let skipped = self.skipped.of(self.pane);
        match key {
            Key::Char('q') | Key::Esc | Key::Ctrl('c') => return Reaction::Quit,
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('t') => self.is_total = !self.is_total,
            Key::Char('\t') => {
                self.pane = match self.pane {
                    Pane::Clients => Pane::Disks,
                    Pane::Disks => Pane::Clients,
                }
            }
            Key::Up => *skipped = skipped.saturating_sub(1),
            Key::Down => *skipped = skipped.saturating_add(1),
            Key::PageUp => *skipped = skipped.saturating_sub(10),
            Key::PageDown => *skipped = skipped.saturating_add(10),
            Key::Home => *skipped = 0,
            // Drawing reduces it to the last row.
            Key::End => *skipped = usize::MAX,
            _ => return Reaction::Nothing,
        }
        Reaction::Draw
    }

    /// Draws the rows, or the reason why there are none.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, view: Result<&View, &str>) {
        let warnings =
            view.map_or_else(|error| vec![error.to_owned()], |view| view.warnings.clone());
        let warnings: Vec<_> = warnings
            .iter()
            .map(|line| Line::styled(escape_control(line), self.style(REJECTED)))
            .collect();
        let [title, middle, tables, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(warnings.len().try_into().unwrap_or(u16::MAX)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let text = view.map_or_else(|_| "prhctl top".to_owned(), |view| view.title(&self.zone));
        frame.render_widget(Line::styled(text, self.style(BOLD)), title);
        frame.render_widget(Paragraph::new(warnings), middle);
        let text = format!("{KEYS}   (sorted by {})", self.order.name());
        frame.render_widget(Line::raw(text), keys);
        if let Ok(view) = view {
            self.draw_tables(frame, tables, view);
        }
    }

    /// Draws both tables. If they do not fit, each has at least half of the screen.
    fn draw_tables(&mut self, frame: &mut Frame<'_>, area: Rect, view: &View) {
        let needed = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2);
        let (clients, disks) = (needed(view.clients.len()), needed(view.disks.len()));
        let half = area.height / 2;
        let below = disks.min(half.max(area.height.saturating_sub(clients)));
        let [above, below] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
        let above = Rect {
            height: above.height.min(clients),
            ..above
        };
        let below = Rect {
            y: above.bottom(),
            ..below
        };
        self.draw_table(
            frame,
            above,
            Pane::Clients,
            &CLIENT_HEADER,
            view.client_cells(),
        );
        self.draw_table(frame, below, Pane::Disks, &DISK_HEADER, view.disk_cells());
    }

    /// Draws a table below an empty line. Columns without room are omitted.
    fn draw_table(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        pane: Pane,
        header: &[&str],
        rows: Vec<(TextStyle, Vec<String>)>,
    ) {
        let visible = usize::from(area.height).saturating_sub(2);
        let skipped = self.skipped.of(pane);
        *skipped = (*skipped).min(rows.len().saturating_sub(visible));
        let skipped = *skipped;
        let rows: Vec<(_, Vec<_>)> = rows
            .into_iter()
            .map(|(style, cells)| {
                let cells = cells.iter().map(|cell| escape_control(cell));
                (style, cells.collect())
            })
            .collect();
        let widths = header.iter().enumerate().map(|(index, label)| {
            let cells = rows.iter().filter_map(|(_, cells)| cells.get(index));
            let widest = cells.map(|cell| columns(cell)).max().unwrap_or(0);
            widest.max(columns(label))
        });
        let widths = fitting(widths, area.width);
        let mut heading = self.style(BOLD);
        if pane == self.pane {
            heading = heading.add_modifier(Modifier::UNDERLINED);
        }
        let header = Row::new(header.iter().map(|label| Cell::from(*label)));
        let shown = rows.into_iter().skip(skipped).map(|(style, cells)| {
            Row::new(cells.into_iter().map(Cell::from)).style(self.style(style))
        });
        let table = Table::new(shown, widths)
            .column_spacing(SPACING)
            .header(header.style(heading).top_margin(1));
        frame.render_widget(table, area);
    }

    /// Returns a style of the console for the screen.
    fn style(&self, style: TextStyle) -> Style {
        let mut converted = Style::new();
        if style.get_effects().contains(anstyle::Effects::BOLD) {
            converted = converted.add_modifier(Modifier::BOLD);
        }
        let color = match style.get_fg_color().filter(|_| self.has_color) {
            Some(Color::Ansi(AnsiColor::Green)) => ScreenColor::Green,
            Some(Color::Ansi(AnsiColor::Yellow)) => ScreenColor::Yellow,
            Some(Color::Ansi(AnsiColor::Red)) => ScreenColor::Red,
            _ => return converted,
        };
        converted.fg(color)
    }
}

/// Returns the widths of the columns that fit into a screen of `width` columns. The last one can be
/// narrower than it needs.
fn fitting(needed: impl Iterator<Item = usize>, width: u16) -> Vec<Constraint> {
    let mut left = width;
    let mut widths = Vec::new();
    for needed in needed {
        if left == 0 {
            break;
        }
        let own = u16::try_from(needed).unwrap_or(u16::MAX).min(left);
        widths.push(Constraint::Length(own));
        left = left.saturating_sub(own).saturating_sub(SPACING);
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::view::tests::busy_document;
    use crate::state_fixture::{client, states};
    use helper_state::StateDocument;
    use pr_testkit::picture;
    use pr_testkit::screen::{Cell as ScreenCell, plain};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// A screen with the states of a helper.
    struct Shown {
        screen: Screen,
        terminal: Terminal<TestBackend>,
        document: StateDocument,
    }

    impl Shown {
        fn new(columns: u16, rows: u16, has_color: bool) -> Self {
            Shown {
                screen: Screen::new(Order::Waiting, has_color, TimeZone::UTC),
                terminal: Terminal::new(TestBackend::new(columns, rows)).unwrap(),
                document: busy_document(),
            }
        }

        /// Draws the screen, and returns its lines.
        fn lines(&mut self) -> Vec<Vec<ScreenCell>> {
            let states = states([self.document.clone()]);
            let view = View::since_start(&states, self.screen.order);
            let drawn = self
                .terminal
                .draw(|frame| self.screen.draw(frame, Ok(&view)));
            let buffer = drawn.unwrap().buffer;
            let width = usize::from(buffer.area.width);
            let lines = buffer.content().chunks(width).map(|line| {
                let cells = line.iter().map(|cell| {
                    let character = cell.symbol().chars().next().unwrap();
                    (character, rendition(cell.style()))
                });
                cells.collect()
            });
            lines.collect()
        }

        fn text(&mut self) -> String {
            plain(&self.lines())
        }

        fn press(&mut self, keys: &[Key]) {
            for key in keys {
                assert_eq!(self.screen.press(*key), Reaction::Draw, "{key:?}");
            }
        }
    }

    /// Returns the codes of a select graphic rendition.
    fn rendition(style: Style) -> String {
        let modifiers = [(Modifier::BOLD, "1"), (Modifier::UNDERLINED, "4")];
        let modifiers = modifiers.into_iter();
        let codes = modifiers.filter(|(modifier, _)| style.add_modifier.contains(*modifier));
        let color = match style.fg {
            Some(ScreenColor::Red) => Some("31"),
            Some(ScreenColor::Yellow) => Some("33"),
            _ => None,
        };
        let codes: Vec<_> = codes.map(|(_, code)| code).chain(color).collect();
        codes.join(" ")
    }

    #[test]
    fn narrow_screen_omits_columns() {
        let text = Shown::new(80, 13, true).text();
        let expected = "\
12:00:00  1 helper, 4 clients, 2 disks, 2 waiting, 155 commands in 1h 30m
web1 and web2 share quorum through this host, see 'prhctl disks'

NAME    PROCESS  COMMANDS  /S   CONFLICTS  P99    WAITING  COMMAND
db1     1003     1         0.0  0          70ms   42s      READ KEYS on sdb
web2    1002     34        0.0  4          900us  1s       PREEMPT AND ABORT on
backup  1004     0         0.0  0          -      -        -
web1    1001     120       0.0  0          3ms    -        -

DISK    COMMANDS  /S   CONFLICTS  P99   WAITING  KEYS  RESERVATION      WWN
sdb     1         0.0  0          70ms  42s      0     -                -
quorum  154       0.0  4          3ms   1s       2     we-ro 0xa1 web1  naa.6001
q quit  s sort  t period  Tab other table  Up/Down scroll   (sorted by waiting)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn wide_screen_has_all_columns() {
        let text = Shown::new(200, 50, true).text();
        assert!(text.contains("PREEMPT AND ABORT on quorum\n"), "{text}");
        assert!(
            text.contains("naa.600140500000000000000000000000aa\n"),
            "{text}"
        );
    }

    #[test]
    fn hanging_commands_are_red() {
        for (has_color, expected) in [(true, ["31", "33", ""]), (false, [""; 3])] {
            let lines = Shown::new(80, 24, has_color).lines();
            let rows = [&lines[4], &lines[5], &lines[6]];
            assert_eq!(rows.map(|row| row[0].1.as_str()), expected);
            assert_eq!(lines[0][0].1, "1");
        }
    }

    #[test]
    fn keys_change_the_order_and_scroll() {
        let mut shown = Shown::new(80, 13, false);
        shown.document.clients = (1..40)
            .map(|id| client(id, &format!("vm{id:02}")))
            .collect();
        shown.document.statistics.clear();
        let first = |shown: &mut Shown| shown.text().lines().nth(4).unwrap()[..4].to_owned();
        assert_eq!(first(&mut shown), "vm01");
        shown.press(&[Key::Down, Key::Down, Key::Up]);
        assert_eq!(first(&mut shown), "vm02");
        shown.press(&[Key::End]);
        let text = shown.text();
        assert!(text.contains("\nvm39  "), "{text}");
        // A table that is not focused is not scrolled, but both tables are visible.
        assert!(text.contains("\nquorum  "), "{text}");
        shown.press(&[Key::Up]);
        assert!(!shown.text().contains("\nvm39  "));
        shown.press(&[Key::Char('\t'), Key::End, Key::Char('s')]);
        assert!(shown.text().contains("(sorted by commands)"));
        shown.press(&[Key::Char('\t'), Key::Home, Key::Char('t')]);
        assert_eq!(first(&mut shown), "vm01");
        assert!(shown.screen.is_total);
        for key in [Key::Char('q'), Key::Esc, Key::Ctrl('c')] {
            assert_eq!(shown.screen.press(key), Reaction::Quit);
        }
        assert_eq!(shown.screen.press(Key::Char('x')), Reaction::Nothing);
    }

    #[test]
    fn small_screens_are_drawn() {
        for columns in [1, 2, 10, 39] {
            for rows in [1, 2, 3, 6] {
                let lines = Shown::new(columns, rows, true).lines();
                assert_eq!(lines.len(), usize::from(rows));
            }
        }
    }

    #[test]
    fn names_are_escaped() {
        let mut shown = Shown::new(80, 24, false);
        shown.document.clients[0].process.name = "a\x1b[2J\u{202e}".to_owned();
        let text = shown.text();
        assert!(text.contains(r"a\u{1b}[2J\u{202e}"), "{text}");
    }

    #[test]
    fn error_is_shown() {
        let mut shown = Shown::new(40, 5, false);
        let error = "no helper runs on this host";
        let screen = &mut shown.screen;
        shown
            .terminal
            .draw(|frame| screen.draw(frame, Err(error)))
            .unwrap();
        let lines = ["prhctl top", error, "", "", &KEYS[..40]];
        shown
            .terminal
            .backend()
            .assert_buffer_lines(lines.map(|line| {
                let style = match line {
                    "prhctl top" => Style::new().add_modifier(Modifier::BOLD),
                    _ => Style::new(),
                };
                Line::styled(format!("{line:40}"), style)
            }));
    }

    #[test]
    fn picture_of_readme_is_current() {
        let lines = Shown::new(80, 13, true).lines();
        let title = "prhctl top: a command hangs, and another waits";
        picture::check("top.svg", title, 80, &lines);
    }
}
