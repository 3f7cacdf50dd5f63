//! A YAML document as it was written: the text of every scalar, every key in its order.
//!
//! What a scalar means depends on the key that it belongs to, and is decided in [`super::typed`]: `on`, `007` and
//! `1e3` are good names of folders. Places are not kept here; [`super::place`] finds those that are needed.

use std::{collections::HashSet, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess,
    SeqAccess, Visitor,
};

/// What a scalar is, if nothing is known of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// YAML takes it for a text: in quotes, or like nothing else.
    Text,
    /// YAML takes it for a number.
    Number,
    /// `true` or `false`.
    Bool,
    /// It comes from the environment, where there are no kinds.
    Variable,
}

/// A scalar, a list, or keys with what is below them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Nothing, `null` or `~`.
    Null,
    /// As it is written, without its quotes.
    Scalar { text: String, kind: Kind },
    /// `[a, b]`, or lines that begin with a dash.
    List(Vec<Node>),
    /// Keys, in their order.
    Section(Vec<Entry>),
}

/// A key and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key, as it is written.
    pub(super) key: String,
    /// What YAML takes the key for; `None`: for null.
    pub(super) key_kind: Option<Kind>,
    pub(super) value: Node,
    /// The environment variable that it comes from, if it does.
    pub(super) variable: Option<String>,
    /// Left out: something is wrong with it, and that has been said.
    pub(super) skipped: bool,
}

impl Node {
    /// Reads a document; an empty one is null.
    pub(super) fn read(text: &str) -> Result<Self, serde_yaml::Error> {
        let mut tree: Self = serde_yaml::from_str(text)?;
        // The reader shows numbers as numbers. Asked for a text, it shows them as they are written.
        Written(&mut tree).deserialize(serde_yaml::Deserializer::from_str(text))?;
        Ok(tree)
    }

    /// The entries of a section; null is one without entries.
    pub(super) fn entries(&self) -> &[Entry] {
        match self {
            Self::Section(entries) => entries,
            _ => &[],
        }
    }

    /// The same, to add to; null turns into a section. `None`: it is a scalar or a list.
    pub(super) fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        if *self == Self::Null {
            *self = Self::Section(Vec::new());
        }
        match self {
            Self::Section(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries along a path of positions, the outermost first, as far as there are any.
    pub(super) fn along(&self, path: &[usize]) -> Vec<&Entry> {
        let mut found = Vec::new();
        let mut node = self;
        for &n in path {
            let Some(entry) = node.entries().get(n) else {
                break;
            };
            found.push(entry);
            node = &entry.value;
        }
        found
    }

    /// The positions that a key such as `models.a.path` stands for. Ids may hold dots themselves.
    pub(super) fn path_of(&self, key: &str) -> Option<Vec<usize>> {
        let entries = self.entries().iter().enumerate();
        let live = entries.filter(|(_, entry)| !entry.skipped);
        let mut matching = live.filter_map(|(n, entry)| {
            let rest = key.strip_prefix(entry.key.as_str())?;
            if rest.is_empty() {
                return Some(vec![n]);
            }
            let mut path = entry.value.path_of(rest.strip_prefix('.')?)?;
            path.insert(0, n);
            Some(path)
        });
        matching.next()
    }

    /// Leaves out the entry at `path`. Whether there was one.
    pub(super) fn skip(&mut self, path: &[usize]) -> bool {
        let Some((&n, rest)) = path.split_first() else {
            return false;
        };
        let entry = self
            .entries_mut()
            .and_then(|entries| entries.get_mut(n))
            .filter(|entry| !entry.skipped);
        let Some(entry) = entry else {
            return false;
        };
        // Of a list, only the whole can be left out.
        if rest.is_empty() || !entry.value.skip(rest) {
            entry.skipped = true;
        }
        true
    }

    /// The positions of keys that stand a second time in their section.
    pub(super) fn duplicates(&self) -> Vec<Vec<usize>> {
        let mut found = Vec::new();
        let mut keys = HashSet::new();
        for (n, entry) in self.entries().iter().enumerate() {
            if !keys.insert(entry.key.as_str()) {
                found.push(vec![n]);
            }
            for mut path in entry.value.duplicates() {
                path.insert(0, n);
                found.push(path);
            }
        }
        found
    }
}

impl Entry {
    /// An entry that the file says in other words. What it says is known to be good.
    pub(super) fn added(key: &str, value: Node) -> Self {
        Self {
            key: key.to_owned(),
            key_kind: Some(Kind::Text),
            value,
            variable: None,
            skipped: false,
        }
    }

    /// An entry that a variable adds.
    pub(super) fn of_variable(key: &str, value: Node, variable: &str) -> Self {
        Self {
            key: key.to_owned(),
            key_kind: Some(Kind::Text),
            value,
            variable: Some(variable.to_owned()),
            skipped: false,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl NodeVisitor {
    fn number<E>(number: impl fmt::Display) -> Result<Node, E> {
        Ok(Node::Scalar {
            text: number.to_string(),
            kind: Kind::Number,
        })
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar {
            text: value.to_string(),
            kind: Kind::Bool,
        })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Self::number(number)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Self::number(number)
    }

    fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
        Self::number(number)
    }

    fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
        Self::number(number)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Self::number(number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Scalar {
            text: text.to_owned(),
            kind: Kind::Text,
        })
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            let (key, key_kind) = match key {
                Node::Scalar { text, kind } => (text, Some(kind)),
                Node::Null => ("null".to_owned(), None),
                Node::List(_) | Node::Section(_) => {
                    return Err(A::Error::custom(
                        "a key is a list or a section; put one that begins with [ or { in quotes",
                    ));
                }
            };
            entries.push(Entry {
                key,
                key_kind,
                value: map.next_value()?,
                variable: None,
                skipped: false,
            });
        }
        Ok(Node::Section(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _tagged: A) -> Result<Node, A::Error> {
        Err(A::Error::custom(
            "a value that begins with ! is a tag, which means nothing here: put it in quotes",
        ))
    }
}

/// Puts the texts of numbers and booleans as they are written into a tree.
struct Written<'a>(&'a mut Node);

/// The same for a key.
struct WrittenKey<'a>(&'a mut Entry);

struct AsText;

impl<'de> Visitor<'de> for AsText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl<'de> DeserializeSeed<'de> for Written<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        match self.0 {
            Node::Scalar {
                text,
                kind: Kind::Number | Kind::Bool,
            } => *text = reader.deserialize_str(AsText)?,
            Node::List(_) => reader.deserialize_seq(self)?,
            Node::Section(_) => reader.deserialize_map(self)?,
            _ => drop(IgnoredAny::deserialize(reader)?),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for WrittenKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        match self.0.key_kind {
            Some(Kind::Number | Kind::Bool) => {
                self.0.key = reader.deserialize_str(AsText)?;
            }
            _ => drop(IgnoredAny::deserialize(reader)?),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Written<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a section")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Node::List(nodes) = self.0 {
            for node in nodes {
                list.next_element_seed(Written(node))?;
            }
        }
        // The reader insists on having come to the end.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Node::Section(entries) = self.0 {
            for entry in entries {
                map.next_key_seed(WrittenKey(entry))?;
                map.next_value_seed(Written(&mut entry.value))?;
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
