//! A package for Fedora, RHEL and SUSE.

use anyhow::Result;
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use super::contents::{self, File, Kind, NAME, RELEASE};
use super::edition::{Edition, VERSION};
use super::libraries;

/// What it takes the place of, by the name that others ask for it.
const ORIGINAL: &str = "qemu-pr-helper";

/// The name that the file is to have.
pub(crate) fn name() -> String {
    format!("{NAME}-{VERSION}-{RELEASE}.{}.rpm", std::env::consts::ARCH)
}

/// The package of these files.
pub(crate) fn package(files: &[File], edition: &Edition, maintainer: &str) -> Result<Vec<u8>> {
    let time = u32::try_from(edition.time)?;
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
        .description(include_str!("../../../dist/rpm/description"))
        // Both have the same paths, and of rpm's ways only this one leaves the choice to the administrator:
        // alternatives would need the distribution's package to take part.
        .conflicts(Dependency::any(ORIGINAL))
        .provides(Dependency::eq(ORIGINAL, format!("{VERSION}-{RELEASE}")))
        .post_install_script(include_str!("../../../dist/rpm/post"))
        .pre_uninstall_script(include_str!("../../../dist/rpm/preun"))
        .post_uninstall_script(include_str!("../../../dist/rpm/postun"));
    for needed in libraries(files)? {
        builder.requires(Dependency::any(needed));
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
    // What no other package has goes with this one.
    for folder in contents::own_folders(files) {
        builder.with_dir_entry(FileOptions::dir(folder))?;
    }
    let mut package = Vec::new();
    builder.build()?.write(&mut package)?;
    Ok(package)
}

/// As rpm finds them in programs.
fn libraries(files: &[File]) -> Result<[String; 2]> {
    let programs = files.iter().filter(|file| file.mode == 0o755);
    let library = libraries::c_library(programs.map(|file| file.content.as_slice()))?;
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
