//! Rectangles out of a Python pickle, without running it.
//!
//! A pickle is a program that may call any function of the machine. This reads the few operations that lists of numbers
//! are written with, and refuses every other one by its name. Integers of NumPy are calls of two functions; these are
//! told by name, and their meaning is worked out here. Nothing is ever called.

use std::collections::HashMap;

/// Values of a pickle, also those that are repeated from memory: a few bytes could mean terabytes.
const MAX_VALUES: usize = 4_000_000;
/// Of lists in lists. Rectangles need two.
const MAX_DEPTH: usize = 8;
/// Of a name or of the bytes of a number.
const MAX_TEXT_BYTES: usize = 256;
/// The functions that integers of NumPy are made by: of versions before and from 2.
const SCALARS: [&str; 2] = [
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
];
const DTYPE: &str = "numpy dtype";

/// What a pickle of rectangles is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Float(f64),
    /// A list or a tuple.
    List(Vec<Value>),
}

/// What stands on the reader's stack.
#[derive(Debug, Clone)]
enum Item {
    Value(Value, Kind),
    Text(Vec<u8>),
    /// `None`, `True` or `False`, which describe types.
    Other,
    Function(Function),
    /// What a function is called with.
    Arguments(Vec<Item>),
    Dtype(Width),
    Mark,
}

/// Whether a list may still grow: then it cannot be repeated from memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Fixed,
    Growing,
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Scalar,
    Dtype,
}

/// Bytes of an integer, and whether it has a sign.
#[derive(Debug, Clone, Copy)]
struct Width {
    n_bytes: usize,
    is_signed: bool,
}

/// Reads a pickle of numbers in lists and tuples.
///
/// # Errors
/// What it holds instead, in words of ours.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut reader = Reader {
        rest: bytes,
        stack: Vec::new(),
        memo: HashMap::new(),
        n_values: 0,
    };
    while reader.step()? {}
    match reader.stack.pop() {
        Some(Item::Value(value, _)) if reader.stack.is_empty() => Ok(value),
        _ => Err("it holds no list of numbers".into()),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    n_values: usize,
}

