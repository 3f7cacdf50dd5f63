//! A stream of the process that takes lines without blocking.

use std::{io, time::Duration};

use tracing_subscriber::fmt::MakeWriter;

use super::{
    queue::Queue,
    writer::{self, Voice, Writer},
};

/// A stream that takes lines without blocking. Clones are the same stream.
#[derive(Debug, Clone)]
pub struct Output {
    queue: Queue,
}

impl Output {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::start("stdout", io::stdout(), ())
    }

    /// Starts the thread that writes. Without one every line is dropped.
    pub(super) fn start(name: &str, stream: impl writer::Stream, voice: impl Voice) -> Self {
        let queue = Queue::default();
        let writer = Writer::new(queue.clone(), stream, voice);
        let thread = std::thread::Builder::new().name(name.to_owned());
        if thread.spawn(move || writer.run()).is_err() {
            queue.end();
        }
        Self { queue }
    }

    /// Hands over one line, or a few, that end with a newline.
    pub fn write(&self, lines: &str) {
        self.queue.push(lines.as_bytes());
    }

    /// Has the rest written, and waits for that, at most for `limit`. What comes later is dropped.
    pub fn close(&self, limit: Duration) {
        self.queue.close(limit);
    }
}

/// For `tracing`, which hands over every line whole.
impl io::Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Output {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
