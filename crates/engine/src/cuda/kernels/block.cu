// Inverted residual blocks as one kernel: 1x1 expansion, depthwise 3x3 convolution, 1x1 projection.
//
// Four warps compute ROWS x 16 pixels of one frame, all their channels. The pixels that those see are brought
// to shared memory once. Then, 32 expanded channels at a time: the warps expand all pixels that are seen; each
// convolves four columns, and adds their products with the projection's weights to its sums. What is
// expanded never leaves shared memory. Values are rounded and sums are ordered as by the separate kernels.
//
// A block may be given a smaller map too, to be *lifted*: resized, and then expanded as if its channels came before the
// input's. Its pixels around the tile are brought and resized once, before anything is expanded.

// GROUPS: channels of the result, in 32. AT_ONCE: tiles of 16 pixels that a warp expands at once; more of them read weights
// less often and need more registers. RELU: what is negative becomes zero, both when it is expanded and when it is
// convolved; otherwise the arguments say so.
template <int STRIDE, int ROWS, int GROUPS, int AT_ONCE, bool RELU>
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
    // Tiles of a warp.
    static constexpr int OWN_TILES = (N_TILES + BLOCK_WARPS - 1) / BLOCK_WARPS;
    // Pixels of a warp.
    static constexpr int OWN = ROWS * WARP_COLUMNS;
    // Rows and columns of what is lifted: its pixels are twice as far apart, and two are between.
    static constexpr int LOW_H = SEEN_H / 2 + 2;
    static constexpr int LOW_W = SEEN_W / 2 + 2;
    static constexpr int LOW_BYTES = LOW_H * LOW_W * LINE_BYTES;
    // Where things are in shared memory. Behind the last: the expansion's weights, slice by slice.
    static constexpr int CONVOLVED = SEEN * LINE_BYTES;
    static constexpr int TAPS = (CONVOLVED + BLOCK_WARPS * OWN * LINE_BYTES + 127) / 128 * 128;
    static constexpr int PROJECTION = TAPS + 10 * SLICE * 4;
    static constexpr int INPUT = PROJECTION + GROUPS * 32 * LINE_BYTES;
    // Before anything is expanded: pixels to be lifted, where what is expanded will be, and where rows and columns lie
    // among them, where what is convolved will be.
    static constexpr int LOW = 0;
    static constexpr int BETWEEN = CONVOLVED;
    static constexpr int MAX_SLICES = 2;
    static_assert(OWN % 16 == 0, "whole tiles");
    static_assert(OWN_TILES % AT_ONCE == 0, "as many tiles each time");
    static_assert(!LIFTS || MAX_SLICES * LOW_BYTES <= CONVOLVED, "what is lifted fits");
    static_assert((SEEN_H + SEEN_W) * 16 <= TAPS - CONVOLVED, "places fit");
    // The last tile of all has pixels that nobody sees. It reads them where the weights are, and writes them where
    // nothing is kept meanwhile.
    static_assert(N_TILES * 16 - SEEN <= 32 && (N_TILES * 16 - SEEN) * LINE_BYTES <= TAPS - CONVOLVED, "tiles fit");

    const BlockArgs& a;
    u8* shared;
    u32 base;
    u32 warp, lane;
    u32 frame, first_y, first_x;
    // The same row and column, in tiles, in one register: they are not needed before the end.
    u32 tile;
    // Slices of 32 channels: of the input, of what is lifted, and of both. Those that are lifted come first.
    u32 n_slices_in, n_slices_lifted, n_slices;
    // Bit 2 i + h: whether the pixel of this thread in half h of the warp's tile i is inside of the picture.
    u32 are_inside;

    DEVICE_MEMBER void start(u8* shared_memory) {
        shared = shared_memory;
        base = shared_address(shared_memory);
        warp = thread_index() / 32;
        lane = thread_index() % 32;
        u32 across = (a.out_w + COLUMNS - 1) / COLUMNS, down = (a.out_h + ROWS - 1) / ROWS;
        u32 index = block_index();
        u32 tile_x = index % across, tile_y = index / across % down;
        frame = index / across / down;
        tile = not_before(tile_y << 16 | tile_x);
        first_x = tile_x * COLUMNS;
        first_y = tile_y * ROWS;
        n_slices_in = (a.channels + SLICE - 1) / SLICE;
        n_slices_lifted = LIFTS && a.lifted ? (a.lifted_channels + SLICE - 1) / SLICE : 0;
        n_slices = n_slices_in + n_slices_lifted;
        find_inside();
    }

    DEVICE_MEMBER void find_inside() {
        are_inside = 0xffffffff;
        // Most blocks see nothing but the picture.
        if (input_y(0) < a.in_h && input_x(0) < a.in_w && input_y(SEEN_H - 1) < a.in_h
            && input_x(SEEN_W - 1) < a.in_w) {
            return;
        }
        are_inside = 0;
#pragma unroll 1
        for (u32 i = 0; i < 2 * OWN_TILES; i++) {
            are_inside |= (is_inside(warp * OWN_TILES * 16 + i * 8 + lane / 4) ? 1 : 0) << i;
        }
    }

    DEVICE_MEMBER u32 input_at(u32 slice) const { return INPUT + slice * SEEN * LINE_BYTES; }
    DEVICE_MEMBER u32 weights_at(u32 slice) const { return input_at(n_slices) + slice * 32 * LINE_BYTES; }

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
    DEVICE_MEMBER bool is_inside(u32 line) const {
        return input_y(row_of(line)) < a.in_h && input_x(column_of(line)) < a.in_w;
    }

    // Starts bringing a chunk of every slice of a pixel, to places `step` bytes apart; zeros where there is no such pixel.
    DEVICE_MEMBER void bring_pixel(u32 to, u32 step, const u16* pixel, bool is_inside, u32 channels) {
#pragma unroll 1
        for (u32 channel = thread_index() % 4 * 8; channel < (channels + SLICE - 1) / SLICE * SLICE; channel += SLICE) {
            if (is_inside && channel + 8 <= channels) {
                copy_async_whole(base + to, pixel + channel);
            } else if (is_inside && channel < channels) {
                copy_async(base + to, pixel + channel, (channels - channel) * 2);
            } else {
                *(Eight*)(shared + to) = Eight{};
            }
            to += step;
        }
    }

    // Starts bringing all pixels that are seen; those outside of the picture are zeros.
    DEVICE_MEMBER void bring_input() {
        u32 to = input_at(n_slices_lifted) + place_in_slice(thread_index() / 4, thread_index() % 4);
        const u16* input = (const u16*)a.input + (u64)frame * a.in_h * a.in_w * a.in_stride;
#pragma unroll 1
        for (u32 line = thread_index() / 4; line < SEEN; line += THREADS / 4) {
            u32 y = input_y(row_of(line)), x = input_x(column_of(line));
            bool is_inside = y < a.in_h && x < a.in_w;
            bring_pixel(to, SEEN * LINE_BYTES, input + (y * a.in_w + x) * a.in_stride, is_inside, a.channels);
            // Lines so far apart have their chunks in the same order.
            to += THREADS / 4 * LINE_BYTES;
        }
    }

    // Starts bringing the pixels that are lifted, from this row and column on.
    DEVICE_MEMBER void bring_low(u32 low_y, u32 low_x) {
        u32 to = LOW + thread_index() * 16;
        const u16* low = (const u16*)a.lifted + (u64)frame * a.low_h * a.low_w * a.lifted_stride;
#pragma unroll 1
        for (u32 line = thread_index() / 4; line < LOW_H * LOW_W; line += THREADS / 4) {
            u32 y = low_y + line / LOW_W, x = low_x + line % LOW_W;
            bool is_inside = y < a.low_h && x < a.low_w;
            bring_pixel(to, LOW_BYTES, low + (y * a.low_w + x) * a.lifted_stride, is_inside, a.lifted_channels);
            to += THREADS / 4 * LINE_BYTES;
        }
    }

    // Starts bringing the weights of a slice of expanded channels: with those that are lifted, and with the input's.
    DEVICE_MEMBER void bring_expansion(u32 slice) {
        if (LIFTS && n_slices_lifted > 0) bring_weights(slice, a.lift_weights, n_slices_lifted, weights_at(0));
        bring_weights(slice, a.expand_weights, n_slices_in, weights_at(n_slices_lifted));
    }
    DEVICE_MEMBER void bring_weights(u32 slice, u64 weights, u32 n, u32 first) {
        u32 chunk = thread_index() % 4, line = thread_index() / 4;
        const u16* from = (const u16*)weights + (u64)(slice * 32 + line) * n * SLICE + chunk * 8;
        u32 to = base + first + place_in_slice(line, chunk);
#pragma unroll 1
        for (u32 k = 0; k < n; k++) copy_async(to + k * 32 * LINE_BYTES, from + k * SLICE, 16);
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

    // Starts bringing what is lifted, and notes where each row and column that is seen lies in it.
    DEVICE_MEMBER void find_lifted() {
        u32 low_y = between(first_y > 0 ? first_y - 1 : 0, a.low_h, a.in_h).first;
        u32 low_x = between(first_x > 0 ? first_x - 1 : 0, a.low_w, a.in_w).first;
        bring_low(low_y, low_x);
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

    // Resizes what is lifted, two neighbouring pixels of a row at a time, which mostly lie between the same ones. What
    // becomes of pixels outside of the picture is of no concern: nobody asks what they expand to.
    DEVICE_MEMBER void lift() {
        constexpr u32 PAIRS = SEEN_W / 2;
        static_assert(!LIFTS || SEEN_W % 2 == 0, "a row has whole pairs");
        u32 chunk = thread_index() % 4;
        const Between* places = (const Between*)(shared + BETWEEN);
#pragma unroll 1
        for (u32 pair = thread_index() / 4; pair < SEEN_H * PAIRS; pair += THREADS / 4) {
            u32 row = pair / PAIRS, column = pair % PAIRS * 2, line = row * SEEN_W + column;
            bool has_first = input_x(column) < a.in_w, has_second = input_x(column + 1) < a.in_w;
            if (input_y(row) >= a.in_h || !(has_first || has_second)) continue;
            Between y = places[row];
            Between first = places[SEEN_H + (has_first ? column : column + 1)];
            Between second = places[SEEN_H + (has_second ? column + 1 : column)];
#pragma unroll 1
            for (u32 slice = 0; slice < n_slices_lifted; slice++) {
                const u16* map = (const u16*)(shared + LOW + slice * LOW_BYTES) + chunk * 8;
                f32 left[8], right[8];
                blend_rows(map + first.first, y, left);
                blend_rows(map + first.second, y, right);
                keep_lifted(slice, place_in_slice(line, chunk), left, right, first.fraction);
                if (second.first != first.first) {
                    // Then it begins where the first one ends: pixels are less than one of these apart.
#pragma unroll
                    for (int i = 0; i < 8; i++) left[i] = right[i];
                    blend_rows(map + second.second, y, right);
                }
                keep_lifted(slice, place_in_slice(line + 1, chunk), left, right, second.fraction);
            }
        }
    }

    DEVICE_MEMBER void keep_lifted(u32 slice, u32 place, const f32 (&left)[8], const f32 (&right)[8], f32 fraction) {
        f32 values[8];
        blend_columns(left, right, fraction, values);
        // Nothing between numbers is larger than they are.
        Eight eight;
#pragma unroll
        for (int i = 0; i < 4; i++) eight.pairs[i] = round_to_halves(values[2 * i], values[2 * i + 1]);
        *(Eight*)(shared + input_at(slice) + place) = eight;
    }

    // Expands all pixels that are seen; the borders of the picture are zeros.
    DEVICE_MEMBER void expand(const f32 (&bias)[4][4]) {
#pragma unroll 1
        for (u32 i = 0; i < OWN_TILES; i += AT_ONCE) {
            u32 first = (warp * OWN_TILES + i) * 16;
            if (BLOCK_WARPS * OWN_TILES > N_TILES && first >= N_TILES * 16) break;
            f32 sums[AT_ONCE][4][4];
            multiply_from<AT_ONCE, true>(base + INPUT, first, base + weights_at(0), 0, bias, sums);
#pragma unroll 1
            for (u32 k = 1; k < n_slices; k++) {
                multiply_lines<AT_ONCE>(base + input_at(k), first, base + weights_at(k), 0, sums);
            }
            // Where this thread's channels of a line are, in the order of lines of either part.
            u8* to = shared + first * LINE_BYTES + lane % 4 * 16;
            u8* places[2];
#pragma unroll
            for (int part = 0; part < 2; part++) places[part] = to + (lane / 4 ^ is_flipped(part)) * LINE_BYTES;
            u32 least = a.expand_relu ? 0 : 0xfbfffbff;
            if (are_inside == 0xffffffff) {
#pragma unroll
                for (int half = 0; half < 2 * AT_ONCE; half++) {
                    keep_expanded(sums, half, places[half / OWN_TILES], least, 0x7bff7bff);
                }
            } else {
                // Not before it is needed: registers are scarce while tiles are multiplied.
                u32 inside = not_before(are_inside) >> 2 * i;
#pragma unroll
                for (int half = 0; half < 2 * AT_ONCE; half++) {
                    // All bits, or none where there is no pixel.
                    u32 mask = 0 - (inside >> half & 1);
                    keep_expanded(sums, half, places[half / OWN_TILES], least & mask, 0x7bff7bff & mask);
                }
            }
        }
    }

    // Whether lines that a warp expands have changed places, even with odd ones, in the first or in the second half of its
    // tiles. With a stride of one, those of every other four rows have, so that threads that convolve rows four apart read
    // different banks.
    DEVICE_MEMBER u32 is_flipped(int part) const {
        static_assert(STRIDE != 1 || (AT_ONCE == OWN_TILES && 4 * SEEN_W == 3 * OWN_TILES * 8 && SEEN_H <= 12),
                      "a part has one order");
        return STRIDE == 1 && warp * 2 + part - 3 < 3 ? 1 : 0;
    }

    // Writes what half a tile expands to, between limits.
    DEVICE_MEMBER void keep_expanded(const f32 (&sums)[AT_ONCE][4][4], int half, u8* to, u32 least, u32 most) {
        Eight eight;
#pragma unroll
        for (int c = 0; c < 4; c++) {
            f32 low = sums[half / 2][c][half % 2 * 2], high = sums[half / 2][c][half % 2 * 2 + 1];
            eight.pairs[c] = between_limits<RELU>(low, high, least, most);
        }
        *(Eight*)(to + half * 8 * LINE_BYTES) = eight;
    }

    DEVICE_MEMBER void convolve() {
        u32 least = a.depthwise_relu ? 0 : 0xfbfffbff;
        if constexpr (STRIDE == 1) {
            convolve_halves<ROWS, SEEN_W, RELU>(shared, shared + TAPS, shared + CONVOLVED, least);
        } else {
            convolve_columns<ROWS, SEEN_W, RELU>(shared, shared + TAPS, shared + CONVOLVED, least);
        }
    }

    // Writes this warp's pixels.
    DEVICE_MEMBER void finish(const f32 (&sums)[GROUPS][OWN / 16][4][4]) {
        // A thread's pixels are two rows apart.
        constexpr int STEP = 8 / WARP_COLUMNS;
        u32 first = (tile >> 16) * ROWS + lane / 4 / WARP_COLUMNS;
        u32 x = (tile & 0xffff) * COLUMNS + warp * WARP_COLUMNS + lane / 4 % WARP_COLUMNS;
        if (x >= a.out_w) return;
        u64 frame_start = (u64)frame * a.out_h * a.out_w;
        u32 pixel = first * a.out_w + x, least = a.relu ? 0 : 0xfbfffbff;
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            u32 n = group * 32 + lane % 4 * 8;
            if (n >= a.n) return;
            u16* out = (u16*)a.out + frame_start * a.out_stride + n;
            const u16* added = (const u16*)a.added + frame_start * a.added_stride + n;
#pragma unroll
            for (int eighth = 0; eighth < OWN / 8; eighth++) {
                if (first + eighth * STEP >= a.out_h) break;
                u32 here = pixel + eighth * STEP * a.out_w;
                f32 values[8];
#pragma unroll
                for (int c = 0; c < 8; c++) values[c] = sums[group][eighth / 2][c / 2][eighth % 2 * 2 + c % 2];
                if (a.added) {
                    f32 others[8];
                    unpack(load_eight(added + here * a.added_stride), others);
#pragma unroll
                    for (int c = 0; c < 8; c++) values[c] += others[c];
                }
                store_limited(out + here * a.out_stride, values, a.n - n, least);
            }
        }
    }

    DEVICE_MEMBER void run(u8* shared_memory) {
        start(shared_memory);
        bring_input();
        bring_expansion(0);
        bool lifts = LIFTS && n_slices_lifted > 0;
        if (lifts) find_lifted();
        copy_commit();
        if (lifts) {
            copy_wait<0>();
            // What is lifted is there, and so are the places.
            barrier();
            lift();
        }
        f32 sums[GROUPS][OWN / 16][4][4];
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            f32 bias[8];
            load_floats((const f32*)a.project_bias + group * 32 + lane % 4 * 8, bias);
            start_sums<OWN / 16>(bias, sums[group]);
        }
        u32 n_expanded = (a.expanded + SLICE - 1) / SLICE;
#pragma unroll 1
        for (u32 slice = 0; slice < n_expanded; slice++) {
            // On its way while the warps wait for each other.
            f32 bias[4][4];
            load_starts((const f32*)a.expand_bias + slice * SLICE + lane % 4 * 8, bias);
            copy_wait<0>();
            // The expansion's weights and what is lifted are there, and nobody convolves or projects the slice
            // before any more.
            barrier();
            bring_projection(slice);
            copy_commit();
            expand(bias);
            copy_wait<0>();
            // All is expanded, the other weights are there, and nobody needs the expansion's any more.
            barrier();
            if (slice + 1 < n_expanded) bring_expansion(slice + 1);
            copy_commit();
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

#define BLOCK(name, stride, rows, groups, at_once, n_blocks)             \
    KERNEL_OF_MANY(name, BlockArgs, BLOCK_WARPS * 32, n_blocks) {        \
        SHARED(shared);                                                  \
        if (a.expand_relu && a.depthwise_relu) {                         \
            Block<stride, rows, groups, at_once, true> block = {a};      \
            block.run(shared);                                           \
        } else {                                                         \
            Block<stride, rows, groups, at_once, false> block = {a};     \
            block.run(shared);                                           \
        }                                                                \
    }

BLOCK(block_s1n32, 1, 8, 1, 3, 4)
BLOCK(block_s1n64, 1, 8, 2, 3, 3)
BLOCK(block_s2n32, 2, 4, 1, 1, 4)
BLOCK(block_s2n64, 2, 4, 2, 1, 4)
