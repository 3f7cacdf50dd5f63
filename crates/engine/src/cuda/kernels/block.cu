// Inverted residual blocks as one kernel: 1x1 expansion, depthwise 3x3 convolution, 1x1 projection.
//
// Four warps compute ROWS x 16 pixels of one frame, all their channels. The pixels that those see are brought
// to shared memory once. Then, 32 expanded channels at a time: the warps expand all pixels that are seen; each
// convolves four columns, and adds their products with the projection's weights to its sums. What is
// expanded never leaves shared memory. Values are rounded and sums are ordered as by the separate kernels.
//
// A block may be given a smaller map too, to be *lifted*: multiplied, resized, and added to what is expanded. Its
// pixels around the tile are brought as the input's are, and multiplied 32 expanded channels ahead.

#define BLOCK_WARPS 4
// Columns of the result that a warp computes.
#define WARP_COLUMNS 4

// Four fp16 numbers.
struct alignas(8) Quad {
    u32 pairs[2];
};

// GROUPS: channels of the result, in 32.
template <int STRIDE, int ROWS, int GROUPS>
struct Block {
    static constexpr int THREADS = BLOCK_WARPS * 32;
    // Nothing is lifted where maps shrink.
    static constexpr bool LIFTS = STRIDE == 1;
    static constexpr int COLUMNS = BLOCK_WARPS * WARP_COLUMNS;
    // What the result's pixels see.
    static constexpr int SEEN_H = (ROWS - 1) * STRIDE + 3;
    static constexpr int SEEN_W = (COLUMNS - 1) * STRIDE + 3;
    static constexpr int SEEN = SEEN_H * SEEN_W;
    static constexpr int N_TILES = (SEEN + 15) / 16;
    static constexpr int LINES = N_TILES * 16;
    // Pixels of a warp.
    static constexpr int OWN = ROWS * WARP_COLUMNS;
    // Rows, columns and tiles of what is lifted: its pixels are twice as far apart, and two are between.
    static constexpr int LOW_H = SEEN_H / 2 + 2;
    static constexpr int LOW_W = SEEN_W / 2 + 2;
    static constexpr int LOW_LINES = (LOW_H * LOW_W + 15) / 16 * 16;
    // Where things are in shared memory. Behind the last, slice by slice: the expansion's weights, the input's
    // pixels, the lift's weights, the pixels that are lifted; and what the lift's product makes of those.
    static constexpr int CONVOLVED = SEEN * LINE_BYTES;
    static constexpr int TAPS = (CONVOLVED + BLOCK_WARPS * OWN * LINE_BYTES + 127) / 128 * 128;
    static constexpr int PROJECTION = TAPS + 10 * SLICE * 4;
    static constexpr int BETWEEN = PROJECTION + GROUPS * 32 * LINE_BYTES;
    static constexpr int EXPANSION = (BETWEEN + (SEEN_H + SEEN_W) * 16 + 127) / 128 * 128;
    static_assert(OWN % 16 == 0, "whole tiles");

    const BlockArgs& a;
    u8* shared;
    u32 base;
    u32 warp, lane;
    u32 frame, first_y, first_x;
    u32 n_slices_in, n_slices_lifted;
    // The first row and column that are lifted.
    u32 low_y, low_x;

    DEVICE_MEMBER void start(u8* shared_memory) {
        shared = shared_memory;
        base = shared_address(shared_memory);
        warp = thread_index() / 32;
        lane = thread_index() % 32;
        u32 across = (a.out_w + COLUMNS - 1) / COLUMNS, down = (a.out_h + ROWS - 1) / ROWS;
        u32 index = block_index();
        first_x = index % across * COLUMNS;
        index /= across;
        first_y = index % down * ROWS;
        frame = index / down;
        n_slices_in = (a.channels + SLICE - 1) / SLICE;
        n_slices_lifted = LIFTS && a.lifted ? (a.lifted_channels + SLICE - 1) / SLICE : 0;
    }

    DEVICE_MEMBER u32 input_at(u32 slice) const {
        return EXPANSION + n_slices_in * 32 * LINE_BYTES + slice * LINES * LINE_BYTES;
    }
    DEVICE_MEMBER u32 lift_weights_at(u32 slice) const {
        return input_at(n_slices_in) + slice * 32 * LINE_BYTES;
    }
    DEVICE_MEMBER u32 low_at(u32 slice) const {
        return lift_weights_at(n_slices_lifted) + slice * LOW_LINES * LINE_BYTES;
    }
    DEVICE_MEMBER u32 lifted_at() const { return low_at(n_slices_lifted); }

