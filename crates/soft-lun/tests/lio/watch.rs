//! Says what was sent if it is never answered: a command can hang the kernel's target for good, and with it
//! the process that has sent it.

use std::mem;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Step;
use crate::sequence;

/// How often the watch looks.
const PERIOD: Duration = Duration::from_secs(5);

/// What has been sent to a unit since it was clean.
#[derive(Debug, Default)]
struct Sent {
    steps: Vec<Step>,
    /// Since when the last one has not been answered.
    waiting: Option<Instant>,
}

/// A thread that prints a sequence whose last command is not answered.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Mutex<Sent>>);

impl Watch {
    /// Begins. It ends when this is dropped.
    pub(crate) fn start(patience: Duration) -> Self {
        let sent = Arc::new(Mutex::new(Sent::default()));
        let watched = Arc::downgrade(&sent);
        thread::spawn(move || {
            while let Some(sent) = watched.upgrade() {
                look(&mut sent.lock().unwrap(), patience);
                drop(sent);
                thread::sleep(PERIOD);
            }
        });
        Watch(sent)
    }

    /// The unit is clean.
    pub(crate) fn begin(&self) {
        self.0.lock().unwrap().steps.clear();
    }

    /// A command is about to be sent.
    pub(crate) fn send(&self, step: &Step) {
        let mut sent = self.0.lock().unwrap();
        sent.steps.push(step.clone());
        sent.waiting = Some(Instant::now());
    }

    /// It was answered.
    pub(crate) fn answered(&self) {
        self.0.lock().unwrap().waiting = None;
    }
}

fn look(sent: &mut Sent, patience: Duration) {
    if sent.waiting.is_some_and(|since| since.elapsed() > patience) {
        sent.waiting = None;
        let text = sequence::text(&mem::take(&mut sent.steps));
        println!("\nlio: the last of these is not answered:\n{text}");
    }
}
