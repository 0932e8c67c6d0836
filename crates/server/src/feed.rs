//! Events of the engine as messages to ordinary clients: `SUBSCRIBE __sluice__:flush`,
//! `__sluice__:stall`, `__sluice__:error`.
//!
//! One thread takes events from the engine's channel and publishes each as one line of text, name
//! first, then `key=value`. The engine never waits for it: what does not fit the channel is
//! dropped and counted, and the next message says how many (`events-dropped count=7`), on every
//! channel, because nobody knows any more what they were.
//!
//! The thread ends when the engine closes. It holds no part of the engine but its channel.

use std::sync::Arc;

use sluicedb::env::{JoinHandle, Threads};
use sluicedb::{EventOptions, Events, Topic};

use crate::shared::Shared;

const CHANNELS: [(Topic, &[u8]); 3] = [
    (Topic::Flush, b"__sluice__:flush"),
    (Topic::Stall, b"__sluice__:stall"),
    (Topic::Error, b"__sluice__:error"),
];

/// Starts the thread.
pub(crate) fn start(shared: &Arc<Shared>, threads: &dyn Threads) -> std::io::Result<JoinHandle> {
    let topics = CHANNELS.iter().map(|(topic, _)| *topic).collect();
    let events = shared.db.subscribe(EventOptions { topics, ..EventOptions::default() });
    let shared = Arc::clone(shared);
    threads.spawn("events", Box::new(move || run(&shared, &events)))
}

fn run(shared: &Shared, events: &Events) {
    let mut told = 0;
    // Ends with the engine, the only error of a wait without a deadline.
    while let Ok(record) = events.recv(None) {
        let dropped = events.dropped();
        if dropped > told {
            let text = format!("events-dropped count={}", dropped - told);
            for (_, channel) in CHANNELS {
                shared.publish(channel, text.as_bytes());
            }
            told = dropped;
        }
        let topic = record.event.topic();
        if let Some((_, channel)) = CHANNELS.iter().find(|(one, _)| *one == topic) {
            shared.publish(channel, record.to_string().as_bytes());
        }
    }
}