    // Row and column, among those that are seen, of the pixel in a line. With a stride of two, even columns
    // come first: those that neighbouring results see lie side by side.
    DEVICE_MEMBER static u32 row_of(u32 line) { return line / SEEN_W; }
    DEVICE_MEMBER static u32 column_of(u32 line) {
        constexpr u32 EVEN = (SEEN_W + 1) / 2;
        u32 i = line % SEEN_W;
        if (STRIDE == 1) return i;
        return i < EVEN ? 2 * i : 2 * (i - EVEN) + 1;
    }

    // Row and column of the input; one less than none for what is above and on the left of it.
    DEVICE_MEMBER u32 input_y(u32 row) const { return first_y * STRIDE + row - 1; }
    DEVICE_MEMBER u32 input_x(u32 column) const { return first_x * STRIDE + column - 1; }

    // Starts bringing a chunk of every slice of a pixel to a line; zeros where there is no such pixel.
    DEVICE_MEMBER void bring_pixel(u32 line, u32 first, u32 lines, const u16* pixel, u32 channels) {
        u32 chunk = thread_index() % 4;
#pragma unroll 1
        for (u32 channel = chunk * 8; channel < (channels + SLICE - 1) / SLICE * SLICE; channel += SLICE) {
            u32 n_left = pixel && channel < channels ? channels - channel : 0;
            copy_async(base + first + channel / SLICE * lines * LINE_BYTES + place_in_slice(line, chunk),
                       n_left > 0 ? pixel + channel : (const u16*)a.input, (n_left < 8 ? n_left : 8) * 2);
        }
    }

    // Starts bringing all pixels that are seen; those outside of the picture are zeros.
    DEVICE_MEMBER void bring_input() {
#pragma unroll 1
        for (u32 line = thread_index() / 4; line < LINES; line += THREADS / 4) {
            u32 y = input_y(row_of(line)), x = input_x(column_of(line));
            bool is_inside = line < SEEN && y < a.in_h && x < a.in_w;
            u64 pixel = ((u64)frame * a.in_h + y) * a.in_w + x;
            bring_pixel(line, input_at(0), LINES, is_inside ? (const u16*)a.input + pixel * a.in_stride : 0,
                        a.channels);
        }
    }

    // Starts bringing the pixels that are lifted.
    DEVICE_MEMBER void bring_low() {
#pragma unroll 1
        for (u32 line = thread_index() / 4; line < LOW_LINES; line += THREADS / 4) {
            u32 y = low_y + line / LOW_W, x = low_x + line % LOW_W;
            bool is_inside = line < LOW_H * LOW_W && y < a.low_h && x < a.low_w;
            u64 pixel = ((u64)frame * a.low_h + y) * a.low_w + x;
            bring_pixel(line, low_at(0), LOW_LINES, is_inside ? (const u16*)a.lifted + pixel * a.lifted_stride : 0,
                        a.lifted_channels);
        }
    }

    // Starts bringing a product's weights of a slice of expanded channels.
    DEVICE_MEMBER void bring_weights(u32 slice, u64 weights, u32 n_slices, u32 first) {
        u32 chunk = thread_index() % 4, line = thread_index() / 4;
        const u16* from = (const u16*)weights + (u64)(slice * 32 + line) * n_slices * SLICE + chunk * 8;
#pragma unroll 1
        for (u32 k = 0; k < n_slices; k++) {
            copy_async(base + first + k * 32 * LINE_BYTES + place_in_slice(line, chunk), from + k * SLICE, 16);
        }
    }
    DEVICE_MEMBER void bring_expansion(u32 slice) {
        bring_weights(slice, a.expand_weights, n_slices_in, EXPANSION);
    }
    DEVICE_MEMBER void bring_lift(u32 slice) {
        bring_weights(slice, a.lift_weights, n_slices_lifted, lift_weights_at(0));
    }

