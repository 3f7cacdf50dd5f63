//! Instruments by their labels.

use std::{
    cmp::Ordering,
    sync::{Arc, PoisonError, RwLock},
};

/// The label of everything that is not configured, or for which there is no room.
pub const OTHER: &str = "_other";

/// Instruments by `N` labels. A row is made when it is first asked for, and stays.
///
/// To look a row up takes no memory, but a lock for reading: do it once a call, not once a frame.
/// A full table gives the row whose labels are all [`OTHER`], so a table is bounded whatever its labels are.
#[derive(Debug)]
pub struct Table<T, const N: usize> {
    rows: RwLock<Vec<Row<T, N>>>,
    max_rows: usize,
    make: fn() -> T,
}

/// The labels of a row, and its instruments.
type Row<T, const N: usize> = ([Box<str>; N], Arc<T>);

impl<T, const N: usize> Table<T, N> {
    /// An empty table of at most `max_rows` rows, besides the one of all others.
    #[must_use]
    pub fn new(max_rows: usize, make: fn() -> T) -> Self {
        Self {
            rows: RwLock::default(),
            max_rows,
            make,
        }
    }

    /// The row of these labels.
    pub fn row(&self, labels: [&str; N]) -> Arc<T> {
        // A row is whole before it is in the table: whatever panics leaves the table sound.
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = find(&rows, &labels) {
            return Arc::clone(&rows[place].1);
        }
        drop(rows);
        self.made(labels)
    }

    fn made(&self, labels: [&str; N]) -> Arc<T> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let labels = if rows.len() < self.max_rows || find(&rows, &labels).is_ok() {
            labels
        } else {
            [OTHER; N]
        };
        match find(&rows, &labels) {
            Ok(place) => Arc::clone(&rows[place].1),
            Err(place) => {
                let row = Arc::new((self.make)());
                rows.insert(place, (labels.map(Box::from), Arc::clone(&row)));
                row
            }
        }
    }

    /// All rows, by their labels.
    pub fn rows(&self) -> Vec<([Box<str>; N], Arc<T>)> {
        self.rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn find<T, const N: usize>(rows: &[Row<T, N>], labels: &[&str; N]) -> Result<usize, usize> {
    rows.binary_search_by(|(row, _)| {
        let mut orders = row.iter().zip(labels).map(|(a, b)| (**a).cmp(*b));
        orders
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;

    #[test]
    fn a_full_table_counts_the_rest_together() {
        let table: Table<Counter, 2> = Table::new(2, Counter::default);
        for labels in [["b", "x"], ["a", "y"], ["c", "z"], ["d", "x"], ["a", "y"]] {
            table.row(labels).inc();
        }
        let rows = table.rows();
        let rows: Vec<_> = rows
            .iter()
            .map(|([a, b], n)| (&**a, &**b, n.get()))
            .collect();
        assert_eq!(rows, [(OTHER, OTHER, 2), ("a", "y", 2), ("b", "x", 1)]);
    }
}
