// What kernels are told; `args.rs` explains every field and has the same ones in the same order.
#pragma once

struct GemmArgs {
    u64 a;
    u64 weights;
    u64 bias;
    u64 added;
    u64 out;
    u32 m;
    u32 n;
    u32 k;
    u32 weights_stride;
    u32 a_stride;
    u32 added_stride;
    u32 out_stride;
    u32 channels;
    u32 relu;
    u32 in_h;
    u32 in_w;
    u32 out_h;
    u32 out_w;
    u32 kernel_w;
    u32 stride_h;
    u32 stride_w;
    u32 pad_top;
    u32 pad_left;
    u32 low_h;
    u32 low_w;
};

struct DepthwiseArgs {
    u64 input;
    u64 weights;
    u64 bias;
    u64 added;
    u64 out;
    u32 frames;
    u32 chunks;
    u32 in_h;
    u32 in_w;
    u32 out_h;
    u32 out_w;
    u32 in_stride;
    u32 added_stride;
    u32 out_stride;
    u32 stride;
    u32 relu;
};

struct BlockArgs {
    u64 input;
    u64 expand_weights;
    u64 expand_bias;
    u64 lifted;
    u64 lift_weights;
    u64 depthwise_weights;
    u64 depthwise_bias;
    u64 project_weights;
    u64 project_bias;
    u64 added;
    u64 out;
    u32 frames;
    u32 channels;
    u32 lifted_channels;
    u32 expanded;
    u32 n;
    u32 in_h;
    u32 in_w;
    u32 out_h;
    u32 out_w;
    u32 in_stride;
    u32 lifted_stride;
    u32 added_stride;
    u32 out_stride;
    u32 low_h;
    u32 low_w;
    u32 stride;
    u32 expand_relu;
    u32 depthwise_relu;
    u32 relu;
};

struct PackFaceArgs {
    u64 table;
    u64 out;
    u32 frames;
    u32 region;
    u32 crop;
    u32 ring;
    u32 mask_x0;
    u32 mask_x1;
    u32 mask_y0;
    u32 mask_y1;
};

struct PackFloatsArgs {
    u64 table;
    u64 input;
    u64 out;
    u32 frames;
    u32 channels;
    u32 plane;
    u32 out_stride;
};

struct HeadArgs {
    u64 input;
    u64 weights;
    u64 bias;
    u64 out;
    u32 pixels;
    u32 channels;
    u32 in_stride;
    u32 relu;
    u32 sigmoid;
};

struct EntryArgs {
    u64 table;
    u64 tensor;
    u32 offset;
    u32 frames;
    u32 plane;
    u32 chunks;
    u32 stride;
};

struct ResizeArgs {
    u64 input;
    u64 out;
    u32 frames;
    u32 channels;
    u32 in_h;
    u32 in_w;
    u32 out_h;
    u32 out_w;
    u32 in_stride;
    u32 out_stride;
};

struct ElementwiseArgs {
    u64 input;
    u64 other;
    u64 scale;
    u64 shift;
    u64 out;
    u32 pixels;
    u32 channels;
    u32 in_stride;
    u32 other_stride;
    u32 out_stride;
    u32 activation;
    f32 low;
    f32 high;
};

struct WindowArgs {
    u64 input;
    u64 weights;
    u64 bias;
    u64 added;
    u64 out;
    u32 kind;
    u32 frames;
    u32 channels;
    u32 group_in;
    u32 group_out;
    u32 in_h;
    u32 in_w;
    u32 out_h;
    u32 out_w;
    u32 kernel_h;
    u32 kernel_w;
    u32 stride_h;
    u32 stride_w;
    u32 pad_top;
    u32 pad_left;
    u32 in_stride;
    u32 added_stride;
    u32 out_stride;
    u32 relu;
    f32 value;
};

struct ReshapeArgs {
    u64 input;
    u64 out;
    u32 frames;
    u32 len;
    u32 in_plane;
    u32 out_plane;
    u32 in_stride;
    u32 out_stride;
};
