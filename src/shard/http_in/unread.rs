//! Answers that a client has not read: the kernel has them still.

/// Answers of one client that the kernel has.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Those that the client had not acknowledged at the last look.
    pub(super) bytes: usize,
    /// Given to the kernel since then.
    pub(super) new_bytes: usize,
    /// In all, and acknowledged of them.
    pub(super) sent: u64,
    pub(super) read: u64,
    /// Since when there are some.
    pub(super) since_ns: u64,
    /// When some of them were acknowledged last.
    pub(super) progress_ns: u64,
}

impl Unread {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the client read last, if it has something to read.
    pub(super) fn waits_since_ns(&self) -> Option<u64> {
        (self.bytes > 0).then_some(self.progress_ns)
    }

    pub(super) fn look(&mut self, unread: usize, now_ns: u64) {
        let read = self.sent.saturating_sub(unread as u64);
        if self.bytes == 0 {
            self.since_ns = now_ns;
        }
        if self.bytes == 0 || read > self.read {
            self.progress_ns = now_ns;
        }
        self.read = read;
        self.bytes = unread;
        self.new_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_is_not_late_and_who_has_read_all_holds_nothing() {
        let mut unread = Unread {
            sent: 1000,
            ..Unread::default()
        };
        unread.look(1000, 5);
        assert_eq!((unread.bytes(), unread.waits_since_ns()), (1000, Some(5)));
        unread.look(1000, 7);
        assert_eq!(unread.waits_since_ns(), Some(5), "it has read nothing");
        // As much as it reads comes behind.
        unread.sent = 1600;
        unread.look(1000, 9);
        assert_eq!((unread.waits_since_ns(), unread.since_ns), (Some(9), 5));
        unread.look(0, 10);
        assert_eq!((unread.bytes(), unread.waits_since_ns()), (0, None));
        unread.sent = 1700;
        unread.look(100, 20);
        assert_eq!((unread.waits_since_ns(), unread.since_ns), (Some(20), 20));
    }
}
