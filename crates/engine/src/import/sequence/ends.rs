//! What the inputs of an encoder of speech are, and what they are bound to.

use std::{ops::Range, rc::Rc};

use lipsync_core::{
    AudioKind,
    family::{PatchForm, StepForm},
};

use super::{FeatureMap, Lowering, Value, file::Ends};
use crate::{
    EngineError,
    import::{Dim, TensorInfo, describe_ends, malformed},
    onnx::{Tensor, TensorData, element_type, tensor::n_elements},
};

/// The step of a stream at which a wenet encoder is run, always: far enough from its beginning.
const WENET_OFFSET: i64 = 100;

/// A kind of encoder of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpeechKind {
    /// wenet's streaming conformer.
    Wenet,
    /// HuBERT, or another network of the wav2vec family with as many numbers.
    Hubert,
}

impl SpeechKind {
    /// How steps are made by it.
    pub fn form(self) -> StepForm {
        match self {
            Self::Wenet => StepForm::WENET,
            Self::Hubert => StepForm::HUBERT,
        }
    }

    /// The dimensions of what comes of a patch, after those of 1: vectors and their numbers.
    pub fn answer_dims(self) -> [usize; 2] {
        match self {
            Self::Wenet => [16, 512],
            Self::Hubert => [self.form().patch.n_floats() / 320, 1024],
        }
    }

    /// Which floats of the answer are the steps of a patch.
    pub fn steps_of_answer(self) -> Range<usize> {
        let StepForm {
            n_floats, patch, ..
        } = self.form();
        let n_left = match patch {
            PatchForm::Mel { .. } | PatchForm::Fbank { .. } => 0,
            PatchForm::Wave { n_left, .. } => n_left,
        };
        n_left * n_floats..(n_left + patch.n_steps()) * n_floats
    }

    /// Whose encoder it is.
    pub fn audio(self) -> AudioKind {
        match self {
            Self::Wenet => AudioKind::Wenet,
            Self::Hubert => AudioKind::Hubert,
        }
    }

    /// What it reads, in words.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Wenet => {
                "a wenet encoder: chunk [1, 1, 67, 80], caches of fixed sizes and an offset to [1, 16, 512]"
            }
            Self::Hubert => "a HuBERT encoder: samples [1, n], n open, to [1, n / 320, 1024]",
        }
    }
}

/// The kind of encoder of speech that a file is, by its ends: one reads filter banks beside caches, the other samples
/// alone and gives vectors. `None` for all other files, broken ones among them.
pub(crate) fn recognise(onnx: &[u8]) -> Option<SpeechKind> {
    let file = Ends::read(onnx).ok()?;
    let is_float = |i: usize| element_type::is_float(file.element_types[i]);
    let mut inputs = file.inputs.iter().enumerate();
    let reads_banks = inputs.any(|(i, input)| is_float(i) && is_chunk(input));
    if reads_banks {
        return Some(SpeechKind::Wenet);
    }
    let gives_vectors = matches!(file.outputs.first(), Some(output) if output.dims.len() == 3);
    match &file.inputs[..] {
        [samples] if is_float(0) && is_wave(samples) && gives_vectors => Some(SpeechKind::Hubert),
        _ => None,
    }
}

/// Whether an input is samples: `[1, n]`.
fn is_wave(input: &TensorInfo) -> bool {
    matches!(&input.dims[..], [batch, _] if is_open_or(batch, 1))
}

/// Whether an input is a chunk of filter banks: `[1, 1, 67, 80]` or `[1, 67, 80]`, whatever is open.
fn is_chunk(input: &TensorInfo) -> bool {
    let [.., rows, bands] = &input.dims[..] else {
        return false;
    };
    let PatchForm::Fbank { n_rows, n_bands } = PatchForm::WENET else {
        return false;
    };
    let (n_leading, is_one) = (input.dims.len() - 2, |d: &Dim| is_open_or(d, 1));
    (1..=2).contains(&n_leading)
        && input.dims[..n_leading].iter().all(is_one)
        && *bands == Dim::Size(n_bands)
        && is_open_or(rows, n_rows)
}

