//! Which keys there are, learned from the raw form itself.
//!
//! The raw form is read from a reader that has nothing to say and writes down what it is asked for. So there is
//! no second list of keys that could be wrong.

use std::cell::RefCell;

use serde::{
    Deserialize as _, Deserializer,
    de::{
        DeserializeSeed, IntoDeserializer, MapAccess, Visitor,
        value::{Error, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::file::RawConfig;

/// Stands for the names that users give.
pub(super) const NAME: &str = "<id>";

/// A section, and the keys that it may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Its path; [`NAME`] for an id.
    pub(super) path: Vec<&'static str>,
    pub(super) keys: &'static [&'static str],
}

/// All keys.
#[derive(Debug)]
pub(super) struct Schema {
    /// The first one is the file as a whole.
    sections: Vec<Section>,
}

impl Schema {
    /// Asks the raw form.
    pub(super) fn learn() -> Self {
        let found = RefCell::new(Vec::new());
        let probe = Probe {
            path: Vec::new(),
            found: &found,
        };
        // It is asked for everything, and takes whatever it gets.
        let _empty = RawConfig::deserialize(probe);
        Self {
            sections: found.into_inner(),
        }
    }

    /// Whether `path` leads to keys of its own: a section, or the ids of models.
    fn is_section(&self, path: &[&str]) -> bool {
        let mut sections = self.sections.iter();
        sections.any(|section| section.path.starts_with(path))
    }

    /// The keys of the section at `path`; [`NAME`] alone where it has names. `None`: there is no section.
    pub(super) fn keys_at(&self, path: &[&str]) -> Option<&'static [&'static str]> {
        let keys = self.sections.iter().find(|section| section.path == path);
        let has_names = || {
            let mut named = self.sections.iter();
            named.any(|section| section.path.strip_prefix(path) == Some(&[NAME]))
        };
        keys.map(|section| section.keys)
            .or_else(|| has_names().then_some(&[NAME] as _))
    }

    /// The paths of all keys that hold a value.
    pub(super) fn leaves(&self) -> impl Iterator<Item = Vec<&'static str>> {
        self.sections.iter().flat_map(|section| {
            let paths = section.keys.iter().map(|key| {
                let mut path = section.path.clone();
                path.push(key);
                path
            });
            paths.filter(|path| !self.is_section(path))
        })
    }

    /// The keys that hold a value, and are the `n`-th of their path to be called so.
    pub(super) fn called(&self, key: &str) -> Vec<Vec<&'static str>> {
        self.leaves()
            .filter(|path| path.last() == Some(&key))
            .collect()
    }
}

/// The path of a key as people write it.
pub(super) fn dotted(path: &[&str]) -> String {
    path.join(".")
}

/// The variable that sets a key.
pub(super) fn variable(path: &[&str]) -> String {
    format!("LIPSYNC_{}", path.join("__").to_uppercase())
}

#[derive(Clone)]
struct Probe<'a> {
    path: Vec<&'static str>,
    found: &'a RefCell<Vec<Section>>,
}

macro_rules! nothing {
    ($($method:ident $visit:ident $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    nothing! {
        deserialize_bool visit_bool false;
        deserialize_u8 visit_u8 0;
        deserialize_u16 visit_u16 0;
        deserialize_u32 visit_u32 0;
        deserialize_u64 visit_u64 0;
        deserialize_f64 visit_f64 0.0;
        deserialize_str visit_str "";
        deserialize_string visit_str "";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let first = variants.first().copied().unwrap_or_default();
        let choice: StrDeserializer<'_, Error> = first.into_deserializer();
        visitor.visit_enum(choice)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.found.borrow_mut().push(Section {
            path: self.path.clone(),
            keys,
        });
        visitor.visit_map(ProbedKeys { keys, above: self })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(ProbedKeys {
            keys: &[NAME],
            above: self,
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let none: [&str; 0] = [];
        visitor.visit_seq(serde::de::value::SeqDeserializer::new(none.into_iter()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 f32 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct ProbedKeys<'a> {
    keys: &'static [&'static str],
    above: Probe<'a>,
}

impl<'de> MapAccess<'de> for ProbedKeys<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(&key) = self.keys.first() else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let mut probe = self.above.clone();
        if let Some((&key, rest)) = self.keys.split_first() {
            probe.path.push(key);
            self.keys = rest;
        }
        seed.deserialize(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_with_its_section() {
        let schema = Schema::learn();
        let leaves: Vec<_> = schema.leaves().map(|path| dotted(&path)).collect();
        for key in [
            "models_root",
            "cache_dir",
            "server.port",
            "capacity.bake",
            "session.max_session_s",
            "models.<id>.preload",
        ] {
            assert!(leaves.iter().any(|leaf| leaf == key), "{key} in {leaves:?}");
        }
        for section in ["server", "models", "models.<id>"] {
            assert!(!leaves.iter().any(|leaf| leaf == section), "{section}");
        }
        let mut declared: Vec<_> = crate::config::keys().map(|(key, _)| key).collect();
        declared.sort_unstable();
        let mut learned: Vec<_> = leaves.iter().map(String::as_str).collect();
        learned.sort_unstable();
        assert_eq!(learned, declared);
        assert_eq!(schema.called("port").len(), 2);
    }
}
