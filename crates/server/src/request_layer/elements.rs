//! How many fields and list elements a message has, counted before it is decoded.
//!
//! A byte on the wire can become many in memory and much work: a list of small numbers, millions of fields
//! that nobody knows. Speech is one field of bytes, however long it is, so that no message that means anything
//! has many. Whether it is well-formed is for the decoder to say.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use lipsync_core::saturate::usize_of;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Fields and list elements of one message, nested ones included. `server.max_batch_frames` can be 4,096, and
/// that many numbers of frames are the longest list of the contract.
const MAX_ELEMENTS: usize = 8192;
/// The message whose lists of floats are not decoded one by one: they are bytes to the server (`build.rs`).
const KEPT_AS_BYTES: &str = ".lipsync.CompositeBatchRequest";
/// Messages within messages.
const MAX_DEPTH: usize = 32;

/// Bytes of a message, wherever they lie.
pub(crate) trait Bytes {
    /// How many.
    fn n_bytes(&self) -> usize;
    /// The one at this place, which is less than [`Self::n_bytes`].
    fn byte(&self, at: usize) -> u8;
}

impl Bytes for [u8] {
    fn n_bytes(&self) -> usize {
        self.len()
    }

    fn byte(&self, at: usize) -> u8 {
        self[at]
    }
}

/// The messages that can come in, by the method or the name.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    messages: Vec<Shape>,
    of_method: HashMap<String, usize>,
}

/// The fields of a message that are more than one value.
type Shape = HashMap<u32, Field>;

#[derive(Debug, Clone, Copy)]
enum Field {
    /// A list of numbers, which may come packed.
    Numbers,
    /// Another message, by its place.
    Message(usize),
}

/// A message has too many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl TooMany {
    /// How many there may be.
    pub(crate) const LIMIT: usize = MAX_ELEMENTS;
}

impl Shapes {
    /// Those of the contract, which is read once for all ports.
    pub(crate) fn of_contract() -> Arc<Self> {
        static CONTRACT: LazyLock<Arc<Shapes>> = LazyLock::new(|| Arc::new(Shapes::read()));
        Arc::clone(&CONTRACT)
    }

    /// What cannot be read is not looked into: its fields are counted all the same.
    fn read() -> Self {
        let sets = [
            lipsync::FILE_DESCRIPTOR_SET,
            lipsync::inference::FILE_DESCRIPTOR_SET,
            lipsync::legacy::multi_tenant::FILE_DESCRIPTOR_SET,
            lipsync::legacy::monolithic::FILE_DESCRIPTOR_SET,
            lipsync::legacy::compositing::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let files: Vec<_> = sets
            .into_iter()
            .filter_map(|set| FileDescriptorSet::decode(set).ok())
            .flat_map(|set| set.file)
            .collect();
        let mut named = Vec::new();
        for file in &files {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut named);
            }
        }
        let places: HashMap<&str, usize> = named.iter().map(|(n, _)| n.as_str()).zip(0..).collect();
        let messages = named.iter().map(|(n, m)| shape(n, m, &places)).collect();
        let methods = files.iter().flat_map(|file| {
            let services = file.service.iter();
            services.flat_map(|service| {
                let prefix = format!("/{}.{}", file.package(), service.name());
                let methods = service.method.iter();
                methods.map(move |m| (format!("{prefix}/{}", m.name()), m.input_type()))
            })
        });
        let of_method = methods
            .filter_map(|(path, input)| Some((path, *places.get(input)?)))
            .collect();
        Self {
            messages,
            of_method,
        }
    }

    /// Counts the elements of a message to this method.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn check(&self, path: &str, message: &(impl Bytes + ?Sized)) -> Result<(), TooMany> {
        let mut walk = Walk {
            shapes: self,
            message,
            n_left: MAX_ELEMENTS,
        };
        walk.fields(self.of_method.get(path).copied(), 0, message.n_bytes(), 0)
    }
}

fn collect<'a>(
    prefix: &str,
    message: &'a DescriptorProto,
    into: &mut Vec<(String, &'a DescriptorProto)>,
) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, into);
    }
    into.push((name, message));
}

fn shape(name: &str, message: &DescriptorProto, places: &HashMap<&str, usize>) -> Shape {
    let fields = message.field.iter().filter_map(|field| {
        let number = u32::try_from(field.number()).ok()?;
        let kind = match field.r#type() {
            Type::Message => Field::Message(*places.get(field.type_name())?),
            Type::String | Type::Bytes => return None,
            Type::Float if name == KEPT_AS_BYTES => return None,
            _ if field.label() == Label::Repeated => Field::Numbers,
            _ => return None,
        };
        Some((number, kind))
    });
    fields.collect()
}

/// One pass over a message. It ends early where the bytes make no sense.
struct Walk<'a, B: ?Sized> {
    shapes: &'a Shapes,
    message: &'a B,
    n_left: usize,
}

