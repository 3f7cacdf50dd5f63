//! Where in a file something stands.
//!
//! The YAML reader tells a place only with an error. So it is asked again for what is wrong, and told there that it
//! is. A file that is good is never searched.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Which part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// `:line:column` of the entry that is reached over these positions; empty where it is not in the text.
pub(super) fn locate(text: &str, path: &[usize], part: Part) -> String {
    let search = Search { path, part };
    let found = search
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()
        .and_then(|error| error.location());
    found.map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()))
}

#[derive(Clone, Copy)]
struct Search<'a> {
    path: &'a [usize],
    part: Part,
}

impl Search<'_> {
    fn here<T, E: serde::de::Error>() -> Result<T, E> {
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    /// What the reader says of scalars, none of which is expected: with their place.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no scalar")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((&n, path)) = self.path.split_first() else {
            return Self::here();
        };
        for _ in 0..n {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Self { path, ..self })?;
        Err(A::Error::custom("there is no such element"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((&n, path)) = self.path.split_first() else {
            return Self::here();
        };
        for _ in 0..n {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if path.is_empty() && self.part == Part::Key {
            map.next_key_seed(Self { path, ..self })?;
        } else {
            map.next_key::<IgnoredAny>()?;
            map.next_value_seed(Self { path, ..self })?;
        }
        Err(A::Error::custom("there is no such entry"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_found_in_every_style() {
        let text =
            "a: {b: 1, 'c': [2, 3]}\n# comment\nd.e:\n    f:\n    g:   \"x\"\n1: ~\nlast: |\n  h\n";
        for (path, part, place) in [
            (&[0][..], Part::Key, ":1:1"),
            (&[0], Part::Value, ":1:4"),
            (&[0, 0], Part::Key, ":1:5"),
            (&[0, 1], Part::Key, ":1:11"),
            (&[0, 1, 1], Part::Value, ":1:20"),
            (&[1], Part::Key, ":3:1"),
            (&[1, 1], Part::Key, ":5:5"),
            (&[1, 1], Part::Value, ":5:10"),
            (&[2], Part::Key, ":6:1"),
            (&[2], Part::Value, ":6:4"),
            (&[3], Part::Value, ":7:7"),
        ] {
            assert_eq!(locate(text, path, part), place, "{path:?} {part:?}");
        }
    }
}
