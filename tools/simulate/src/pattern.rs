//! A day of calls: who calls when, whom, and for how long.

use crate::{
    dice::{Dice, Wheel},
    host::whole,
};

/// Calls by the hour of the day, of 1,000: those of a bank's call centre over the whole of 1999, 445,414 calls.
///
/// L. Brown, N. Gans, A. Mandelbaum, A. Sakov, H. Shen, S. Zeltyn, L. Zhao: Statistical Analysis of a Telephone Call
/// Center, Journal of the American Statistical Association 100 (2005); the counts are those of the R package Rfssa
/// (`Callcenter`). The same paper finds arrivals to be Poisson with a rate that changes, and lengths of calls to be
/// log-normal.
const BY_HOUR: [f64; 24] = [
    3.8, 1.4, 0.8, 0.4, 0.4, 0.8, 4.0, 27.2, 59.8, 81.4, 91.5, 80.5, //
    72.2, 72.5, 73.8, 72.0, 68.3, 54.9, 47.9, 41.6, 38.1, 41.2, 37.2, 28.3,
];

const HOUR_NS: f64 = 3.6e12;
const SECOND_NS: f64 = 1e9;

/// What a day is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    /// Conversations of the whole day.
    pub(crate) n_conversations: usize,
    /// Unary calls of the whole day.
    pub(crate) n_calls: usize,
    /// Frames of a unary call.
    pub(crate) call_frames: usize,
    /// Hours of the day that are played, from and to.
    pub(crate) hours: (u32, u32),
    /// Avatars, by rank.
    pub(crate) n_models: u32,
    /// Of Zipf's law, by which avatars are asked for.
    pub(crate) exponent: f64,
    /// Mean length of a conversation, s; and the deviation of its logarithm.
    pub(crate) length_s: f64,
    pub(crate) length_sigma: f64,
    /// Mean time for which the avatar speaks and listens, s, in turns.
    pub(crate) speaks_s: f64,
    pub(crate) listens_s: f64,
}

/// Somebody comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Since midnight.
    pub(crate) at_ns: u64,
    pub(crate) model: u32,
    pub(crate) what: Wish,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Call { n_frames: usize },
    Conversation { length_ns: u64 },
}

impl Pattern {
    /// Those who come in the hours that are played, by time.
    pub(crate) fn arrivals(&self, dice: &mut Dice) -> Vec<Arrival> {
        let hours = Wheel::new(BY_HOUR);
        let models = Wheel::zipf(self.n_models, self.exponent);
        let n = self.n_conversations + self.n_calls;
        let mut all = Vec::with_capacity(n);
        for number in 0..n {
            let hour = hours.draw(dice);
            let at = hour_ns(hour) + dice.unit() * HOUR_NS;
            let model = u32::try_from(models.draw(dice)).unwrap_or(u32::MAX);
            let length = dice.log_normal(self.length_s, self.length_sigma) * SECOND_NS;
            let what = match number < self.n_conversations {
                true => Wish::Conversation {
                    length_ns: whole(length),
                },
                false => Wish::Call {
                    n_frames: self.call_frames,
                },
            };
            all.push(Arrival {
                at_ns: whole(at),
                model,
                what,
            });
        }
        let (from, to) = self.hours;
        let [from, to] = [from, to].map(|hour| whole(f64::from(hour) * HOUR_NS));
        all.retain(|arrival| (from..to).contains(&arrival.at_ns));
        all.sort_by_key(|arrival| arrival.at_ns);
        all
    }

    /// For how long the avatar speaks now.
    pub(crate) fn speaks_ns(&self, dice: &mut Dice) -> u64 {
        whole(dice.exponential(self.speaks_s) * SECOND_NS)
    }

    /// For how long it listens now.
    pub(crate) fn listens_ns(&self, dice: &mut Dice) -> u64 {
        whole(dice.exponential(self.listens_s) * SECOND_NS)
    }
}

fn hour_ns(hour: usize) -> f64 {
    f64::from(u32::try_from(hour).unwrap_or(u32::MAX)) * HOUR_NS
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: Pattern = Pattern {
        n_conversations: 300,
        n_calls: 150,
        call_frames: 10,
        hours: (0, 24),
        n_models: 10,
        exponent: 1.0,
        length_s: 200.0,
        length_sigma: 1.0,
        speaks_s: 6.0,
        listens_s: 6.0,
    };

    #[test]
    fn a_day_has_all_calls_in_order_and_most_of_them_in_the_morning() {
        let day = SMALL.arrivals(&mut Dice::new(1));
        assert_eq!(day.len(), 450);
        assert!(day.is_sorted_by_key(|arrival| arrival.at_ns));
        let calls = day.iter().filter(|a| matches!(a.what, Wish::Call { .. }));
        assert_eq!(calls.count(), 150);
        let morning = Pattern {
            hours: (10, 11),
            ..SMALL
        };
        let morning = morning.arrivals(&mut Dice::new(1));
        assert!((25..60).contains(&morning.len()), "{}", morning.len());
        let first = day.iter().filter(|arrival| arrival.model == 0).count();
        assert!((120..190).contains(&first), "of 450, 1 / 2.93: {first}");
    }
}