impl<B: Bytes + ?Sized> Walk<'_, B> {
    fn fields(
        &mut self,
        shape: Option<usize>,
        mut at: usize,
        end: usize,
        depth: usize,
    ) -> Result<(), TooMany> {
        while let Some(key) = self.varint(&mut at, end) {
            self.count(1)?;
            let n_bytes = match key & 7 {
                0 => match self.varint(&mut at, end) {
                    Some(_value) => 0,
                    None => return Ok(()),
                },
                1 => 8,
                2 => match self.varint(&mut at, end) {
                    Some(n_bytes) => usize_of(n_bytes),
                    None => return Ok(()),
                },
                5 => 4,
                // The borders of a group: what is in it is counted like the rest.
                3 | 4 => 0,
                _ => return Ok(()),
            };
            let Some(next) = at.checked_add(n_bytes).filter(|&next| next <= end) else {
                return Ok(());
            };
            if key & 7 == 2 {
                self.look_into(self.field(shape, key >> 3), at, next, depth)?;
            }
            at = next;
        }
        Ok(())
    }

    fn field(&self, shape: Option<usize>, number: u64) -> Option<Field> {
        let number = u32::try_from(number).ok()?;
        self.shapes.messages.get(shape?)?.get(&number).copied()
    }

    fn look_into(
        &mut self,
        field: Option<Field>,
        at: usize,
        end: usize,
        depth: usize,
    ) -> Result<(), TooMany> {
        match field {
            None => Ok(()),
            Some(Field::Message(_)) if depth >= MAX_DEPTH => Err(TooMany),
            Some(Field::Message(shape)) => self.fields(Some(shape), at, end, depth + 1),
            Some(Field::Numbers) => {
                // A number has at most ten bytes.
                self.count((end - at) / 10)?;
                let last_bytes = (at..end).filter(|&at| self.message.byte(at) & 0x80 == 0);
                let n_elements = last_bytes.count();
                self.count(n_elements)
            }
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Option<u64> {
        let mut value = 0;
        for n in 0..10 {
            if *at >= end {
                return None;
            }
            let byte = self.message.byte(*at);
            *at += 1;
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn count(&mut self, n: usize) -> Result<(), TooMany> {
        self.n_left = self.n_left.checked_sub(n).ok_or(TooMany)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lipsync::v1::{
        self, infer_batch_composite_request::Audio, stream_composite_request::Message,
    };

    use super::*;

    const INFER: &str = "/lipsync.v1.LipSync/InferBatchComposite";
    const BACKGROUND: &str = "/lipsync.v1.LipSync/GetBackground";
    const STREAM: &str = "/lipsync.v1.LipSync/StreamComposite";

    fn check(path: &str, message: &[u8]) -> Result<(), TooMany> {
        Shapes::of_contract().check(path, message)
    }

    /// A field of bytes, with the number given.
    fn field(number: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(data.len() as u64, &mut bytes);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_the_contract_allows_passes() {
        let speech = v1::InferBatchCompositeRequest {
            model_id: "mira".into(),
            audio: Some(Audio::Windows(v1::FeatureWindows {
                data: vec![8; 1 << 20].into(),
            })),
            output: Some(v1::OutputOptions::default()),
            ..Default::default()
        };
        assert_eq!(check(INFER, &speech.encode_to_vec()), Ok(()));
        let frames = v1::GetBackgroundRequest {
            model_id: "mira".into(),
            background_indices: (0..4096).map(|n| u32::MAX - n).collect(),
            ..Default::default()
        };
        assert_eq!(check(BACKGROUND, &frames.encode_to_vec()), Ok(()));
        let chunk = v1::StreamCompositeRequest {
            message: Some(Message::Audio(v1::AudioChunk {
                audio: Some(v1::audio_chunk::Audio::Pcm(vec![0; 1 << 20].into())),
                ..Default::default()
            })),
        };
        assert_eq!(check(STREAM, &chunk.encode_to_vec()), Ok(()));
        assert_eq!(check("/no/such", &[0x78, 0]), Ok(()));
    }

    #[test]
    fn many_elements_are_refused_wherever_they_are() {
        let unknown = [0x78, 0].repeat(MAX_ELEMENTS + 1);
        let groups = [0x7b, 0x7c].repeat(MAX_ELEMENTS);
        let empty = [0x7a, 0].repeat(MAX_ELEMENTS + 1);
        for many in [&unknown, &groups, &empty] {
            for message in [many.clone(), field(3, many)] {
                assert_eq!(check(INFER, &message), Err(TooMany));
            }
        }
        // Packed, and as many fields.
        let packed = vec![1; MAX_ELEMENTS];
        assert_eq!(check(BACKGROUND, &field(2, &packed)), Err(TooMany));
        let long = [0x80; 9].iter().chain(&[1]).copied().collect::<Vec<u8>>();
        let long = long.repeat(MAX_ELEMENTS);
        assert_eq!(check(BACKGROUND, &field(2, &long)), Err(TooMany));
        let single = [0x10, 1].repeat(MAX_ELEMENTS + 1);
        assert_eq!(check(BACKGROUND, &single), Err(TooMany));
    }

    #[test]
    fn packed_floats_that_stay_bytes_are_one_element() {
        const LEGACY: &str = "/lipsync.MultiTenantLipSync/InferBatchComposite";
        let floats = vec![0; 4 * 614_400];
        assert_eq!(check(LEGACY, &field(2, &floats)), Ok(()));
        // Fields of one float each are as many elements.
        let single = [2 << 3 | 5, 0, 0, 0, 0].repeat(MAX_ELEMENTS + 1);
        assert_eq!(check(LEGACY, &single), Err(TooMany));
        let pieces = field(2, &[0; 4]).repeat(MAX_ELEMENTS + 1);
        assert_eq!(check(LEGACY, &pieces), Err(TooMany));
    }

    #[test]
    fn nothing_makes_it_fail_badly() {
        for end in 0..64_usize {
            for byte in [0_u8, 2, 0x0a, 0x12, 0x7f, 0x80, 0xff] {
                for path in [INFER, BACKGROUND, STREAM, "/"] {
                    assert_eq!(check(path, &vec![byte; end]), Ok(()));
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_are_no_trouble(message: Vec<u8>) {
            for path in [INFER, BACKGROUND, STREAM] {
                proptest::prop_assert_eq!(check(path, &message), Ok(()));
            }
        }
    }
}
