//! Random launches.

mod product;

use lipsync_core::{SplitMix64, saturate::u32_of};

use super::{Case, Content};
use crate::cuda::{
    args::{
        Args, DepthwiseArgs, ElementwiseArgs, EntryArgs, HeadArgs, PackFaceArgs, PackFloatsArgs,
        ReshapeArgs, ResizeArgs, WindowArgs,
    },
    half,
    launch::{BlockTile, Launch, Tile},
    twin::Memory,
};

/// `rounds` launches of every kind of kernel.
pub(crate) fn draw(seed: u64, rounds: usize) -> Vec<Case> {
    let mut random = SplitMix64::new(seed);
    let mut cases = vec![];
    for round in 0..rounds {
        for tile in Tile::ALL {
            for windowed in [false, true] {
                cases.push(Draft::new(&mut random).product(tile, windowed));
            }
        }
        for tile in BlockTile::ALL {
            cases.push(Draft::new(&mut random).block(tile));
        }
        for kind in 0..5 {
            cases.push(Draft::new(&mut random).window(kind));
            cases.push(Draft::new(&mut random).elementwise(kind));
        }
        for flag in [round % 2 == 0, round % 2 == 1] {
            cases.push(Draft::new(&mut random).depthwise(if flag { 1 } else { 2 }));
            cases.push(Draft::new(&mut random).head(flag));
            cases.push(Draft::new(&mut random).entry(flag));
        }
        cases.push(Draft::new(&mut random).pack_face());
        cases.push(Draft::new(&mut random).pack_floats());
        cases.push(Draft::new(&mut random).resize());
        cases.push(Draft::new(&mut random).reshape());
    }
    cases
}

/// A case in the making.
struct Draft<'a> {
    random: &'a mut SplitMix64,
    memory: Memory,
    contents: Vec<(u64, Content)>,
}

impl<'a> Draft<'a> {
    fn new(random: &'a mut SplitMix64) -> Self {
        Self {
            random,
            memory: Memory::default(),
            contents: vec![],
        }
    }

    /// From `low` to `high`, both included.
    fn pick(&mut self, low: u32, high: u32) -> u32 {
        let range = u64::from(high - low + 1);
        low + u32_of(usize::try_from(self.random.next_u64() % range).unwrap_or(0))
    }

    fn chance(&mut self) -> bool {
        self.pick(0, 1) == 1
    }

    fn flag(&mut self) -> u32 {
        self.pick(0, 1)
    }

    fn bytes(&mut self, bytes: &[u8], content: Content) -> u64 {
        let address = self.memory.allocate(bytes.len());
        if let Ok(place) = self.memory.bytes_mut(address, bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.contents.push((address, content));
        address
    }

    /// fp16 numbers from -1 to 1.
    fn halves(&mut self, n: u32, content: Content) -> u64 {
        let floats = self.random.floats(n as usize, -1.0, 1.0);
        let bytes: Vec<u8> = floats
            .iter()
            .flat_map(|&x| half::from_f32(x).to_ne_bytes())
            .collect();
        self.bytes(&bytes, content)
    }

    /// Pixels that are only read, of so many channels; what lies between them are no numbers.
    fn pixels(&mut self, n: u32, channels: u32, stride: u32) -> u64 {
        let mut bytes = vec![0xff; (n * stride * 2) as usize];
        for pixel in bytes.chunks_exact_mut(stride as usize * 2) {
            let floats = self.random.floats(channels as usize, -1.0, 1.0);
            for (to, x) in pixel.chunks_exact_mut(2).zip(floats) {
                to.copy_from_slice(&half::from_f32(x).to_ne_bytes());
            }
        }
        self.bytes(&bytes, Content::Exact)
    }

    fn floats(&mut self, n: u32) -> u64 {
        let floats = self.random.floats(n as usize, -1.0, 1.0);
        let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_ne_bytes()).collect();
        self.bytes(&bytes, Content::Exact)
    }

    /// Elements from pixel to pixel for so many channels: perhaps part of a wider tensor.
    fn stride(&mut self, channels: u32) -> u32 {
        channels.next_multiple_of(8) + 8 * self.pick(0, 2)
    }

    fn done(self, launch: Launch) -> Case {
        Case::new(launch, self.memory, &self.contents).expect("every address of a draft is its own")
    }

