//! Man pages: the helper's is written by hand, with generated options; prhctl's are generated from
//! its help.

mod options;
mod prhctl;
mod roff;

#[cfg(test)]
mod tests;

use clap::CommandFactory as _;
use qemu_pr_helper::cli::Options;

use super::source_date::{SourceDate, VERSION};

/// Placeholder of the options in the helper's page.
const OPTIONS: &str = ".\\\" %OPTIONS%\n";

/// A man page.
pub(crate) struct Page {
    /// File name, with the section.
    pub(crate) name: String,
    /// Content in roff.
    pub(crate) text: String,
}

/// Returns all pages.
pub(crate) fn pages(source_date: &SourceDate) -> Vec<Page> {
    let mut pages = vec![Page {
        name: "qemu-pr-helper.8".to_owned(),
        text: helper(source_date),
    }];
    let mut prhctl = ::prhctl::command_line();
    prhctl.build();
    pages.extend(prhctl::pages(&prhctl, source_date));
    pages
}

fn helper(source_date: &SourceDate) -> String {
    const PAGE: &str = include_str!("../../../../packaging/man/qemu-pr-helper.8");
    let mut command = Options::command();
    command.build();
    PAGE.replace("%DATE%", &source_date.day())
        .replace("%VERSION%", VERSION)
        .replace(OPTIONS, &options::section(&command))
}
