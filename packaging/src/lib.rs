// SPDX-License-Identifier: MIT OR Apache-2.0

//! Man pages, shell completions and packages of the installed programs.

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_errors_doc,
    reason = "the tool reports errors and does not distinguish them"
)]

pub mod completions;
pub mod deb;
mod licenses;
pub mod man;
pub mod rpm;
pub mod source_date;
pub mod staging;

use pr_testkit::build::Installed;
use source_date::SourceDate;

/// Name of the packages. It differs from the distributions' qemu-pr-helper (on Fedora), because a
/// newer version of that package would replace one of the same name.
pub const NAME: &str = "qemu-pr-helper-rs";

/// Version of the workspace and all of its programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Revision of the packages of one version.
const RELEASE: &str = "1";

/// Contents of a package that are not files of this repository.
pub struct PackageInputs {
    /// The programs.
    pub programs: Installed,
    /// Date of the sources.
    pub source_date: SourceDate,
    /// Maintainer's name and mail address.
    pub maintainer: String,
}