    fn depthwise(mut self, stride: u32) -> Case {
        let (frames, chunks) = (self.pick(1, 3), self.pick(1, 5));
        let [in_h, in_w] = [self.pick(1, 13), self.pick(1, 13)];
        let [out_h, out_w] = [in_h, in_w].map(|n| n.div_ceil(stride));
        let [in_stride, added_stride, out_stride] = [0; 3].map(|_| self.stride(chunks * 8));
        let n_out = frames * out_h * out_w;
        let is_added = self.chance();
        let args = DepthwiseArgs {
            input: self.halves(frames * in_h * in_w * in_stride, Content::Exact),
            weights: self.floats(9 * chunks * 8),
            bias: self.floats(chunks * 8),
            added: if is_added {
                self.halves(n_out * added_stride, Content::Exact)
            } else {
                0
            },
            out: self.halves(n_out * out_stride, Content::Halves),
            frames,
            chunks,
            in_h,
            in_w,
            out_h,
            out_w,
            in_stride,
            added_stride,
            out_stride,
            stride,
            relu: self.flag(),
        };
        self.done(Launch::of(Args::DepthwiseArgs(args)))
    }

    /// A table of entries of so many bytes, one of them missing if there are several.
    fn table(&mut self, frames: u32, entry: impl Fn(&mut Self) -> u64) -> u64 {
        let missing = self.pick(1, 4);
        let addresses: Vec<u64> = (0..frames)
            .map(|frame| if frame == missing { 0 } else { entry(self) })
            .collect();
        let bytes: Vec<u8> = addresses
            .iter()
            .flat_map(|address| address.to_ne_bytes())
            .collect();
        self.bytes(&bytes, Content::Addresses)
    }

    fn pack_face(mut self) -> Case {
        let (frames, region, ring) = (self.pick(1, 3), self.pick(3, 40), self.pick(0, 4));
        let crop = region + 2 * ring;
        let table = self.table(frames, |draft| {
            let n = (crop * crop * 3) as usize;
            let bytes: Vec<u8> = (0..n)
                .map(|_| draft.random.next_u64().to_le_bytes()[7])
                .collect();
            draft.bytes(&bytes, Content::Exact)
        });
        let args = PackFaceArgs {
            table,
            out: self.halves(frames * region * region * 8, Content::Halves),
            frames,
            region,
            crop,
            ring,
            mask_x0: 1,
            mask_x1: region - 1,
            mask_y0: 1,
            mask_y1: region / 2,
        };
        self.done(Launch::of(Args::PackFaceArgs(args)))
    }

    fn pack_floats(mut self) -> Case {
        let (frames, channels, plane) = (self.pick(1, 3), self.pick(1, 40), self.pick(1, 300));
        let out_stride = channels.next_multiple_of(8);
        // Some frames share floats, as windows share steps.
        let n_most = frames * channels * plane;
        let starts: Vec<u8> = (0..frames)
            .flat_map(|_| self.pick(0, n_most - channels * plane).to_ne_bytes())
            .collect();
        let args = PackFloatsArgs {
            table: self.bytes(&starts, Content::Exact),
            input: self.floats(n_most),
            out: self.halves(frames * plane * out_stride, Content::Halves),
            frames,
            channels,
            plane,
            out_stride,
        };
        self.done(Launch::of(Args::PackFloatsArgs(args)))
    }

    fn head(mut self, convolves: bool) -> Case {
        let pixels = self.pick(1, 700);
        let channels = if convolves { self.pick(1, 40) } else { 3 };
        let in_stride = self.stride(channels);
        let background = vec![7; pixels as usize * 3 + 1];
        let [weights, bias] = if convolves {
            [
                self.floats(3 * channels.next_multiple_of(8)),
                self.floats(3),
            ]
        } else {
            [0; 2]
        };
        let args = HeadArgs {
            input: self.halves(pixels * in_stride, Content::Exact),
            weights,
            bias,
            out: self.bytes(&background, Content::Bytes),
            pixels,
            channels,
            in_stride,
            relu: self.flag(),
            sigmoid: self.flag(),
        };
        self.done(Launch::of(Args::HeadArgs(args)))
    }

    fn entry(mut self, restores: bool) -> Case {
        let (frames, chunks, plane) = (self.pick(1, 4), self.pick(1, 5), self.pick(1, 200));
        let stride = self.stride(chunks * 8);
        let offset = 16 * self.pick(0, 3);
        let table = self.table(frames, |draft| {
            draft.halves(offset / 2 + plane * chunks * 8, Content::Exact)
        });
        let args = EntryArgs {
            table,
            tensor: self.halves(frames * plane * stride, Content::Exact),
            offset,
            frames,
            plane,
            chunks,
            stride,
        };
        self.done(if restores {
            Launch::restore(args)
        } else {
            Launch::of(Args::EntryArgs(args))
        })
    }

