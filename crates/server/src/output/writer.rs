//! The thread that writes one stream: the only place that waits for it, and that sees it fail.

use std::{
    io,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use super::queue::{Next, Queue};

/// How often a stream's voice is asked, and one that failed is tried again while nothing comes.
const TICK: Duration = Duration::from_secs(1);
/// Between two tries of a stream that does not take anything now and does not make its writer wait either.
const PAUSE: Duration = Duration::from_millis(10);

/// Where lines go in the end.
pub(super) trait Stream: Send + 'static {
    /// As `write(2)`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Around the lock and the buffer of the standard library: whoever else prints must not wait for this thread.
impl<S: AsFd + Send + 'static> Stream for S {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&*self, bytes)?)
    }
}

/// What a stream says by itself.
pub(super) trait Voice: Send + 'static {
    /// The note that this many lines are missing here, if there is one.
    fn dropped(&self, n_lines: u64) -> Option<String>;

    /// What is to be said now, if anything; asked about once a second. Before the end all of it is.
    fn tick(&self, is_end: bool) -> Vec<String>;
}

/// Nothing.
impl Voice for () {
    fn dropped(&self, _: u64) -> Option<String> {
        None
    }

    fn tick(&self, _: bool) -> Vec<String> {
        Vec::new()
    }
}

/// The state of the thread.
pub(super) struct Writer<S, V> {
    queue: Queue,
    stream: S,
    voice: V,
    /// Lines that were dropped since that was last said.
    n_dropped: u64,
    /// Whether the last line was written in part.
    is_torn: bool,
    ticked: Instant,
}

/// However the thread ends, it releases everyone who waits for it.
struct Ended(Queue);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<S: Stream, V: Voice> Writer<S, V> {
    pub(super) fn new(queue: Queue, stream: S, voice: V) -> Self {
        Self {
            queue,
            stream,
            voice,
            n_dropped: 0,
            is_torn: false,
            ticked: Instant::now(),
        }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _ended = Ended(self.queue.clone());
        loop {
            match self.queue.next(TICK) {
                Next::Line(line) => self.line(&line),
                Next::Gap(n_lines) => self.n_dropped += n_lines,
                Next::Nothing => {}
                Next::End => {
                    self.tick(true);
                    return;
                }
            }
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                self.tick(false);
            }
        }
    }

    fn tick(&mut self, is_end: bool) {
        for line in self.voice.tick(is_end) {
            self.line(line.as_bytes());
        }
        self.tell_dropped();
    }

    /// Writes a line, or counts it.
    fn line(&mut self, line: &[u8]) {
        if !self.tell_dropped() || !self.put(line) {
            self.n_dropped += 1;
        }
    }

    /// Says how many lines are missing; whether there is nothing left to say.
    fn tell_dropped(&mut self) -> bool {
        if self.n_dropped == 0 {
            return true;
        }
        let said = match self.voice.dropped(self.n_dropped) {
            Some(line) => self.put(line.as_bytes()),
            None => true,
        };
        if said {
            self.n_dropped = 0;
        }
        said
    }

    /// Whether all of a line was written. After a part of one a new line is begun.
    fn put(&mut self, line: &[u8]) -> bool {
        if self.is_torn {
            if self.write_all(b"\n").is_err() {
                return false;
            }
            self.is_torn = false;
        }
        match self.write_all(line) {
            Ok(()) => true,
            Err(n_written) => {
                self.is_torn = n_written > 0;
                false
            }
        }
    }

    /// Waits for as long as it takes; the number of bytes that were written where the rest cannot be.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut n_written = 0;
        while n_written < bytes.len() {
            match self.stream.write(&bytes[n_written..]) {
                Ok(0) => return Err(n_written),
                Ok(n) => n_written += n,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // Another process that shares the stream has set it so.
                    io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                    _ => return Err(n_written),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// Follows its script, one step a write, and then takes everything.
    #[derive(Clone, Default)]
    struct Fake {
        steps: Arc<Mutex<VecDeque<io::Result<usize>>>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    /// For the writer; the trait is implemented for all that has a descriptor.
    struct FakeStream(Fake);

    impl Stream for FakeStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = self.0.steps.lock().unwrap().pop_front();
            let n = step.unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.0.written.lock().unwrap().extend(&bytes[..n]);
            Ok(n)
        }
    }

    struct Counting;

    impl Voice for Counting {
        fn dropped(&self, n_lines: u64) -> Option<String> {
            Some(format!("{n_lines} dropped\n"))
        }

        fn tick(&self, is_end: bool) -> Vec<String> {
            is_end.then(|| "the end\n".to_owned()).into_iter().collect()
        }
    }

    fn written(lines: &[&str], steps: Vec<io::Result<usize>>) -> String {
        let queue = Queue::default();
        for line in lines {
            queue.push(line.as_bytes());
        }
        queue.close(Duration::ZERO);
        let fake = Fake::default();
        fake.steps.lock().unwrap().extend(steps);
        Writer::new(queue, FakeStream(fake.clone()), Counting).run();
        let written = fake.written.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    fn full() -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_when_it_can_be() {
        // The first two fail, and so does telling it once: the third line is lost with it.
        let steps = vec![full(), full(), full()];
        let text = written(&["a\n", "b\n", "c\n", "d\n"], steps);
        assert_eq!(text, "3 dropped\nd\nthe end\n");
    }

    #[test]
    fn the_count_is_told_at_the_end_where_nothing_follows() {
        assert_eq!(written(&["a\n"], vec![full()]), "1 dropped\nthe end\n");
    }

    #[test]
    fn a_torn_line_does_not_tear_the_next_one() {
        let text = written(&["abc\n", "d\n"], vec![Ok(2), full()]);
        assert_eq!(text, "ab\n1 dropped\nd\nthe end\n");
    }

    #[test]
    fn parts_interruptions_and_a_stream_that_is_not_ready_cost_nothing() {
        let not_now = |kind: io::ErrorKind| Err(kind.into());
        let steps = vec![
            Ok(1),
            not_now(io::ErrorKind::Interrupted),
            Ok(1),
            not_now(io::ErrorKind::WouldBlock),
        ];
        assert_eq!(written(&["abc\n"], steps), "abc\nthe end\n");
    }

    #[test]
    fn whoever_closes_is_not_left_waiting_by_a_voice_that_panics() {
        struct Mute;
        impl Voice for Mute {
            fn dropped(&self, _: u64) -> Option<String> {
                None
            }
            fn tick(&self, _: bool) -> Vec<String> {
                panic!("mute")
            }
        }
        let queue = Queue::default();
        let writer = Writer::new(queue.clone(), FakeStream(Fake::default()), Mute);
        let thread = thread::spawn(move || writer.run());
        queue.close(Duration::MAX);
        assert!(thread.join().is_err());
    }
}
