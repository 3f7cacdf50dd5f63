//! Pixels: pure functions from pictures and network outputs to encoded frames.
//!
//! A background frame and its face rectangle become a [`FaceCrop`]: everything that a network sees of
//! the face. [`composite`] pastes the generated region back, and [`encode`] turns the frame into bytes
//! for the wire.
//!
//! ```
//! use lipsync_compositor::{Encoding, FaceCrop, Picture, composite, encode};
//! use lipsync_core::{CropRect, FaceGeometry};
//!
//! let background = Picture::new(64, 48, vec![90; 64 * 48 * 3])?;
//! let face = CropRect { x1: 20, y1: 10, x2: 50, y2: 40 };
//! let rect = face.clamp_to(64, 48).expect("the face is on the frame");
//! let crop = FaceCrop::cut(&background, rect, FaceGeometry::SMALL)?;
//! // A network would make this from the crop and from sound.
//! let generated = vec![120; FaceGeometry::SMALL.region_bytes()];
//! let frame = composite(&background, &crop, &generated)?;
//! let jpeg = encode(&frame, Encoding::Jpeg { quality: 85 })?;
//! assert_eq!(jpeg[..2], [0xFF, 0xD8]);
//! # Ok::<(), lipsync_compositor::CompositorError>(())
//! ```
//!
//! Pictures are RGB, because encoders want that; crops and generated regions are BGR, because the
//! networks were trained on that. The two meet only in [`FaceCrop::cut`] and [`face_patch`].
//!
//! Nothing here reads files, caches, starts threads or knows of models; only the memory of past pictures, never what
//! was in it, is kept for the next ones ([`release_spare_memory`]). Every function checks its sizes
//! and returns a [`CompositorError`]. None panics, whatever the bytes.
#![forbid(unsafe_code)]

mod composite;
mod decode;
mod encode;
mod error;
mod essence;
mod exif;
mod face_crop;
mod feather;
mod header;
mod jpeg;
mod marking;
mod oddities;
mod picture;
mod resize;
mod spare;
mod splice;
mod yuv;

pub use composite::{composite, composite_masked, encode_face, face_patch};
pub use decode::{DECODER, DecodeLimits, decode};
pub use encode::{EncodeOptions, Encoding, encode, encode_with};
pub use error::{CompositorError, ImageFormat};
pub use face_crop::FaceCrop;
pub use feather::feather;
pub use header::probe;
pub use jpeg::ENCODER;
pub use oddities::{Oddities, oddities};
pub use picture::Picture;
pub use spare::{PictureBytes, release_spare_memory};
pub use splice::{BakeSettings, BakedFrame, bake, choose_restart_interval};
pub use yuv::Yuv;