    fn resize(mut self) -> Case {
        let (frames, channels) = (self.pick(1, 3), self.pick(1, 40));
        let [in_h, in_w, out_h, out_w] = [0; 4].map(|_| self.pick(1, 13));
        let (in_stride, out_stride) = (self.stride(channels), self.stride(channels));
        let args = ResizeArgs {
            input: self.halves(frames * in_h * in_w * in_stride, Content::Exact),
            out: self.halves(frames * out_h * out_w * out_stride, Content::Halves),
            frames,
            channels,
            in_h,
            in_w,
            out_h,
            out_w,
            in_stride,
            out_stride,
        };
        self.done(Launch::of(Args::ResizeArgs(args)))
    }

    fn elementwise(mut self, activation: u32) -> Case {
        let (pixels, channels) = (self.pick(1, 300), self.pick(1, 40));
        let [in_stride, other_stride, wide] = [0; 3].map(|_| self.stride(channels));
        // An audio encoder's steps are handed out densely.
        let out_stride = if self.chance() { channels } else { wide };
        let (has_scale, has_other) = (self.chance(), self.chance());
        let [scale, shift] = [0; 2].map(|_| if has_scale { self.floats(channels) } else { 0 });
        let args = ElementwiseArgs {
            input: self.halves(pixels * in_stride, Content::Exact),
            other: if has_other {
                self.halves(pixels * other_stride, Content::Exact)
            } else {
                0
            },
            scale,
            shift,
            out: self.halves(pixels * out_stride, Content::Halves),
            pixels,
            channels,
            in_stride,
            other_stride,
            out_stride,
            activation,
            low: if activation == 4 { -0.25 } else { 0.125 },
            high: 0.5,
        };
        self.done(Launch::of(Args::ElementwiseArgs(args)))
    }

    #[expect(clippy::too_many_lines, reason = "one structure, field by field")]
    fn window(mut self, kind: u32) -> Case {
        let frames = self.pick(1, 3);
        let (groups, group_in, group_out) = match kind {
            0 => (self.pick(1, 4), self.pick(1, 5), self.pick(1, 5)),
            _ => (self.pick(1, 20), 1, 1),
        };
        let [in_h, in_w] = [self.pick(4, 12), self.pick(4, 12)];
        let [kernel_h, kernel_w] = if kind == 4 {
            [1; 2]
        } else {
            [self.pick(1, 3), self.pick(1, 3)]
        };
        let [stride_h, stride_w] = if kind == 4 {
            [1; 2]
        } else {
            [self.pick(1, 2), self.pick(1, 3)]
        };
        // A window always sees something of the map, except where that is what is asked for.
        let pad = if kind == 4 { 2 } else { 0 };
        let [pad_top, pad_left] = [kernel_h - 1 + pad, kernel_w - 1 + pad];
        let [out_h, out_w] = [
            (in_h + pad_top + pad - kernel_h) / stride_h + 1,
            (in_w + pad_left + pad - kernel_w) / stride_w + 1,
        ];
        let (in_channels, channels) = (groups * group_in, groups * group_out);
        let (in_stride, out_stride) = (self.stride(in_channels), self.stride(channels));
        let added_stride = self.stride(channels);
        let n_out = frames * out_h * out_w;
        let is_added = kind == 0 && self.chance();
        let n_weights = channels * group_in * kernel_h * kernel_w;
        let [weights, bias] =
            [n_weights, channels].map(|n| if kind == 0 { self.floats(n) } else { 0 });
        let args = WindowArgs {
            input: self.halves(frames * in_h * in_w * in_stride, Content::Exact),
            weights,
            bias,
            added: if is_added {
                self.halves(n_out * added_stride, Content::Exact)
            } else {
                0
            },
            out: self.halves(n_out * out_stride, Content::Halves),
            kind,
            frames,
            channels,
            group_in,
            group_out,
            in_h,
            in_w,
            out_h,
            out_w,
            kernel_h,
            kernel_w,
            stride_h,
            stride_w,
            pad_top,
            pad_left,
            in_stride,
            added_stride,
            out_stride,
            relu: if kind == 0 { self.flag() } else { 0 },
            value: 0.25,
        };
        self.done(Launch::of(Args::WindowArgs(args)))
    }

    fn reshape(mut self) -> Case {
        let (frames, in_plane) = (self.pick(1, 3), self.pick(1, 30));
        let (out_plane, factor) = (self.pick(1, 12), self.pick(1, 4));
        let len = in_plane * out_plane * factor;
        let in_stride = self.stride(len / in_plane);
        let out_stride = self.stride(len / out_plane);
        let args = ReshapeArgs {
            input: self.halves(frames * in_plane * in_stride, Content::Exact),
            out: self.halves(frames * out_plane * out_stride, Content::Exact),
            frames,
            len,
            in_plane,
            out_plane,
            in_stride,
            out_stride,
        };
        self.done(Launch::of(Args::ReshapeArgs(args)))
    }
}
