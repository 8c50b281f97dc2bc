//! The calling thread's `CAP_SYS_RAWIO`, given up for a moment: the kernel then answers as it
//! answers a client, which lacks the capability.

use std::marker::PhantomData;
use std::thread;
use std::time::Duration;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// The time between two attempts to restore the capability.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// A thread without `CAP_SYS_RAWIO` in its effective set. The drop restores the set.
#[derive(Debug)]
pub(crate) struct WithoutRawIo {
    before: CapabilitySets,
    /// Capabilities are a thread's: the value must be dropped by the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl WithoutRawIo {
    /// Takes the capability from the calling thread's effective set. The permitted set keeps it.
    ///
    /// # Errors
    ///
    /// The kernel lacks memory, or a security policy forbids `capset`.
    pub(crate) fn enter() -> rustix::io::Result<Self> {
        let before = capabilities(None)?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: before.effective - CapabilitySet::SYS_RAWIO,
                ..before
            },
        )?;
        Ok(Self {
            before,
            _not_send: PhantomData,
        })
    }
}

impl Drop for WithoutRawIo {
    fn drop(&mut self) {
        // The thread serves other clients next, and must not do so without the capability. A kernel
        // that has taken the capability away lacks at most memory to give it back.
        while set_capabilities(None, self.before).is_err() {
            thread::sleep(RETRY_DELAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_is_given_up_and_restored() {
        let before = capabilities(None).unwrap();
        let guard = WithoutRawIo::enter().unwrap();
        let during = capabilities(None).unwrap();
        assert!(!during.effective.contains(CapabilitySet::SYS_RAWIO));
        assert_eq!(during.permitted, before.permitted);
        drop(guard);
        assert_eq!(capabilities(None).unwrap(), before);
    }
}
