//! Counting what a file has before it is decoded: a decoded message takes a hundred times the bytes of an empty one
//! in the file, so a file of many small messages would fill the memory.

use crate::EngineError;

/// Most nodes of a file; the largest exports of the family have a few hundred.
pub const MAX_NODES: usize = 4096;
/// Most parts that a graph and its nodes have together: inputs, outputs, attributes, weights.
pub const MAX_PARTS: usize = 32 * MAX_NODES;

/// Field numbers of the format.
const GRAPH: u64 = 7;
const NODE: u64 = 1;
/// Nodes, initializers, inputs and outputs; what describes values inside the graph is not decoded.
const PARTS_OF_GRAPH: [u64; 4] = [NODE, 5, 11, 12];
/// Wire type of what has a length before it.
const BYTES: u64 = 2;

/// Refuses a file with more nodes or parts than networks have. Allocates nothing. What is no message is left to the
/// decoder.
///
/// # Errors
/// [`EngineError::Malformed`].
pub fn check(onnx: &[u8]) -> Result<(), EngineError> {
    let (mut n_nodes, mut n_parts) = (0_usize, 0_usize);
    for (_, graph) in Fields(onnx).filter(|(number, _)| *number == GRAPH) {
        for (number, part) in Fields(graph).filter(|(number, _)| PARTS_OF_GRAPH.contains(number)) {
            n_parts += 1;
            if number == NODE {
                n_nodes += 1;
                n_parts += Fields(part).count();
            }
        }
    }
    if n_nodes <= MAX_NODES && n_parts <= MAX_PARTS {
        return Ok(());
    }
    Err(EngineError::Malformed {
        reason: format!(
            "{n_nodes} nodes with {n_parts} parts, at most {MAX_NODES} with {MAX_PARTS}"
        ),
    })
}

/// The fields of a message that have a length, with their bytes; it ends where the message cannot be read on.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = self.number()?;
            match key & 7 {
                0 => drop(self.number()?),
                1 => drop(self.bytes(8)?),
                BYTES => {
                    let n = usize::try_from(self.number()?).ok()?;
                    return Some((key >> 3, self.bytes(n)?));
                }
                5 => drop(self.bytes(4)?),
                _ => return None,
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_of_very_many_nodes_is_refused_before_it_is_decoded() {
        for (part, n) in [(0x0a, 100_000_usize), (0x2a, 1 << 20)] {
            let graph: Vec<u8> = [part, 0].repeat(n);
            let n = graph.len();
            // A number of three bytes or more, seven bits each.
            let mut onnx = vec![0x3a];
            let mut rest = n;
            while rest >= 0x80 {
                onnx.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
                rest >>= 7;
            }
            onnx.push(u8::try_from(rest).unwrap_or(0));
            onnx.extend(graph);
            let error = check(&onnx).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains("at most 4096")));
        }
        assert!(check(b"not a model").is_ok());
        assert!(check(&[]).is_ok());
    }
}
