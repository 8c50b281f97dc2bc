//! Builds Debian packages: an `ar` archive of two tar archives (`deb(5)`).

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::Result;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::file::{File, Kind};
use super::libraries;
use super::package_files::{NAME, RELEASE};
use super::source_date::{SourceDate, VERSION};

/// Maintainer scripts.
const SCRIPTS: [(&str, &str); 4] = [
    ("preinst", include_str!("../../../packaging/deb/preinst")),
    ("postinst", include_str!("../../../packaging/deb/postinst")),
    ("prerm", include_str!("../../../packaging/deb/prerm")),
    ("postrm", include_str!("../../../packaging/deb/postrm")),
];

/// Returns Debian's name of the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the file name of the package.
pub(crate) fn name() -> String {
    format!("{NAME}_{VERSION}-{RELEASE}_{}.deb", architecture())
}

/// Returns a package of these files.
pub(crate) fn package(
    files: &[File],
    source_date: &SourceDate,
    maintainer: &str,
) -> Result<Vec<u8>> {
    let control = control_archive(files, source_date, maintainer)?;
    let data = data_archive(files, source_date)?;
    let mut package = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("control.tar.gz", &control),
        ("data.tar.gz", &data),
    ] {
        let (time, size) = (source_date.time, content.len());
        // Name, time, user, group, mode, size. A member starts at an even offset.
        writeln!(
            package,
            "{name:<16}{time:<12}0     0     100644  {size:<10}`"
        )?;
        package.extend_from_slice(content);
        package.extend((size % 2 == 1).then_some(b'\n'));
    }
    Ok(package)
}

fn control_archive(files: &[File], source_date: &SourceDate, maintainer: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::new(source_date);
    archive.dir("./")?;
    archive.file("./control", 0o644, control(files, maintainer)?.as_bytes())?;
    let conffiles: String = files
        .iter()
        .filter(|file| file.kind == Kind::Configuration)
        .map(|file| format!("{}\n", file.path))
        .collect();
    archive.file("./conffiles", 0o644, conffiles.as_bytes())?;
    for (name, script) in SCRIPTS {
        archive.file(&format!("./{name}"), 0o755, script.as_bytes())?;
    }
    archive.finish()
}

fn control(files: &[File], maintainer: &str) -> Result<String> {
    let programs = files.iter().filter(|file| file.mode == 0o755);
    let library = libraries::min_glibc_minor(programs.map(|file| file.content.as_slice()))?;
    let size: usize = files
        .iter()
        .map(|file| file.content.len().div_ceil(1024))
        .sum();
    Ok(include_str!("../../../packaging/deb/control")
        .replace("%VERSION%", &format!("{VERSION}-{RELEASE}"))
        .replace("%ARCHITECTURE%", architecture())
        .replace("%MAINTAINER%", maintainer)
        .replace("%SIZE%", &size.to_string())
        .replace("%LIBC%", &format!("2.{library}")))
}

fn data_archive(files: &[File], source_date: &SourceDate) -> Result<Vec<u8>> {
    let mut archive = Archive::new(source_date);
    let mut dirs = BTreeSet::new();
    for file in files {
        let slashes = file.path.match_indices('/');
        for dir in slashes.filter_map(|(at, _)| file.path.get(..=at)) {
            if dirs.insert(dir) {
                archive.dir(&format!(".{dir}"))?;
            }
        }
        archive.file(&format!(".{}", file.path), file.mode, &file.content)?;
    }
    archive.finish()
}

/// A compressed tar archive. Its entries belong to root and have the same time.
struct Archive {
    builder: Builder<GzEncoder<Vec<u8>>>,
    time: u64,
}

impl Archive {
    fn new(source_date: &SourceDate) -> Self {
        let compressed = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::best());
        Self {
            builder: Builder::new(compressed),
            time: source_date.time,
        }
    }

    fn dir(&mut self, path: &str) -> Result<()> {
        self.append(path, EntryType::Directory, 0o755, &[])
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.append(path, EntryType::Regular, mode, content)
    }

    fn append(&mut self, path: &str, kind: EntryType, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(self.time);
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, path, content)?;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.builder.into_inner()?.finish()?)
    }
}
