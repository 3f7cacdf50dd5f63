//! Checks that an answer has the requested frames.
//!
//! A server that answers quickly but wrongly must not look fast. Signatures and sizes are checked. Pictures
//! are not decoded, because that would cost the client more than the server.

use lipsync::v1::{CompositedFrame, InferBatchCompositeResponse, OutputFormat};
use serde::Serialize;

/// A fault in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// More or fewer frames than requested.
    Count,
    /// A frame at the wrong position on the timeline.
    Order,
    /// Another format than requested.
    Format,
    /// Another size in pixels than the model's.
    Size,
    /// Bytes that are not a picture of that format and size.
    Data,
    /// A message that the contract does not allow there, such as a frame of a segment after its clear was
    /// confirmed.
    Protocol,
}

impl Fault {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Order => "order",
            Self::Format => "format",
            Self::Size => "size",
            Self::Data => "data",
            Self::Protocol => "protocol",
        }
    }
}

/// The expected frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The requested format.
    pub format: OutputFormat,
    /// Width and height, if known, px.
    pub size: Option<(u32, u32)>,
}

impl Expected {
    /// Checks a unary answer to a request for `n` frames from `first` on.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_answer(
        &self,
        answer: &InferBatchCompositeResponse,
        first: u64,
        n: u32,
    ) -> Result<(), Fault> {
        if answer.frames.len() != n as usize {
            return Err(Fault::Count);
        }
        (first..)
            .zip(&answer.frames)
            .try_for_each(|(index, frame)| self.check_frame(frame, index))
    }

    /// Checks one frame, which must be at position `index` of the timeline.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_frame(&self, frame: &CompositedFrame, index: u64) -> Result<(), Fault> {
        if frame.frame_index != index {
            return Err(Fault::Order);
        }
        if frame.format() != self.format {
            return Err(Fault::Format);
        }
        let (w, h) = (frame.width, frame.height);
        if w == 0 || h == 0 || self.size.is_some_and(|size| size != (w, h)) {
            return Err(Fault::Size);
        }
        let (w, h, n_bytes) = (u64::from(w), u64::from(h), frame.data.len() as u64);
        let plausible = match self.format {
            OutputFormat::Rgb => n_bytes == w * h * 3,
            OutputFormat::I420
            | OutputFormat::I420LimitedBt601
            | OutputFormat::I420LimitedBt709 => {
                n_bytes == w * h + 2 * w.div_ceil(2) * h.div_ceil(2)
            }
            OutputFormat::Png => frame.data.starts_with(b"\x89PNG\r\n\x1a\n"),
            OutputFormat::Jpeg | OutputFormat::Unspecified => {
                frame.data.starts_with(&[0xff, 0xd8]) && frame.data.ends_with(&[0xff, 0xd9])
            }
        };
        if plausible { Ok(()) } else { Err(Fault::Data) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(index: u64) -> CompositedFrame {
        CompositedFrame {
            frame_index: index,
            format: OutputFormat::I420.into(),
            width: 3,
            height: 5,
            data: vec![0; 15 + 2 * 6].into(),
            ..CompositedFrame::default()
        }
    }

    const EXPECTED: Expected = Expected {
        format: OutputFormat::I420,
        size: Some((3, 5)),
    };

    #[test]
    fn a_right_answer_passes_and_each_fault_is_named() {
        let answer = |frames: Vec<CompositedFrame>| {
            let answer = InferBatchCompositeResponse {
                frames,
                ..Default::default()
            };
            EXPECTED.check_answer(&answer, 7, 2)
        };
        assert_eq!(answer(vec![frame(7), frame(8)]), Ok(()));
        assert_eq!(answer(vec![frame(7)]), Err(Fault::Count));
        assert_eq!(answer(vec![frame(8), frame(7)]), Err(Fault::Order));
        let with = |change: fn(&mut CompositedFrame)| {
            let mut second = frame(8);
            change(&mut second);
            answer(vec![frame(7), second])
        };
        assert_eq!(
            with(|f| f.set_format(OutputFormat::Jpeg)),
            Err(Fault::Format)
        );
        assert_eq!(with(|f| f.width = 4), Err(Fault::Size));
        assert_eq!(with(|f| f.data = vec![0; 26].into()), Err(Fault::Data));
    }

    #[test]
    fn a_cut_off_jpeg_is_no_picture() {
        let expected = Expected {
            format: OutputFormat::Jpeg,
            size: None,
        };
        let mut jpeg = frame(0);
        jpeg.set_format(OutputFormat::Jpeg);
        jpeg.data = vec![0xff, 0xd8, 1, 2, 0xff, 0xd9].into();
        assert_eq!(expected.check_frame(&jpeg, 0), Ok(()));
        jpeg.data.truncate(4);
        assert_eq!(expected.check_frame(&jpeg, 0), Err(Fault::Data));
    }
}
