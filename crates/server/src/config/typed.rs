//! From the tree to the raw form: what a scalar means is decided by the type of its key.
//!
//! A `serde` reader of our own, because the sentences are: a general one says "invalid type: string, expected
//! u32", this one what to write instead. Nothing is converted that could mean two things.

use std::fmt::Display;

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    advice, or_auto,
    place::Part,
    tree::{Entry, Kind, Node},
    workers::{WORKER_COUNT, is_worker_count},
};

/// What is wrong with an entry.
#[derive(Debug)]
pub(super) struct Fault {
    /// The positions of the entry, once they are known.
    pub(super) path: Option<Vec<usize>>,
    pub(super) part: Part,
    pub(super) problem: Problem,
}

#[derive(Debug)]
pub(super) enum Problem {
    /// A section has no such key.
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    /// A sentence.
    Said(String),
}

impl Fault {
    fn said(sentence: impl Into<String>) -> Self {
        Self {
            path: None,
            part: Part::Value,
            problem: Problem::Said(sentence.into()),
        }
    }

    /// The innermost place is the one that counts.
    fn at(mut self, path: &[usize], part: Part) -> Self {
        if self.path.is_none() {
            self.path = Some(path.to_owned());
            self.part = part;
        }
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::said(message.to_string())
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self {
            path: None,
            part: Part::Key,
            problem: Problem::UnknownKey {
                key: field.to_owned(),
                known,
            },
        }
    }
}

/// Reads a node; its key says in which unit a number is meant.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    node: &'a Node,
    path: Vec<usize>,
    key: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads a whole document.
    pub(super) fn new(node: &'a Node) -> Self {
        Self {
            node,
            path: Vec::new(),
            key: "",
        }
    }

    fn wrong(&self, expected: &str) -> Fault {
        Fault::said(advice::wrong_kind(expected, self.node))
    }

    /// The text of a scalar, and how it came.
    fn scalar(&self, expected: &str) -> Result<(&'a str, Kind), Fault> {
        match self.node {
            Node::Scalar { text, kind } => Ok((text, *kind)),
            _ => Err(self.wrong(expected)),
        }
    }

    fn integer(&self) -> Result<u64, Fault> {
        const EXPECTED: &str = "a whole number";
        let (text, kind) = self.scalar(EXPECTED)?;
        match advice::integer(text.trim()) {
            Some(number) if kind != Kind::Text => Ok(number),
            _ => Err(Fault::said(advice::wrong_number(
                EXPECTED, self.node, self.key,
            ))),
        }
    }

    fn float(&self) -> Result<f64, Fault> {
        const EXPECTED: &str = "a number";
        let (text, kind) = self.scalar(EXPECTED)?;
        match advice::float(text.trim()) {
            Some(number) if kind != Kind::Text => Ok(number),
            _ => Err(Fault::said(advice::wrong_number(
                EXPECTED, self.node, self.key,
            ))),
        }
    }

    fn boolean(&self) -> Result<bool, Fault> {
        let (text, kind) = self.scalar("true or false")?;
        match (kind, text.trim().to_ascii_lowercase().as_str()) {
            (Kind::Bool | Kind::Variable, "true") => Ok(true),
            (Kind::Bool | Kind::Variable, "false") => Ok(false),
            _ => Err(Fault::said(advice::wrong_choice(
                &["true", "false"],
                self.node,
            ))),
        }
    }

    /// A number, a word or a section.
    fn worker_count<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = match self.node {
            Node::Section(_) => return visitor.visit_map(self.entries(Keys::Fixed)?),
            _ => self.scalar(WORKER_COUNT)?.0.trim(),
        };
        if is_worker_count(text) {
            return visitor.visit_str(text);
        }
        if has_digit(text) && !text.starts_with('{') {
            return visitor.visit_u64(self.integer()?);
        }
        Err(Fault::said(advice::number_or_auto(WORKER_COUNT, self.node)))
    }

    fn entries(&self, of: Keys) -> Result<Entries<'a>, Fault> {
        if !matches!(self.node, Node::Null | Node::Section(_)) {
            return Err(Fault::said(advice::wrong_section(of, self.node, self.key)));
        }
        Ok(Entries {
            left: self.node.entries().iter().enumerate(),
            current: None,
            path: self.path.clone(),
            of,
        })
    }
}

