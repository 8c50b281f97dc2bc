//! Default account of the helper: the user that a helper becomes that was started as root.

use std::fs;

use nix::unistd::{Gid, Uid};

/// Name of the account, which the packages create.
pub const NAME: &str = "qemu-pr-helper";

/// File that has the system accounts. A lookup by the C library would also ask the network for an account
/// that does not exist, which can take long.
const PASSWD: &str = "/etc/passwd";

/// User and primary group of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub user: Uid,
    /// The user's primary group.
    pub group: Gid,
}

impl Account {
    /// Returns the default account, if this machine has it.
    #[must_use]
    pub fn default_account() -> Option<Self> {
        Self::find(NAME, &fs::read_to_string(PASSWD).ok()?)
    }

    /// Finds an account in the text of passwd(5). An account with the ids of root is not used.
    fn find(name: &str, passwd: &str) -> Option<Self> {
        let fields = |line: &str| -> Option<Self> {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let mut ids = fields.skip(1).map(|field| field.parse::<u32>());
            let (user, group) = (ids.next()?.ok()?, ids.next()?.ok()?);
            let is_usable = |id| id != 0 && id != u32::MAX;
            (is_usable(user) && is_usable(group)).then(|| Self {
                user: Uid::from_raw(user),
                group: Gid::from_raw(group),
            })
        };
        passwd.lines().find_map(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_found_by_its_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nqemu-pr-helper-x:x:1:1::/:\n\
                      qemu-pr-helper:x:991:990:Helper:/:/usr/sbin/nologin\n";
        let account = Account::find(NAME, passwd).unwrap();
        assert_eq!((account.user.as_raw(), account.group.as_raw()), (991, 990));
    }

    #[test]
    fn unusable_accounts_are_ignored() {
        for passwd in [
            "",
            "qemu-pr-helper",
            "qemu-pr-helper:x:991",
            "qemu-pr-helper:x:no:990::/:",
            "qemu-pr-helper:x:0:990::/:",
            "qemu-pr-helper:x:991:0::/:",
            "qemu-pr-helper:x:4294967295:990::/:",
            "+qemu-pr-helper:x:991:990::/:",
        ] {
            assert_eq!(Account::find(NAME, passwd), None, "{passwd}");
        }
    }
}
