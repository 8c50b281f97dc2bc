// SPDX-License-Identifier: MIT OR Apache-2.0

//! Man pages: the helper's is written by hand, with generated options; prhctl's are generated from
//! its help.
//!
//! `clap_mangen` is not used, because it prints the text after the options, with its exit statuses
//! and examples, as one paragraph, and possible values as a sentence.

mod equivalents;
mod options;
mod prhctl;
mod roff;

use clap::CommandFactory as _;
use qemu_pr_helper::cli::Options;

use super::VERSION;

/// Placeholder of the options in the helper's page.
const OPTIONS: &str = ".\\\" %OPTIONS%\n";

/// A man page.
pub struct Page {
    /// File name, with the section.
    pub name: String,
    /// Content in roff.
    pub text: String,
}

/// Returns all pages, with this date.
pub fn pages(day: &str) -> Vec<Page> {
    let mut pages = vec![Page {
        name: "qemu-pr-helper.8".to_owned(),
        text: helper(day),
    }];
    let mut prhctl = ::prhctl::command_line();
    prhctl.build();
    pages.extend(prhctl::pages(&prhctl, day));
    pages
}

fn helper(day: &str) -> String {
    const PAGE: &str = include_str!("../../man/qemu-pr-helper.8");
    let mut command = Options::command();
    command.build();
    PAGE.replace("%DATE%", day)
        .replace("%VERSION%", VERSION)
        .replace(OPTIONS, &options::section(&command))
}
