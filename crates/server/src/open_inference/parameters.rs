//! The parameters of a request: a map of named values, read one by one.

use std::{collections::HashMap, ops::RangeInclusive};

use lipsync::inference::{InferParameter, infer_parameter::ParameterChoice};
use lipsync_core::Foreign;
use lipsync_serving::ServeError;

/// Parameters that are still to be read. Those that nobody has read are refused at the end.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    /// Where they stand in a request, for messages.
    place: &'static str,
    unread: HashMap<&'a str, Option<&'a ParameterChoice>>,
    known: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    pub(super) fn of(place: &'static str, given: &'a HashMap<String, InferParameter>) -> Self {
        let unread = given
            .iter()
            .map(|(name, value)| (name.as_str(), value.parameter_choice.as_ref()));
        Self {
            place,
            unread: unread.collect(),
            known: Vec::new(),
        }
    }

    /// A whole number in this range.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the parameter.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ServeError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = match value {
            Some(ParameterChoice::Uint64Param(n)) => Some(*n),
            Some(ParameterChoice::Int64Param(n)) => u64::try_from(*n).ok(),
            Some(ParameterChoice::StringParam(text)) => text.parse().ok(),
            Some(ParameterChoice::BoolParam(_) | ParameterChoice::DoubleParam(_)) | None => None,
        };
        let (least, most) = (range.start(), range.end());
        match number.filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(self.fault(
                name,
                &format!("a whole number from {least} to {most}"),
                value,
            )),
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the parameter.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ServeError> {
        match self.take(name) {
            None => Ok(None),
            Some(Some(ParameterChoice::BoolParam(flag))) => Ok(Some(*flag)),
            Some(value) => Err(self.fault(name, "true or false", value)),
        }
    }

    /// One of some words.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the parameter.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, ServeError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let text = match value {
            Some(ParameterChoice::StringParam(text)) => text.as_str(),
            _ => "",
        };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.fault(name, &format!("one of {}", list.join(", ")), value))
            }
        }
    }

    /// Refuses what nobody has read.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the parameter.
    pub(super) fn finish(self) -> Result<(), ServeError> {
        // The same one each time, of several.
        let Some(name) = self.unread.keys().min() else {
            return Ok(());
        };
        if name.starts_with("shared_memory_") {
            let message = "there is no shared memory: send tensors in messages";
            return Err(ServeError::invalid(self.place, message));
        }
        let known = match self.known.as_slice() {
            [] => "none are known here".to_owned(),
            names => format!("expected {}", names.join(", ")),
        };
        let message = format!("unknown parameter {:?}: {known}", Foreign(name));
        Err(ServeError::invalid(self.place, message))
    }

    fn take(&mut self, name: &'static str) -> Option<Option<&'a ParameterChoice>> {
        self.known.push(name);
        self.unread.remove(name)
    }

    fn fault(&self, name: &str, expected: &str, found: Option<&ParameterChoice>) -> ServeError {
        let found = match found {
            Some(ParameterChoice::BoolParam(flag)) => flag.to_string(),
            Some(ParameterChoice::Int64Param(n)) => n.to_string(),
            Some(ParameterChoice::Uint64Param(n)) => n.to_string(),
            Some(ParameterChoice::DoubleParam(n)) => format!("{n:?}"),
            Some(ParameterChoice::StringParam(text)) => format!("{:?}", Foreign(text)),
            None => "nothing".into(),
        };
        let place = self.place;
        ServeError::invalid(
            format!("{place}.{name}"),
            format!("expected {expected}, found {found}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(given: &[(&str, ParameterChoice)]) -> HashMap<String, InferParameter> {
        let parameters = given.iter().map(|(name, choice)| {
            let choice = Some(choice.clone());
            (
                (*name).to_owned(),
                InferParameter {
                    parameter_choice: choice,
                },
            )
        });
        parameters.collect()
    }

    #[test]
    fn numbers_come_in_three_forms() {
        let given = map(&[
            ("a", ParameterChoice::Int64Param(7)),
            ("b", ParameterChoice::Uint64Param(8)),
            ("c", ParameterChoice::StringParam("9".into())),
        ]);
        let mut parameters = Parameters::of("parameters", &given);
        let of = |name| parameters.number(name, 0..=9).unwrap();
        assert_eq!(
            ["a", "b", "c", "d"].map(of),
            [Some(7), Some(8), Some(9), None]
        );
        parameters.finish().unwrap();
    }

    #[test]
    fn a_wrong_value_and_an_unknown_name_are_named() {
        let given = map(&[
            ("rate", ParameterChoice::Int64Param(-1)),
            ("mode", ParameterChoice::StringParam("webp".into())),
            ("more", ParameterChoice::BoolParam(true)),
        ]);
        let mut parameters = Parameters::of("parameters", &given);
        let text = |error: ServeError| error.to_string();
        let rate = text(parameters.number("rate", 1..=2).unwrap_err());
        assert!(
            rate.contains("parameters.rate") && rate.contains("from 1 to 2, found -1"),
            "{rate}"
        );
        let mode = text(
            parameters
                .word("mode", &[("jpeg", 1), ("png", 2)])
                .unwrap_err(),
        );
        assert!(mode.contains("one of jpeg, png, found \"webp\""), "{mode}");
        let more = text(parameters.finish().unwrap_err());
        assert!(
            more.contains("\"more\"") && more.contains("rate, mode"),
            "{more}"
        );
    }
}
