// The network's ends, entries of frames that are kept, and resizing.

KERNEL(pack_face, PackFaceArgs, 256) {
    u32 index = global_index();
    u32 x = index % a.region, y = index / a.region % a.region;
    u32 frame = index / (a.region * a.region);
    if (frame >= a.frames) return;
    const u8* crop = (const u8*)((const u64*)a.table)[frame];
    if (!crop) return;
    const u8* pixel = crop + ((y + a.ring) * a.crop + x + a.ring) * 3;
    bool is_masked = x >= a.mask_x0 && x < a.mask_x1 && y >= a.mask_y0 && y < a.mask_y1;
    f32 values[8] = {};
#pragma unroll
    for (int i = 0; i < 3; i++) {
        values[i] = (f32)pixel[i] / 255.0f;
        values[3 + i] = is_masked ? 0.0f : values[i];
    }
    store((u16*)a.out + (u64)index * 8, values, 8, false);
}

KERNEL(pack_floats, PackFloatsArgs, 256) {
    u32 index = global_index();
    u32 channel = index % a.out_stride, pixel = index / a.out_stride;
    u32 frame = pixel / a.plane;
    if (frame >= a.frames) return;
    const f32* input = (const f32*)a.input + ((const u32*)a.table)[frame];
    f32 value = channel < a.channels ? input[channel * a.plane + pixel % a.plane] : 0.0f;
    ((u16*)a.out)[index] = to_half(value);
}

// Adds the products of eight channels to three results. If not WHOLE, there are n of them, and what is behind may be no
// numbers.
template <bool WHOLE>
DEVICE void add_chunk(const u16* pixel, const f32* weights, u32 n, f32 (&results)[3]) {
    f32 values[8];
    unpack(load_eight(pixel), values);
#pragma unroll
    for (int c = 0; c < 8; c++) {
        if (!WHOLE && (u32)c >= n) values[c] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < 3; i++) {
        f32 line[8];
        load_floats(weights + i * 8, line);
#pragma unroll
        for (int c = 0; c < 8; c++) results[i] = multiply_and_add(values[c], line[c], results[i]);
    }
}

KERNEL(head, HeadArgs, 256) {
    u32 pixel = global_index();
    if (pixel >= a.pixels) return;
    const u16* input = (const u16*)a.input + (u64)pixel * a.in_stride;
    f32 results[3];
    if (a.weights) {
        const f32* weights = (const f32*)a.weights;
#pragma unroll
        for (int i = 0; i < 3; i++) results[i] = ((const f32*)a.bias)[i];
        u32 n = a.channels;
#pragma unroll 1
        for (; n >= 8; n -= 8, input += 8, weights += 24) add_chunk<true>(input, weights, 8, results);
        if (n > 0) add_chunk<false>(input, weights, n, results);
    } else {
#pragma unroll
        for (int i = 0; i < 3; i++) results[i] = to_float(input[i]);
    }
    u8* out = (u8*)a.out + (u64)pixel * 3;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        f32 y = results[i];
        if (a.relu) y = larger(y, 0.0f);
        if (a.sigmoid) y = sigmoid(y);
        out[i] = (u8)(255.0f * smaller(larger(y, 0.0f), 1.0f));
    }
}

// Where a thread's eight channels are in the tensor and in the entry; false where there is no entry.
DEVICE bool find_entry(const EntryArgs& a, u16*& tensor, u16*& kept) {
    u32 index = global_index();
    u32 chunk = index % a.chunks, pixel = index / a.chunks;
    u32 frame = pixel / a.plane;
    if (frame >= a.frames) return false;
    u64 entry = ((const u64*)a.table)[frame];
    tensor = (u16*)a.tensor + (u64)pixel * a.stride + chunk * 8;
    kept = (u16*)(entry + a.offset) + ((u64)(pixel % a.plane) * a.chunks + chunk) * 8;
    return entry != 0;
}

KERNEL(save_entry, EntryArgs, 256) {
    u16 *tensor, *kept;
    if (find_entry(a, tensor, kept)) *(Eight*)kept = load_eight(tensor);
}

KERNEL(restore_entry, EntryArgs, 256) {
    u16 *tensor, *kept;
    if (find_entry(a, tensor, kept)) *(Eight*)tensor = load_eight(kept);
}

KERNEL(resize, ResizeArgs, 256) {
    u32 index = global_index();
    u32 chunks = (a.channels + 7) / 8;
    u32 chunk = index % chunks, pixel = index / chunks;
    u32 x = pixel % a.out_w, y = pixel / a.out_w % a.out_h, frame = pixel / (a.out_w * a.out_h);
    if (frame >= a.frames) return;
    const u16* map = (const u16*)a.input + (u64)frame * a.in_h * a.in_w * a.in_stride + chunk * 8;
    f32 values[8];
    blend(map, scaled(between(y, a.in_h, a.out_h), a.in_w * a.in_stride),
          scaled(between(x, a.in_w, a.out_w), a.in_stride), values);
    store((u16*)a.out + (u64)pixel * a.out_stride + chunk * 8, values,
          a.channels - chunk * 8, false);
}
