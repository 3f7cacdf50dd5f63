// What networks of the family seldom have: a thread a value.

KERNEL(elementwise, ElementwiseArgs, 256) {
    u32 index = global_index();
    u32 channel = index % a.channels, pixel = index / a.channels;
    if (pixel >= a.pixels) return;
    f32 x = to_float(((const u16*)a.input)[(u64)pixel * a.in_stride + channel]);
    if (a.scale) x = multiply_and_add(x, ((const f32*)a.scale)[channel], ((const f32*)a.shift)[channel]);
    if (a.other) x += to_float(((const u16*)a.other)[(u64)pixel * a.other_stride + channel]);
    switch (a.activation) {
        case 1: x = larger(x, 0.0f); break;
        case 2: x = 1.0f / (1.0f + exponential(-x)); break;
        case 3: x = x < 0.0f ? a.low * x : x; break;
        case 4: x = smaller(larger(x, a.low), a.high); break;
    }
    ((u16*)a.out)[(u64)pixel * a.out_stride + channel] = to_half(x);
}

KERNEL(window, WindowArgs, 256) {
    u32 index = global_index();
    u32 channel = index % a.channels, pixel = index / a.channels;
    u32 x = pixel % a.out_w, y = pixel / a.out_w % a.out_h, frame = pixel / (a.out_w * a.out_h);
    if (frame >= a.frames) return;
    const u16* map = (const u16*)a.input + (u64)frame * a.in_h * a.in_w * a.in_stride;
    u32 first = a.kind == 0 ? channel / a.group_out * a.group_in : channel;
    u32 n_taps = a.kernel_h * a.kernel_w;
    const f32* weights = (const f32*)a.weights + (u64)channel * a.group_in * n_taps;
    f32 result = a.kind == 0 ? ((const f32*)a.bias)[channel] : a.kind == 1 ? -3.402823466e38f : 0.0f;
    u32 n_inside = 0;
    for (u32 tap = 0; tap < n_taps; tap++) {
        int in_y = (int)(y * a.stride_h + tap / a.kernel_w) - (int)a.pad_top;
        int in_x = (int)(x * a.stride_w + tap % a.kernel_w) - (int)a.pad_left;
        if (in_y < 0 || in_y >= (int)a.in_h || in_x < 0 || in_x >= (int)a.in_w) continue;
        n_inside++;
        const u16* values = map + ((u64)in_y * a.in_w + in_x) * a.in_stride + first;
        if (a.kind == 0) {
            for (u32 i = 0; i < a.group_in; i++) {
                result = multiply_and_add(to_float(values[i]), weights[i * n_taps + tap], result);
            }
        } else {
            f32 value = to_float(values[0]);
            result = a.kind == 1 ? larger(result, value) : result + value;
        }
    }
    if (a.kind == 2) result /= (f32)n_inside;
    if (a.kind == 3) result /= (f32)n_taps;
    if (a.kind == 4 && n_inside == 0) result = a.value;
    if (a.kind == 0 && a.added) {
        result += to_float(((const u16*)a.added)[(u64)pixel * a.added_stride + channel]);
    }
    if (a.relu) result = larger(result, 0.0f);
    ((u16*)a.out)[(u64)pixel * a.out_stride + channel] = to_half(result);
}

KERNEL(reshape, ReshapeArgs, 256) {
    u32 index = global_index();
    u32 i = index % a.len, frame = index / a.len;
    if (frame >= a.frames) return;
    u64 from = ((u64)frame * a.in_plane + i % a.in_plane) * a.in_stride + i / a.in_plane;
    u64 to = ((u64)frame * a.out_plane + i % a.out_plane) * a.out_stride + i / a.out_plane;
    ((u16*)a.out)[to] = ((const u16*)a.input)[from];
}
