// SPDX-License-Identifier: MIT OR Apache-2.0

//! Domains that libvirt has defined, from their XML.

use roxmltree::{Document, Node};

use super::vm::{Properties, Reservations, Vm, VmDisk};

/// Returns the domain of an XML file; `None` if it does not describe one.
pub(super) fn parse(source: &str, text: &str) -> Option<Vm> {
    let document = Document::parse(text).ok()?;
    // A file of `/run/libvirt/qemu` contains the domain in an element with its state.
    let mut elements = document.root().descendants();
    let domain = elements.find(|node| node.has_tag_name("domain"))?;
    let disks = domain
        .descendants()
        .filter(|node| node.has_tag_name("disk"));
    Some(Vm {
        name: child(domain, "name")?.text()?.to_owned(),
        pid: None,
        source: source.to_owned(),
        // libvirt replaces an alias such as `q35` when it defines a domain.
        machine: child(domain, "os")
            .and_then(|os| child(os, "type")?.attribute("machine"))
            .map(str::to_owned),
        disks: disks
            .filter_map(|node| disk(source, &document, node))
            .collect(),
    })
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// Returns the disk of an element, unless its data are not on a device of the host.
fn disk(source: &str, document: &Document<'_>, node: Node<'_, '_>) -> Option<VmDisk> {
    let file = child(node, "source")?;
    let path = file.attribute("dev")?;
    let bus = child(node, "target").and_then(|target| target.attribute("bus"));
    let driver = match (node.attribute("device"), bus) {
        (Some("lun"), Some("scsi") | None) => "scsi-block",
        (_, Some("scsi")) => "scsi-hd",
        _ => "virtio-blk",
    };
    let reservations = child(file, "reservations");
    let socket = reservations.and_then(|one| child(one, "source")?.attribute("path"));
    let mut properties = Properties::new();
    let policies = child(node, "driver");
    for (name, property) in [("error_policy", "werror"), ("rerror_policy", "rerror")] {
        if let Some(policy) = policies.and_then(|driver| driver.attribute(name)) {
            properties.insert(property.to_owned(), policy.to_owned());
        }
    }
    if node.attribute("rawio") == Some("yes") {
        properties.insert("rawio".to_owned(), "on".to_owned());
    }
    let migration = reservations.and_then(|one| one.attribute("migration"));
    if migration == Some("no") {
        properties.insert("migrate-pr".to_owned(), "off".to_owned());
    }
    let line = document.text_pos_at(node.range().start).row;
    Some(VmDisk {
        driver: driver.to_owned(),
        path: path.into(),
        reservations: match (reservations, socket) {
            (None, _) => Reservations::Direct,
            (Some(_), Some(socket)) => Reservations::Helper(socket.into()),
            (Some(_), None) => Reservations::Managed,
        },
        properties,
        text: format!("{source}:{line}: disk {path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn disks_of_a_domain_are_found() {
        let text = "<domain type='kvm'>
  <name>web1</name>
  <os><type machine='pc-q35-10.0'>hvm</type></os>
  <devices>
    <disk type='block' device='lun' rawio='yes'>
      <driver name='qemu' error_policy='stop'/>
      <source dev='/dev/mapper/mpatha'>
        <reservations managed='no' migration='no'>
          <source type='unix' path='/run/pr.sock' mode='client'/>
        </reservations>
      </source>
      <target dev='sda' bus='scsi'/>
    </disk>
    <disk type='block' device='lun'>
      <source dev='/dev/sdb'><reservations managed='yes'/></source>
      <target dev='sdb' bus='scsi'/>
    </disk>
    <disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/></disk>
    <disk type='block' device='disk'><source dev='/dev/sdc'/><target dev='vdb'/></disk>
  </devices>
</domain>";
        let vm = parse("/etc/libvirt/qemu/web1.xml", text).unwrap();
        let [first, second, third] = vm.disks.as_slice() else {
            panic!("{:?}", vm.disks)
        };
        assert_eq!(first.socket(), Some(Path::new("/run/pr.sock")));
        assert_eq!(
            first.text,
            "/etc/libvirt/qemu/web1.xml:5: disk /dev/mapper/mpatha"
        );
        for (name, value) in [("werror", "stop"), ("rawio", "on"), ("migrate-pr", "off")] {
            assert_eq!(first.property(name), Some(value));
        }
        assert_eq!(second.reservations, Reservations::Managed);
        assert_eq!(third.driver, "virtio-blk");
        assert_eq!(vm.name, "web1");
        assert!(parse("", "<network><name>x</name></network>").is_none());
        assert!(parse("", "no XML").is_none());
    }
}