impl<'a> Reader<'a> {
    /// Does one operation; `false` after the last.
    fn step(&mut self) -> Result<bool, String> {
        let operation = self.take(1)?[0];
        match operation {
            b'.' => return Ok(false),
            // The version, and the length of a frame: both change nothing.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.stack.push(Item::Mark),
            b']' => self.push(Value::List(Vec::new()), Kind::Growing)?,
            b')' => self.push(Value::List(Vec::new()), Kind::Fixed)?,
            b'l' | b't' => {
                let kind = if operation == b'l' {
                    Kind::Growing
                } else {
                    Kind::Fixed
                };
                let items = self.since_mark()?;
                self.push_list(items, kind)?;
            }
            0x85..=0x87 => {
                let n = usize::from(operation - 0x84);
                let start = self.stack.len().checked_sub(n).ok_or_else(broken)?;
                let items = self.stack.split_off(start);
                self.push_list(items, Kind::Fixed)?;
            }
            b'a' => {
                let item = self.stack.pop().ok_or_else(broken)?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b'J' | b'K' | b'M' | 0x8A | b'I' | b'L' | b'G' | b'F' => self.number(operation)?,
            b'N' | 0x88 | 0x89 => self.stack.push(Item::Other),
            0x8C | b'C' | b'U' | b'X' | b'B' | b'T' => {
                let wide = matches!(operation, b'X' | b'B' | b'T');
                let length = self.length(wide)?;
                let text = self.text(length)?;
                self.stack.push(Item::Text(text));
            }
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(operation)?,
            b'c' | 0x93 => self.function(operation)?,
            b'R' => self.call()?,
            // Sets the state of an object: of a type, nothing that matters here.
            b'b' => {
                self.stack.pop();
                if !matches!(self.stack.last(), Some(Item::Dtype(_))) {
                    return Err(refused("BUILD"));
                }
            }
            other => return Err(refused(name_of(other))),
        }
        Ok(true)
    }

    fn number(&mut self, operation: u8) -> Result<(), String> {
        let value = match operation {
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.take(1)?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            0x8A => {
                let n = usize::from(self.take(1)?[0]);
                Value::Int(integer(self.take(n)?, true)?)
            }
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            b'F' => Value::Float(self.line()?.parse().map_err(|_| broken())?),
            // `True` and `False` of old versions are I01 and I00; as numbers they are as good.
            _ => {
                let line = self.line()?;
                let digits = line.strip_suffix('L').unwrap_or(line);
                Value::Int(digits.parse().map_err(|_| broken())?)
            }
        };
        self.push(value, Kind::Fixed)
    }

    fn memory(&mut self, operation: u8) -> Result<(), String> {
        let index = match operation {
            b'p' | b'g' => self.line()?.parse().map_err(|_| broken())?,
            b'q' | b'h' => self.take(1)?[0].into(),
            0x94 => u32::try_from(self.memo.len()).map_err(|_| broken())?,
            _ => u32::from_le_bytes(self.array()?),
        };
        if !matches!(operation, b'g' | b'h' | b'j') {
            let item = self.stack.last().ok_or_else(broken)?.clone();
            self.memo.insert(index, item);
            return Ok(());
        }
        let item = self.memo.get(&index).ok_or_else(broken)?.clone();
        if let Item::Value(value, kind) = &item {
            if *kind == Kind::Growing {
                return Err("it has one list in two places, which rectangles have not".into());
            }
            self.count(n_values(value))?;
        }
        self.stack.push(item);
        Ok(())
    }

    /// A function by its name: one of the two that make integers of NumPy.
    fn function(&mut self, operation: u8) -> Result<(), String> {
        let name = if operation == b'c' {
            let (module, name) = (self.line()?, self.line()?);
            format!("{module} {name}")
        } else {
            let (Some(Item::Text(name)), Some(Item::Text(module))) =
                (self.stack.pop(), self.stack.pop())
            else {
                return Err(broken());
            };
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            format!("{} {}", text(module), text(name))
        };
        let function = match name.as_str() {
            DTYPE => Function::Dtype,
            name if SCALARS.contains(&name) => Function::Scalar,
            _ => {
                return Err(
                    "it names a function, as a pickle that runs code does; rectangles are lists of numbers".into(),
                );
            }
        };
        self.stack.push(Item::Function(function));
        Ok(())
    }

    /// What a call of one of the two functions means.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.stack.pop(), self.stack.pop());
        match (function, arguments) {
            (Some(Item::Function(Function::Dtype)), Some(Item::Arguments(arguments))) => {
                let Some(Item::Text(name)) = arguments.first() else {
                    return Err(broken());
                };
                let width =
                    width_of(name).ok_or("it holds numbers of NumPy that are no integers")?;
                self.stack.push(Item::Dtype(width));
                Ok(())
            }
            (Some(Item::Function(Function::Scalar)), Some(Item::Arguments(arguments))) => {
                let [Item::Dtype(width), Item::Text(bytes)] = &arguments[..] else {
                    return Err(broken());
                };
                if bytes.len() != width.n_bytes {
                    return Err(broken());
                }
                let value = integer(bytes, width.is_signed)?;
                self.push(Value::Int(value), Kind::Fixed)
            }
            _ => Err(refused("REDUCE")),
        }
    }

