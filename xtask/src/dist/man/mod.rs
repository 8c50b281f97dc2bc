//! Man pages: the helper's, written by hand around its options, and those of prhctl, from its help.

mod options;
mod prhctl;
mod roff;

#[cfg(test)]
mod tests;

use clap::CommandFactory as _;
use qemu_pr_helper::cli::Options;

use super::edition::{Edition, VERSION};

/// Where the options go in the helper's page.
const OPTIONS: &str = ".\\\" %OPTIONS%\n";

/// A man page.
pub(crate) struct Page {
    /// Its file's name, with the section.
    pub(crate) name: String,
    /// It.
    pub(crate) text: String,
}

/// All of them.
pub(crate) fn pages(edition: &Edition) -> Vec<Page> {
    let mut pages = vec![Page {
        name: "qemu-pr-helper.8".to_owned(),
        text: helper(edition),
    }];
    let mut prhctl = ::prhctl::command_line();
    prhctl.build();
    pages.extend(prhctl::pages(&prhctl, edition));
    pages
}

fn helper(edition: &Edition) -> String {
    const PAGE: &str = include_str!("../../../../dist/man/qemu-pr-helper.8");
    let mut command = Options::command();
    command.build();
    PAGE.replace("%DATE%", &edition.day())
        .replace("%VERSION%", VERSION)
        .replace(OPTIONS, &options::section(&command))
}
