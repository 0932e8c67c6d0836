//! The slow log: the last commands that took longer than `slowlog-log-slower-than`. Bounded in
//! entries by the configuration, in bytes per entry here.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Most arguments and longest argument kept of a command, as in Redis.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

#[derive(Debug, Clone)]
pub(crate) struct SlowEntry {
    pub(crate) id: u64,
    pub(crate) unix_seconds: u64,
    pub(crate) usec: u64,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) peer: String,
    pub(crate) client_name: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct SlowLog(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    /// Newest first.
    entries: VecDeque<SlowEntry>,
}

impl SlowLog {
    pub(crate) fn add(
        &self,
        entries_max: usize,
        (unix_seconds, usec): (u64, u64),
        args: &[&[u8]],
        (peer, client_name): (String, Vec<u8>),
    ) {
        let mut inner = crate::lock(&self.0);
        let id = inner.next_id;
        inner.next_id += 1;
        let args = shorten(args);
        inner.entries.push_front(SlowEntry { id, unix_seconds, usec, args, peer, client_name });
        inner.entries.truncate(entries_max);
    }

    /// The newest `count` entries.
    pub(crate) fn newest(&self, count: usize) -> Vec<SlowEntry> {
        crate::lock(&self.0).entries.iter().take(count).cloned().collect()
    }
    pub(crate) fn len(&self) -> usize {
        crate::lock(&self.0).entries.len()
    }
    pub(crate) fn reset(&self) {
        crate::lock(&self.0).entries.clear();
    }
}

fn shorten(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut out: Vec<Vec<u8>> = args[..kept]
        .iter()
        .map(|arg| match arg.len() {
            0..=ARG_BYTES_MAX => arg.to_vec(),
            len => {
                let mut text = arg[..ARG_BYTES_MAX].to_vec();
                text.extend(format!("... ({} more bytes)", len - ARG_BYTES_MAX).bytes());
                text
            }
        })
        .collect();
    if kept < args.len() {
        out.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_arguments_are_bounded() {
        let log = SlowLog::default();
        let long = [b'x'; 200];
        let args: Vec<&[u8]> = (0..40).map(|_| &long[..]).collect();
        for _ in 0..5 {
            log.add(3, (1, 2), &args, (String::new(), Vec::new()));
        }
        assert_eq!(log.len(), 3);
        let newest = &log.newest(1)[0];
        assert_eq!((newest.id, newest.args.len()), (4, 32));
        assert!(newest.args[0].ends_with(b"... (72 more bytes)"));
        assert_eq!(newest.args[31], b"... (9 more arguments)");
    }
}
