// Depthwise 3x3 convolutions: a thread computes eight channels of four neighbouring pixels of a row.

#define PIXELS 4

template <int STRIDE>
DEVICE void depthwise_row(const DepthwiseArgs& a, u32 frame, u32 y, u32 first_x, u32 chunk) {
    const f32* weights = (const f32*)a.weights + chunk * 8;
    const f32* bias = (const f32*)a.bias + chunk * 8;
    f32 sums[PIXELS][8];
    load_floats(bias, sums[0]);
#pragma unroll
    for (int p = 1; p < PIXELS; p++) {
#pragma unroll
        for (int i = 0; i < 8; i++) sums[p][i] = sums[0][i];
    }
    const u16* input = (const u16*)a.input + chunk * 8;
    // One less than none is larger than all.
    u32 in_y = y * STRIDE - 1, in_x = first_x * STRIDE - 1;
#pragma unroll 1
    for (int ky = 0; ky < 3; ky++, in_y++, weights += 3 * a.chunks * 8) {
        // A border adds nothing, so it is left out: a sum is the same with it.
        if (in_y >= a.in_h) continue;
        u32 at = ((frame * a.in_h + in_y) * a.in_w + in_x) * a.in_stride;
        f32 taps[3][8];
#pragma unroll
        for (int kx = 0; kx < 3; kx++) load_floats(weights + kx * a.chunks * 8, taps[kx]);
#pragma unroll
        for (int column = 0; column < (PIXELS - 1) * STRIDE + 3; column++) {
            if (in_x + column >= a.in_w) continue;
            f32 values[8];
            unpack(load_eight(input + (at + column * a.in_stride)), values);
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
                int kx = column - p * STRIDE;
                if (kx < 0 || kx > 2) continue;
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    sums[p][i] = multiply_and_add(values[i], taps[kx][i], sums[p][i]);
                }
            }
        }
    }
    const u16* added = (const u16*)a.added + chunk * 8;
    u16* out = (u16*)a.out + chunk * 8;
    u32 pixel = (frame * a.out_h + y) * a.out_w + first_x, least = a.relu ? 0 : 0xfbfffbff;
#pragma unroll
    for (int p = 0; p < PIXELS; p++) {
        if (first_x + p >= a.out_w) break;
        if (a.added) {
            f32 others[8];
            unpack(load_eight(added + (pixel + p) * a.added_stride), others);
#pragma unroll
            for (int i = 0; i < 8; i++) sums[p][i] += others[i];
        }
        store_limited(out + (pixel + p) * a.out_stride, sums[p], 8, least);
    }
}

KERNEL(depthwise, DepthwiseArgs, 256) {
    u32 index = global_index();
    u32 chunk = index % a.chunks;
    index /= a.chunks;
    u32 n_groups = (a.out_w + PIXELS - 1) / PIXELS;
    u32 first_x = index % n_groups * PIXELS;
    index /= n_groups;
    u32 y = index % a.out_h, frame = index / a.out_h;
    if (frame >= a.frames) return;
    if (a.stride == 1) {
        depthwise_row<1>(a, frame, y, first_x, chunk);
    } else {
        depthwise_row<2>(a, frame, y, first_x, chunk);
    }
}
