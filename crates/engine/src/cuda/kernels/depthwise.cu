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
#pragma unroll
    for (int ky = 0; ky < 3; ky++) {
        int in_y = (int)(y * STRIDE) + ky - 1;
        if (in_y < 0 || in_y >= (int)a.in_h) continue;
        const u16* row = (const u16*)a.input + ((u64)frame * a.in_h + in_y) * a.in_w * a.in_stride + chunk * 8;
        f32 taps[3][8];
#pragma unroll
        for (int kx = 0; kx < 3; kx++) {
            load_floats(weights + (u64)(ky * 3 + kx) * a.chunks * 8, taps[kx]);
        }
#pragma unroll
        for (int column = 0; column < (PIXELS - 1) * STRIDE + 3; column++) {
            int in_x = (int)(first_x * STRIDE) + column - 1;
            // A border adds nothing, so it is left out: a sum is the same with it.
            if (in_x < 0 || in_x >= (int)a.in_w) continue;
            f32 values[8];
            unpack(load_eight(row + (u64)in_x * a.in_stride), values);
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
#pragma unroll
    for (int p = 0; p < PIXELS; p++) {
        u32 x = first_x + p;
        if (x >= a.out_w) continue;
        u64 pixel = ((u64)frame * a.out_h + y) * a.out_w + x;
        if (a.added) {
            f32 others[8];
            unpack(load_eight((const u16*)a.added + pixel * a.added_stride + chunk * 8), others);
#pragma unroll
            for (int i = 0; i < 8; i++) sums[p][i] += others[i];
        }
        store((u16*)a.out + pixel * a.out_stride + chunk * 8, sums[p], 8, a.relu);
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
