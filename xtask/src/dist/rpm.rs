//! Builds packages for Fedora, RHEL and SUSE.

use anyhow::Result;
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use super::file::{File, Kind};
use super::libraries;
use super::package_files::{self, NAME, RELEASE};
use super::source_date::{SourceDate, VERSION};

/// Name of the distribution's package, which this package conflicts with and provides.
const ORIGINAL: &str = "qemu-pr-helper";

/// Returns the file name of the package.
pub(crate) fn name() -> String {
    format!("{NAME}-{VERSION}-{RELEASE}.{}.rpm", std::env::consts::ARCH)
}

/// Returns a package of these files.
pub(crate) fn package(
    files: &[File],
    source_date: &SourceDate,
    maintainer: &str,
) -> Result<Vec<u8>> {
    let time = u32::try_from(source_date.time)?;
    let config = BuildConfig::v4()
        .source_date(time)
        .compression(CompressionWithLevel::Gzip(9));
    let summary = "SCSI persistent reservation helper for QEMU, in Rust";
    let mut builder = PackageBuilder::new(
        NAME,
        VERSION,
        "MIT OR Apache-2.0",
        std::env::consts::ARCH,
        summary,
    );
    builder
        .using_config(config)
        .release(RELEASE)
        .packager(maintainer)
        .build_host("localhost")
        .description(include_str!("../../../packaging/rpm/description"))
        // Both packages install the same paths. A conflict is rpm's only mechanism that leaves the
        // choice to the administrator: alternatives would need support in the distribution's
        // package.
        .conflicts(Dependency::any(ORIGINAL))
        .provides(Dependency::eq(ORIGINAL, format!("{VERSION}-{RELEASE}")))
        .post_install_script(include_str!("../../../packaging/rpm/post"))
        .pre_uninstall_script(include_str!("../../../packaging/rpm/preun"))
        .post_uninstall_script(include_str!("../../../packaging/rpm/postun"));
    for requirement in libraries(files)? {
        builder.requires(Dependency::any(requirement));
    }
    for file in files {
        let options = FileOptions::new(file.path.as_str())
            .mode(rpm::FileMode::regular(u16::try_from(file.mode)?));
        let options = match file.kind {
            Kind::Ordinary => options,
            Kind::Configuration => options.config().noreplace(),
            Kind::Document => options.doc(),
        };
        builder.with_file_contents(file.content.as_slice(), options)?;
    }
    // Remove the directories of this package together with it.
    for dir in package_files::own_dirs(files) {
        builder.with_dir_entry(FileOptions::dir(dir))?;
    }
    let mut package = Vec::new();
    builder.build()?.write(&mut package)?;
    Ok(package)
}

/// Returns the library dependencies in rpm's notation.
fn libraries(files: &[File]) -> Result<[String; 2]> {
    let programs = files.iter().filter(|file| file.mode == 0o755);
    let library = libraries::min_glibc_minor(programs.map(|file| file.content.as_slice()))?;
    let bits = if cfg!(target_pointer_width = "64") {
        "(64bit)"
    } else {
        ""
    };
    Ok([
        format!("libc.so.6(GLIBC_2.{library}){bits}"),
        format!("libgcc_s.so.1(){bits}"),
    ])
}