fn has_digit(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = self.integer()?;
            let fitting = <$type>::try_from(number).map_err(|_| {
                let max = <$type>::MAX;
                Fault::said(format!("expected a whole number up to {max}, found {number}"))
            })?;
            visitor.$visit(fitting)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Fault;

    /// Text, however it looks.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            Node::List(_) | Node::Section(_) => Err(self.wrong("a text")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.boolean()?)
    }

    integers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text = match self.node {
            Node::Scalar { text, .. } => text.trim(),
            _ => "",
        };
        if !variants.contains(&text) {
            return Err(Fault::said(advice::wrong_choice(variants, self.node)));
        }
        let choice: StrDeserializer<'_, Fault> = text.into_deserializer();
        visitor.visit_enum(choice)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_map(self.entries(Keys::Fixed)?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(self.entries(Keys::Names)?)
    }

    /// A list; in a variable its elements stand between commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let nodes = match self.node {
            Node::List(nodes) => nodes.as_slice(),
            Node::Null => &[],
            Node::Scalar {
                text,
                kind: Kind::Variable,
            } => {
                let elements = text.split(',').map(str::trim);
                return visitor.visit_seq(SeqDeserializer::new(elements));
            }
            Node::Scalar { .. } | Node::Section(_) => {
                return Err(self.wrong("a list, such as [a, b]"));
            }
        };
        visitor.visit_seq(Elements {
            left: nodes.iter().enumerate(),
            list: self,
        })
    }

    /// Of these there are numbers that may be `auto`, and a number of workers.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == WORKER_COUNT {
            return self.worker_count(visitor);
        }
        match self.node {
            Node::Scalar { text, .. } if name == or_auto::NAME && text.trim() == or_auto::AUTO => {
                visitor.visit_unit()
            }
            Node::Scalar { text, .. } if name == or_auto::NAME && !has_digit(text) => Err(
                Fault::said(advice::number_or_auto("a number or auto", self.node)),
            ),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// How the keys of a section come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// There are only those that we know.
    Fixed,
    /// The user gives names.
    Names,
}

struct Entries<'a> {
    left: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    current: Option<&'a Entry>,
    /// Of the section, and of the current entry while there is one.
    path: Vec<usize>,
    of: Keys,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((n, entry)) = self.left.by_ref().find(|(_, entry)| !entry.skipped) else {
            return Ok(None);
        };
        self.path.push(n);
        if self.of == Keys::Names
            && let Some(sentence) = advice::wrong_name(entry)
        {
            return Err(Fault::said(sentence).at(&self.path, Part::Key));
        }
        self.current = Some(entry);
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        let key = seed.deserialize(key);
        key.map(Some)
            .map_err(|fault| fault.at(&self.path, Part::Key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let entry = self
            .current
            .take()
            .ok_or_else(|| Fault::said("a value without its key"))?;
        let value = seed.deserialize(Reader {
            node: &entry.value,
            path: self.path.clone(),
            key: &entry.key,
        });
        let value = value.map_err(|fault| fault.at(&self.path, Part::Value));
        self.path.pop();
        value
    }
}

struct Elements<'a> {
    left: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    list: Reader<'a>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((n, node)) = self.left.next() else {
            return Ok(None);
        };
        let mut path = self.list.path.clone();
        path.push(n);
        let element = seed.deserialize(Reader {
            node,
            path: path.clone(),
            key: self.list.key,
        });
        element
            .map(Some)
            .map_err(|fault| fault.at(&path, Part::Value))
    }
}