    /// What stands after the last mark, which goes.
    fn since_mark(&mut self) -> Result<Vec<Item>, String> {
        let is_mark = |item: &Item| matches!(item, Item::Mark);
        let mark = self.stack.iter().rposition(is_mark).ok_or_else(broken)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    /// A list of numbers and lists, or else what a function is called with.
    fn push_list(&mut self, items: Vec<Item>, kind: Kind) -> Result<(), String> {
        if items.iter().all(|item| matches!(item, Item::Value(..))) {
            return self.push(Value::List(values(items)?), kind);
        }
        self.stack.push(Item::Arguments(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Item>) -> Result<(), String> {
        let more = values(items)?;
        if more.iter().any(|value| depth(value) >= MAX_DEPTH) {
            return Err(too_deep());
        }
        match self.stack.last_mut() {
            Some(Item::Value(Value::List(list), Kind::Growing)) => {
                list.extend(more);
                Ok(())
            }
            _ => Err(broken()),
        }
    }

    fn push(&mut self, value: Value, kind: Kind) -> Result<(), String> {
        if depth(&value) > MAX_DEPTH {
            return Err(too_deep());
        }
        self.count(1)?;
        self.stack.push(Item::Value(value, kind));
        Ok(())
    }

    fn count(&mut self, n: usize) -> Result<(), String> {
        self.n_values = self.n_values.saturating_add(n);
        if self.n_values > MAX_VALUES {
            return Err(format!("it holds more than {MAX_VALUES} values"));
        }
        Ok(())
    }

    fn length(&mut self, is_wide: bool) -> Result<usize, String> {
        if is_wide {
            let length = u32::from_le_bytes(self.array()?);
            return usize::try_from(length).map_err(|_| broken());
        }
        Ok(self.take(1)?[0].into())
    }

    fn text(&mut self, length: usize) -> Result<Vec<u8>, String> {
        if length > MAX_TEXT_BYTES {
            return Err("it holds text, and rectangles are numbers".into());
        }
        Ok(self.take(length)?.to_vec())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| broken())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or("it ends early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self
            .rest
            .iter()
            .take(MAX_TEXT_BYTES)
            .position(|&b| b == b'\n');
        let line = self.take(end.ok_or_else(broken)?)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| broken())
    }
}

fn values(items: Vec<Item>) -> Result<Vec<Value>, String> {
    let value = |item| match item {
        Item::Value(value, _) => Ok(value),
        _ => Err("it holds more than numbers".to_owned()),
    };
    items.into_iter().map(value).collect()
}

/// The integer type that NumPy calls so, little-endian as all machines write it.
fn width_of(name: &[u8]) -> Option<Width> {
    let name = name.strip_prefix(b"<").unwrap_or(name);
    let (sign, digits) = name.split_first()?;
    let n_bytes = match digits {
        b"1" => 1,
        b"2" => 2,
        b"4" => 4,
        b"8" => 8,
        _ => return None,
    };
    matches!(sign, b'i' | b'u').then_some(Width {
        n_bytes,
        is_signed: *sign == b'i',
    })
}

/// A little-endian integer of up to eight bytes.
fn integer(bytes: &[u8], is_signed: bool) -> Result<i64, String> {
    if bytes.len() > 8 {
        return Err("it holds an integer of more than 64 bits".into());
    }
    let is_negative = is_signed && bytes.last().is_some_and(|&last| last >= 0x80);
    let mut wide = if is_negative { [0xFF; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    let value = i64::from_le_bytes(wide);
    if value < 0 && !is_negative {
        return Err("it holds an integer of more than 63 bits".into());
    }
    Ok(value)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn n_values(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(n_values).sum::<usize>(),
        _ => 1,
    }
}

fn broken() -> String {
    "it is no whole pickle of lists of numbers".into()
}

fn too_deep() -> String {
    format!("its lists are nested more than {MAX_DEPTH} deep")
}

fn refused(operation: &str) -> String {
    format!(
        "its operation {operation} can run code or make objects; rectangles are lists of numbers, and nothing of it \
         was run"
    )
}

/// What Python calls an operation.
fn name_of(operation: u8) -> &'static str {
    match operation {
        b'o' => "OBJ",
        b'i' => "INST",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' | b'Q' => "PERSID",
        b'}' | b'd' | b's' | b'u' => "DICT",
        0x8F..=0x91 => "SET",
        0x96..=0x98 => "BUFFER",
        _ => "that is unknown",
    }
}

#[cfg(test)]
mod tests;