    // Starts bringing a slice of the depthwise convolution's weights, its bias as a tenth line, and the
    // projection's weights.
    DEVICE_MEMBER void bring_projection(u32 slice) {
        u32 depth = (a.expanded + 7) / 8 * 8;
        if (thread_index() < 80) {
            u32 tap = thread_index() / 8, channel = slice * SLICE + thread_index() % 8 * 4;
            const f32* from = tap < 9 ? (const f32*)a.depthwise_weights + tap * depth : (const f32*)a.depthwise_bias;
            bool is_inside = channel < depth;
            copy_async(base + TAPS + thread_index() * 16, is_inside ? from + channel : from, is_inside ? 16 : 0);
        }
        u32 chunk = thread_index() % 4, stride = (a.expanded + SLICE - 1) / SLICE * SLICE;
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            u32 line = group * 32 + thread_index() / 4;
            copy_async(base + PROJECTION + place_in_slice(line, chunk),
                       (const u16*)a.project_weights + (u64)line * stride + slice * SLICE + chunk * 8, 16);
        }
    }

    // Where each row and column that is seen lies in what is lifted, in bytes of that.
    DEVICE_MEMBER void find_lifted() {
        low_y = between(first_y > 0 ? first_y - 1 : 0, a.low_h, a.in_h).first;
        low_x = between(first_x > 0 ? first_x - 1 : 0, a.low_w, a.in_w).first;
        Between* places = (Between*)(shared + BETWEEN);
        u32 i = thread_index();
        if (i < SEEN_H && input_y(i) < a.in_h) {
            places[i] = inside(between(input_y(i), a.low_h, a.in_h), low_y, LOW_W * SLICE);
        }
        if (i < SEEN_W && input_x(i) < a.in_w) {
            places[SEEN_H + i] = inside(between(input_x(i), a.low_w, a.in_w), low_x, SLICE);
        }
    }

    // A place in elements, from the first row or column on.
    DEVICE_MEMBER static Between inside(Between place, u32 first, u32 stride) {
        place.first -= first;
        place.second -= first;
        return scaled(place, stride);
    }

    // Eight neighbouring results of a product, with their bias.
    DEVICE_MEMBER static void results(const f32 (&sums)[4][4], int half, const f32 (&bias)[8], f32 (&values)[8]) {
#pragma unroll
        for (int c = 0; c < 8; c++) values[c] = sums[c / 2][half * 2 + c % 2] + bias[c];
    }

    // Multiplies the pixels that are lifted.
    DEVICE_MEMBER void lift(u32 slice) {
        f32 bias[8];
        load_floats((const f32*)a.lift_bias + slice * SLICE + lane % 4 * 8, bias);
#pragma unroll 1
        for (u32 tile = warp; tile < LOW_LINES / 16; tile += BLOCK_WARPS) {
            f32 sums[1][4][4] = {};
#pragma unroll 1
            for (u32 k = 0; k < n_slices_lifted; k++) {
                multiply_lines<1>(base + low_at(k), tile * 16, base + lift_weights_at(k), 0, sums);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                f32 values[8];
                results(sums[0], half, bias, values);
                u32 line = tile * 16 + half * 8 + lane / 4;
                *(Eight*)(shared + lifted_at() + line * LINE_BYTES + lane % 4 * 16) = pack(values, false);
            }
        }
    }

    // Expands all pixels that are seen; the borders of the picture are zeros.
    DEVICE_MEMBER void expand(u32 slice) {
        f32 bias[8];
        load_floats((const f32*)a.expand_bias + slice * SLICE + lane % 4 * 8, bias);
        const Between* places = (const Between*)(shared + BETWEEN);
        const u16* lifted = (const u16*)(shared + lifted_at()) + lane % 4 * 8;
#pragma unroll 1
        for (u32 tile = warp; tile < N_TILES; tile += BLOCK_WARPS) {
            // One tile at a time: more of them would need registers that further blocks can use better.
            f32 sums[1][4][4] = {};
#pragma unroll 1
            for (u32 k = 0; k < n_slices_in; k++) {
                multiply_lines<1>(base + input_at(k), tile * 16, base + EXPANSION + k * 32 * LINE_BYTES, 0, sums);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                u32 line = tile * 16 + half * 8 + lane / 4;
                if (line >= SEEN) continue;
                u32 row = row_of(line), column = column_of(line);
                f32 values[8] = {};
                if (input_y(row) < a.in_h && input_x(column) < a.in_w) {
                    results(sums[0], half, bias, values);
                    if (LIFTS && n_slices_lifted > 0) {
                        f32 others[8];
                        blend(lifted, places[row], places[SEEN_H + column], others);
#pragma unroll
                        for (int c = 0; c < 8; c++) values[c] += others[c];
                    }
                }
                *(Eight*)(shared + line * LINE_BYTES + lane % 4 * 16) = pack(values, a.expand_relu);
            }
        }
    }

    // Convolves this warp's columns: a thread has four channels of one column.
    DEVICE_MEMBER void convolve() {
        u32 quad = lane % 8, column = warp * WARP_COLUMNS + lane / 8;
        const Four* taps = (const Four*)(shared + TAPS) + quad;
        const u8* seen = shared + column * LINE_BYTES + quad * 8;
        Four weights[9], bias = taps[9 * 8];
#pragma unroll
        for (int tap = 0; tap < 9; tap++) weights[tap] = taps[tap * 8];
        f32 sums[ROWS][4];
#pragma unroll
        for (int row = 0; row < SEEN_H; row++) {
            if (row % STRIDE == 0 && row / STRIDE < ROWS) {
#pragma unroll
                for (int i = 0; i < 4; i++) sums[row / STRIDE][i] = bias.values[i];
            }
#pragma unroll
            for (int kx = 0; kx < 3; kx++) {
                constexpr int EVEN = (SEEN_W + 1) / 2;
                int line = row * SEEN_W + (STRIDE == 1 ? kx : kx % 2 * EVEN + kx / 2);
                f32 values[4];
                Quad quads = *(const Quad*)(seen + line * LINE_BYTES);
#pragma unroll
                for (int i = 0; i < 4; i++) values[i] = to_float((u16)(quads.pairs[i / 2] >> i % 2 * 16));
#pragma unroll
                for (int p = 0; p < ROWS; p++) {
                    int ky = row - p * STRIDE;
                    if (ky < 0 || ky > 2) continue;
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        sums[p][i] = multiply_and_add(values[i], weights[ky * 3 + kx].values[i], sums[p][i]);
                    }
                }
            }
            // A row of results is complete when the last that it sees has been added.
            if (row >= 2 && row % STRIDE == 0) {
                int p = (row - 2) / STRIDE;
                Quad quads;
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    quads.pairs[i] = to_halves(sums[p][2 * i], sums[p][2 * i + 1], a.depthwise_relu);
                }
                u32 line = warp * OWN + p * WARP_COLUMNS + lane / 8;
                *(Quad*)(shared + CONVOLVED + place_in_slice(line, quad / 2) + quad % 2 * 8) = quads;
            }
        }
    }

    // Writes this warp's pixels.
    DEVICE_MEMBER void finish(const f32 (&sums)[GROUPS][OWN / 16][4][4]) {
#pragma unroll
        for (int i = 0; i < GROUPS * OWN / 8; i++) {
            int group = i / (OWN / 8), eighth = i % (OWN / 8);
            u32 line = eighth * 8 + lane / 4;
            u32 y = first_y + line / WARP_COLUMNS;
            u32 x = first_x + warp * WARP_COLUMNS + line % WARP_COLUMNS;
            u32 n = group * 32 + lane % 4 * 8;
            if (y >= a.out_h || x >= a.out_w || n >= a.n) continue;
            f32 values[8];
            load_floats((const f32*)a.project_bias + n, values);
#pragma unroll
            for (int c = 0; c < 8; c++) {
                values[c] = sums[group][eighth / 2][c / 2][eighth % 2 * 2 + c % 2] + values[c];
            }
            u64 pixel = ((u64)frame * a.out_h + y) * a.out_w + x;
            if (a.added) {
                f32 others[8];
                unpack(load_eight((const u16*)a.added + pixel * a.added_stride + n), others);
#pragma unroll
                for (int c = 0; c < 8; c++) values[c] += others[c];
            }
            store((u16*)a.out + pixel * a.out_stride + n, values, a.n - n, a.relu);
        }
    }

    DEVICE_MEMBER void run(u8* shared_memory) {
        start(shared_memory);
        bring_input();
        bring_expansion(0);
        bool lifts = LIFTS && n_slices_lifted > 0;
        if (lifts) {
            find_lifted();
            bring_low();
            bring_lift(0);
        }
        copy_commit();
        if (lifts) {
            copy_wait<0>();
            barrier();
            lift(0);
        }
        f32 sums[GROUPS][OWN / 16][4][4] = {};
        u32 n_slices = (a.expanded + SLICE - 1) / SLICE;
#pragma unroll 1
        for (u32 slice = 0; slice < n_slices; slice++) {
            copy_wait<0>();
            // The expansion's weights and what is lifted are there, and nobody convolves or projects the slice
            // before any more.
            barrier();
            bool has_next = slice + 1 < n_slices;
            bring_projection(slice);
            if (lifts && has_next) bring_lift(slice + 1);
            copy_commit();
            expand(slice);
            copy_wait<0>();
            // All is expanded, the other weights are there, and nobody needs the expansion's any more.
            barrier();
            if (has_next) bring_expansion(slice + 1);
            copy_commit();
            if (lifts && has_next) lift(slice + 1);
            convolve();
            warp_barrier();
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                multiply_lines<OWN / 16>(base + CONVOLVED, warp * OWN, base + PROJECTION, group * 32, sums[group]);
            }
        }
        finish(sums);
    }
};

#define BLOCK(name, stride, rows, groups, n_blocks)                      \
    KERNEL_OF_MANY(name, BlockArgs, BLOCK_WARPS * 32, n_blocks) {        \
        SHARED(shared);                                                  \
        Block<stride, rows, groups> block = {a};                         \
        block.run(shared);                                               \
    }

BLOCK(block_s1n32, 1, 8, 1, 4)
BLOCK(block_s1n64, 1, 8, 2, 3)
BLOCK(block_s2n32, 2, 4, 1, 4)
BLOCK(block_s2n64, 2, 4, 2, 4)