fn is_open_or(dim: &Dim, size: usize) -> bool {
    match dim {
        Dim::Size(found) => *found == size,
        Dim::Symbol(_) => true,
    }
}

/// Gives every input of the file its value.
pub(super) fn bind(
    lowering: &mut Lowering,
    kind: SpeechKind,
    ends: &Ends,
) -> Result<(), EngineError> {
    let inputs = &ends.inputs[..];
    let mut sound = None;
    for (input, &element) in inputs.iter().zip(&ends.element_types) {
        let value = if element_type::is_integer(element) {
            number(input)?
        } else if sound.is_none() && is_sound(kind, input) {
            sound = Some(lowering.sequence.sizes.len());
            given(lowering, kind, input)
        } else {
            cache(kind, input, inputs)?
        };
        lowering.values.insert(input.name.clone(), value);
    }
    match sound {
        Some(id) => {
            lowering.sequence.input = id;
            Ok(())
        }
        None => Err(refused(kind, inputs)),
    }
}

/// Whether an input is what the kind reads.
fn is_sound(kind: SpeechKind, input: &TensorInfo) -> bool {
    match (kind, &input.dims[..]) {
        (SpeechKind::Wenet, _) => is_chunk(input),
        (SpeechKind::Hubert, [_, n]) => is_open_or(n, kind.form().patch.n_floats()),
        (SpeechKind::Hubert, _) => false,
    }
}

/// The value of the sound, which the caller gives.
fn given(lowering: &mut Lowering, kind: SpeechKind, input: &TensorInfo) -> Value {
    let patch = kind.form().patch;
    let mut dims = vec![1; input.dims.len()];
    match (patch, &mut dims[..]) {
        (PatchForm::Fbank { n_rows, n_bands }, [.., rows, bands]) => {
            (*rows, *bands) = (n_rows, n_bands);
        }
        (_, [.., n]) => *n = patch.n_floats(),
        _ => {}
    }
    let id = lowering.sequence.sizes.len();
    lowering.sequence.sizes.push(patch.n_floats());
    Value::Map(FeatureMap { id, dims })
}

/// The offset of a stream, or a length: `[1]` or a scalar.
fn number(input: &TensorInfo) -> Result<Value, EngineError> {
    let PatchForm::Fbank { n_rows, .. } = PatchForm::WENET else {
        return Err(malformed("an integer input"));
    };
    let is_length = input.name.contains("len");
    let number = if is_length {
        i64::try_from(n_rows).unwrap_or(i64::MAX)
    } else {
        WENET_OFFSET
    };
    let dims = vec![1; input.dims.len()];
    let tensor = Tensor::new(dims, TensorData::I64(vec![number]));
    tensor
        .map(|tensor| Value::Constant(Rc::new(tensor)))
        .ok_or_else(|| malformed("an input of too many dimensions"))
}

/// A cache of a stream that has heard nothing.
fn cache(
    kind: SpeechKind,
    input: &TensorInfo,
    inputs: &[TensorInfo],
) -> Result<Value, EngineError> {
    let size = |dim: &Dim| match dim {
        Dim::Size(size) => Some(*size),
        Dim::Symbol(_) => None,
    };
    let dims: Option<Vec<usize>> = input.dims.iter().map(size).collect();
    // Caches of the real encoder have 49,152 numbers.
    let n = dims
        .as_deref()
        .and_then(n_elements)
        .filter(|&n| n <= 1 << 22);
    let tensor = dims
        .zip(n)
        .and_then(|(dims, n)| Tensor::new(dims, TensorData::F32(vec![0.0; n])));
    tensor
        .map(|tensor| Value::Constant(Rc::new(tensor)))
        .ok_or_else(|| refused(kind, inputs))
}

fn refused(kind: SpeechKind, inputs: &[TensorInfo]) -> EngineError {
    EngineError::Contract {
        expected: kind.expected().into(),
        found: describe_ends(inputs, &[]),
    }
}
