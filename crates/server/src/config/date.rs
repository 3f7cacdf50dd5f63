//! Dates, as people write them: `2027-01-31`, `2027-01-31T12:00:00Z`.

use std::time::{Duration, SystemTime};

use lipsync_core::{Foreign, saturate::i64_of};

const DAY_S: i64 = 86_400;

/// A moment of UTC. A date alone is its first second.
///
/// # Errors
/// What was expected.
pub(crate) fn parse_date(text: &str) -> Result<SystemTime, String> {
    let text = text.trim();
    parsed(text).ok_or_else(|| {
        format!(
            "expected a date such as 2027-01-31, or 2027-01-31T12:00:00Z, found {:?}",
            Foreign(text)
        )
    })
}

/// The moment as a date with its time, where it is not the first of its day.
pub(super) fn shown_date(moment: SystemTime) -> String {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| i64_of(since.as_secs()));
    let (year, month, day) = civil(seconds.div_euclid(DAY_S));
    let rest = seconds.rem_euclid(DAY_S);
    if rest == 0 {
        return format!("{year:04}-{month:02}-{day:02}");
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn parsed(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let is_date =
        year >= 1970 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    let seconds = match time {
        None => 0,
        Some(time) => {
            let time = time.strip_suffix(['Z', 'z'])?;
            let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
            let is_time = hour < 24 && minute < 60 && second < 60;
            is_time.then_some(hour * 3600 + minute * 60 + second)?
        }
    };
    let seconds = is_date.then(|| days_since_1970(year, month, day) * DAY_S + seconds)?;
    let since = Duration::from_secs(u64::try_from(seconds).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Three numbers with this many digits each.
fn numbers(text: &str, separator: char, n_digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, n_digits) in numbers.iter_mut().zip(n_digits) {
        let part = parts.next().filter(|part| part.len() == n_digits)?;
        let is_number = part.bytes().all(|b| b.is_ascii_digit());
        *number = is_number.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Of the proleptic Gregorian calendar. The year is counted from March, so that the leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The other way round.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(text: &str) -> Option<u64> {
        let moment = parse_date(text).ok()?;
        Some(
            moment
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2026-11-29", 1_795_910_400),
            ("2027-01-31T12:00:01Z", 1_801_396_801),
            ("2100-03-01", 4_107_542_400),
            (" 2027-01-31 00:00:00z ", 1_801_353_600),
        ] {
            assert_eq!(unix(text), Some(seconds), "{text}");
        }
        for day in 0..200_000 {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400);
            assert_eq!(parse_date(&shown_date(moment)), Ok(moment), "{day}");
        }
        let with_time = "2027-01-31T12:00:01Z";
        assert_eq!(shown_date(parse_date(with_time).unwrap()), with_time);
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "soon",
            "2027-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "27-01-31",
            "2027/01/31",
            "31.01.2027",
            "2027-01-31T12:00:00",
            "2027-01-31T12:00:00+01:00",
            "2027-01-31T24:00:00Z",
            "2027-01-31T12:60:00Z",
            "1969-12-31",
            "+027-01-31",
            "never",
        ] {
            let refused = parse_date(text).unwrap_err();
            assert!(
                refused.contains("2027-01-31T12:00:00Z"),
                "{text}: {refused}"
            );
        }
    }
}
