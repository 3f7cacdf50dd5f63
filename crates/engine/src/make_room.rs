//! Trying again when a device has run out of memory.
//!
//! Who holds memory that nobody uses is not known here: whoever does implements [`MakeRoom`].

use crate::{Device, EngineError};

/// Frees memory of a device when something there finds too little.
pub trait MakeRoom: Send + Sync {
    /// Frees `n_bytes` on `device`, or as much of that as nobody uses; whether that was anything.
    /// May block.
    fn make_room(&self, device: Device, n_bytes: u64) -> bool;
}

/// Has nothing to free.
impl MakeRoom for () {
    fn make_room(&self, _: Device, _: u64) -> bool {
        false
    }
}

/// Errors that may say that a device has too little memory.
pub trait Shortage {
    /// Bytes that were missing, at least 1; `None` where memory was not what failed.
    fn missing_bytes(&self) -> Option<u64>;
}

impl Shortage for EngineError {
    fn missing_bytes(&self) -> Option<u64> {
        match *self {
            Self::OutOfMemory { needed, free } => Some(needed.saturating_sub(free).max(1)),
            _ => None,
        }
    }
}

/// Does what needs memory on `device`, and again for as long as it runs out of memory and `room` frees some.
///
/// # Errors
/// That of the last attempt.
pub fn with_room<T, E: Shortage>(
    room: &dyn MakeRoom,
    device: Device,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        let result = attempt();
        let missing = result.as_ref().err().and_then(Shortage::missing_bytes);
        match missing {
            Some(n_bytes) if room.make_room(device, n_bytes) => {}
            _ => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Frees something as often as it says, and takes note of what it was asked for.
    struct Idle(Mutex<(u32, Vec<u64>)>);

    impl MakeRoom for Idle {
        fn make_room(&self, device: Device, n_bytes: u64) -> bool {
            assert_eq!(device, Device::Cuda(3));
            let (n_left, asked) = &mut *self.0.lock().unwrap();
            asked.push(n_bytes);
            let had_any = *n_left > 0;
            *n_left = n_left.saturating_sub(1);
            had_any
        }
    }

    fn try_with(n_idle: u32, free_at_first: u64) -> (Result<u64, EngineError>, Vec<u64>) {
        let room = Idle(Mutex::new((n_idle, Vec::new())));
        let mut free = free_at_first;
        let result = with_room(&room, Device::Cuda(3), || {
            let needed = 10;
            let found = free;
            free += 4;
            match found {
                0..10 => Err(EngineError::OutOfMemory {
                    needed,
                    free: found,
                }),
                found => Ok(found),
            }
        });
        (result, room.0.into_inner().unwrap().1)
    }

    #[test]
    fn an_attempt_is_repeated_for_as_long_as_there_is_something_to_free() {
        let (result, asked) = try_with(5, 3);
        assert_eq!((result.unwrap(), asked), (11, vec![7, 3]));
        let (result, asked) = try_with(1, 0);
        assert!(matches!(
            result,
            Err(EngineError::OutOfMemory { free: 4, .. })
        ));
        assert_eq!(asked, [10, 6]);
    }

    #[test]
    fn other_errors_end_it() {
        let mut n_calls = 0;
        let result: Result<(), _> = with_room(&(), Device::Cpu, || {
            n_calls += 1;
            Err(EngineError::Device {
                reason: "gone".to_owned(),
            })
        });
        assert!(result.is_err() && n_calls == 1);
        // A device that does not know how much it has free is asked for something all the same.
        let unknown = EngineError::OutOfMemory { needed: 0, free: 5 };
        assert_eq!(unknown.missing_bytes(), Some(1));
    }
}
