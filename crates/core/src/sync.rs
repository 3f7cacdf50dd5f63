//! Locks that outlive a panic.
//!
//! A lock is poisoned where a thread panicked while it held it. Everywhere here the value under a lock
//! is whole between any two statements, or nothing that can panic runs under it, so whoever comes next
//! may go on. Where that is not so, use the standard library's own methods.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, poisoned or not.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// What a lock, a wait at a condition variable or `into_inner` gives, poisoned or not.
pub fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Condvar,
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_lock_outlives_a_panic() {
        let mutex = Mutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            *lock(&mutex) = 2;
            let _held = lock(&mutex);
            panic!("under the lock");
        }));
        assert!(panicked.is_err() && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
        let waited = Condvar::new().wait_timeout(lock(&mutex), Duration::ZERO);
        assert_eq!(*unpoisoned(waited).0, 2);
        assert_eq!(unpoisoned(mutex.into_inner()), 2);
    }
}
