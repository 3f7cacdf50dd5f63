// Convolutions as products of matrices on tensor cores: pixels times channels.
//
// A block computes M x N of the result. It walks along the products K in slices of 32, of which it keeps
// three in shared memory: one is multiplied while the next ones arrive. Every sum is made in the same order
// whatever the tile, so a pixel's bits do not depend on how many others there are.

#define STAGES 3
// Products of a slice; its lines are 64 bytes, four chunks of 16.
#define SLICE 32
#define LINE_BYTES 64

// Where chunk `chunk` of line `line` is: lines that are read together fall into different banks.
DEVICE u32 place_in_slice(u32 line, u32 chunk) {
    return line * LINE_BYTES + ((chunk ^ (line >> 1 & 3)) << 4);
}

// Sums begin with the bias, of which a thread holds eight channels in a row.
template <int TILES>
DEVICE void start_sums(const f32 (&bias)[8], f32 (&sums)[TILES][4][4]) {
#pragma unroll
    for (int i = 0; i < TILES * 16; i++) sums[i / 16][i / 4 % 4][i % 4] = bias[i / 4 % 4 * 2 + i % 2];
}

// Adds the products of a slice: 16 TILES lines of A, from `first_a` on, with 32 lines of B. If BEGINS, sums begin with
// `start`, which holds for every line of A. Both begin at lines that are multiples of 16, so that chunks are where they would be
// from line 0 on.
template <int TILES, bool BEGINS>
DEVICE void multiply_from(u32 of_a, u32 first_a, u32 of_b, u32 first_b, const f32 (&start)[4][4], f32 (&sums)[TILES][4][4]) {
    u32 lane = thread_index() % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        // Of four neighbouring 8-column tiles, both halves of 16 products.
        u32 b[2][4];
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
            u32 at = place_in_slice(lane / 16 * 8 + lane % 8, half * 2 + lane / 8 % 2);
            load_matrices(b[pair], of_b + (first_b + pair * 16) * LINE_BYTES + at);
        }
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            u32 pixels[4];
            u32 at = place_in_slice(lane % 16, half * 2 + lane / 16);
            load_matrices(pixels, of_a + (first_a + tile * 16) * LINE_BYTES + at);
#pragma unroll
            for (int column = 0; column < 4; column++) {
                u32 b0 = b[column / 2][column % 2 * 2], b1 = b[column / 2][column % 2 * 2 + 1];
                if (BEGINS && half == 0) multiply_add_to(sums[tile][column], start[column], pixels, b0, b1);
                else multiply_add(sums[tile][column], pixels, b0, b1);
            }
        }
    }
}

template <int TILES>
DEVICE void multiply_lines(u32 of_a, u32 first_a, u32 of_b, u32 first_b, f32 (&sums)[TILES][4][4]) {
    multiply_from<TILES, false>(of_a, first_a, of_b, first_b, sums[0], sums);
}

template <int M, int N, int WARPS_M, int WARPS_N, bool WINDOWED>
struct Product {
    static constexpr int THREADS = WARPS_M * WARPS_N * 32;
    // Lines that a thread brings a chunk of.
    static constexpr int STEP = THREADS / 4;
    static constexpr int LINES_A = M / STEP;
    static constexpr int LINES_B = N / STEP;
    // A warp computes 16 TILES pixels times 32 channels.
    static constexpr int TILES = M / WARPS_M / 16;
    static constexpr int STAGE_BYTES = (M + N) * LINE_BYTES;
    static_assert(N == WARPS_N * 32, "a warp has 32 channels");
    static_assert(M % STEP == 0 && N % STEP == 0, "threads bring whole lines");
    static_assert(M <= THREADS && M * 32 <= STAGES * STAGE_BYTES, "a thread finds a pixel's place");
    static_assert(STEP % 8 == 0 && M % 8 == 0, "a thread's chunks lie in the same order");

    const GemmArgs& a;
    u32 shared;
    u32 first_m, first_n;
    // Where the first chunk that this thread brings is in a stage.
    u32 own_place;
    u32 lines_of_weights;
    // Of the next slice to bring, this thread's chunk: where it begins among all products, and among the channels of which
    // tap of a window.
    u32 k, channel;
    int tap_y, tap_x;
    // Where that is in the first pixel and in the first line of weights.
    const u16 *first_a, *first_b;
    // Of every line of A: where it begins, in elements, or where its window starts.
    u32 start_a[LINES_A];
    int window_y[LINES_A], window_x[LINES_A];
    // Of every line of weights: where it begins, in elements.
    u32 start_b[LINES_B];

    DEVICE_MEMBER void start(u32 shared_memory) {
        shared = shared_memory;
        u32 n_tiles_n = (a.n + N - 1) / N;
        first_m = block_index() / n_tiles_n * M;
        first_n = block_index() % n_tiles_n * N;
        u32 chunk = thread_index() % 4, line = thread_index() / 4;
        own_place = not_before(shared + place_in_slice(line, chunk));
        k = channel = chunk * 8;
        first_a = (const u16*)a.a + channel;
        first_b = (const u16*)a.weights + k;
        tap_y = tap_x = 0;
        lines_of_weights = (a.n + 31) / 32 * 32;
        // What is behind the last pixel or the last line of weights is given another one's products: nobody asks for
        // its results.
#pragma unroll
        for (int i = 0; i < LINES_A; i++) {
            u32 m = first_m + line + i * STEP;
            m = m < a.m ? m : a.m - 1;
            if (WINDOWED) {
                u32 plane = a.out_h * a.out_w;
                u32 place = m % plane;
                start_a[i] = m / plane * a.in_h * a.in_w * a.a_stride;
                window_y[i] = (int)(place / a.out_w * a.stride_h) - (int)a.pad_top;
                window_x[i] = (int)(place % a.out_w * a.stride_w) - (int)a.pad_left;
            } else {
                start_a[i] = m * a.a_stride;
            }
        }
#pragma unroll
        for (int i = 0; i < LINES_B; i++) {
            u32 at = first_n + line + i * STEP;
            start_b[i] = (at < lines_of_weights ? at : lines_of_weights - 1) * a.weights_stride;
        }
        if (WINDOWED) find_tap();
    }

    // Goes on to the tap that this thread's chunk belongs to.
    DEVICE_MEMBER void find_tap() {
        u32 depth = (a.channels + 7) / 8 * 8;
#pragma unroll 1
        while (channel >= depth) {
            channel -= depth;
            first_a -= depth;
            tap_x++;
            if (tap_x == (int)a.kernel_w) {
                tap_x = 0;
                tap_y++;
            }
        }
    }

    // Starts bringing the next slice to a stage, which begins at `stage` bytes.
    DEVICE_MEMBER void bring(u32 stage) {
        u32 to = own_place + stage;
        if (!WINDOWED && channel + 8 <= a.channels) {
#pragma unroll
            for (int i = 0; i < LINES_A; i++) copy_async_whole(to + i * STEP * LINE_BYTES, first_a + start_a[i]);
        } else {
            // What is behind the channels may be no numbers.
            u32 n_left = k < a.k ? a.channels - channel : 0;
#pragma unroll
            for (int i = 0; i < LINES_A; i++) bring_partly(to + i * STEP * LINE_BYTES, i, n_left);
        }
#pragma unroll
        for (int i = 0; i < LINES_B; i++) copy_async_whole(to + (M + i * STEP) * LINE_BYTES, first_b + start_b[i]);
        k += SLICE;
        channel += SLICE;
        first_a += SLICE;
        first_b += SLICE;
        if (WINDOWED) find_tap();
    }

    // Starts bringing so many channels of a pixel, or zeros for one outside of the picture.
    DEVICE_MEMBER void bring_partly(u32 to, int i, u32 n) {
        u32 at = start_a[i];
        if (WINDOWED) {
            int y = window_y[i] + tap_y, x = window_x[i] + tap_x;
            if (y < 0 || y >= (int)a.in_h || x < 0 || x >= (int)a.in_w) n = 0;
            at += ((u32)y * a.in_w + (u32)x) * a.a_stride;
        }
        if (n >= 8) copy_async_whole(to, first_a + at);
        else copy_async(to, n > 0 ? first_a + at : (const u16*)a.a, n * 2);
    }

    // Only products with single pixels are given something smaller to add.
    DEVICE_MEMBER bool adds_resized() const { return !WINDOWED && a.added && a.low_h != 0; }

    // Where each pixel of this block lies in what is resized, row and column, in elements. Takes the place of the stages.
    DEVICE_MEMBER void find_places(u8* shared_memory) const {
        // Nobody reads the stages any more.
        barrier();
        u32 m = first_m + thread_index(), plane = a.out_h * a.out_w;
        if (thread_index() < M && m < a.m) {
            u32 place = m % plane, row = a.low_w * a.added_stride, start = m / plane * a.low_h * row;
            Between* places = (Between*)shared_memory + thread_index() * 2;
            places[0] = scaled(between(place / a.out_w, a.low_h, a.out_h), row);
            places[0].first += start;
            places[0].second += start;
            places[1] = scaled(between(place % a.out_w, a.low_w, a.out_w), a.added_stride);
        }
        barrier();
    }

    // Writes what a warp has. Packed weights are ordered so that a thread has eight channels in a row.
    DEVICE_MEMBER void finish(const u8* shared_memory, u32 warp_m, u32 warp_n, const f32 (&sums)[TILES][4][4]) const {
        u32 lane = thread_index() % 32;
        u32 n = first_n + warp_n * 32 + lane % 4 * 8;
        if (n >= a.n) return;
        u32 least = a.relu ? 0 : 0xfbfffbff;
        const u16* added = (const u16*)a.added + n;
        u16* out = (u16*)a.out + n;
#pragma unroll
        for (int eighth = 0; eighth < 2 * TILES; eighth++) {
            u32 line = (warp_m * TILES * 2 + eighth) * 8 + lane / 4, m = first_m + line;
            if (m >= a.m) break;
            f32 values[8], others[8];
#pragma unroll
            for (int i = 0; i < 8; i++) values[i] = sums[eighth / 2][i / 2][eighth % 2 * 2 + i % 2];
            if (a.added) {
                if (adds_resized()) {
                    const Between* places = (const Between*)shared_memory + line * 2;
                    blend(added, places[0], places[1], others);
                } else {
                    unpack(load_eight(added + m * a.added_stride), others);
                }
#pragma unroll
                for (int i = 0; i < 8; i++) values[i] += others[i];
            }
            store_limited(out + m * a.out_stride, values, a.n - n, least);
        }
    }

    DEVICE_MEMBER void run(u8* shared_memory) {
        start(shared_address(shared_memory));
        u32 warp = thread_index() / 32;
        u32 warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
        f32 bias[8] = {}, sums[TILES][4][4];
        // There are as many as there are lines of weights.
        if (first_n + warp_n * 32 < lines_of_weights) {
            load_floats((const f32*)a.bias + first_n + warp_n * 32 + thread_index() % 4 * 8, bias);
        }
        start_sums<TILES>(bias, sums);
        u32 n_slices = (a.k + SLICE - 1) / SLICE;
#pragma unroll
        for (u32 slice = 0; slice < STAGES - 1; slice++) {
            if (slice < n_slices) bring(slice * STAGE_BYTES);
            copy_commit();
        }
        // Where the stages begin that are multiplied and brought next.
        u32 now = 0, next = (STAGES - 1) * STAGE_BYTES;
#pragma unroll 1
        for (u32 slice = 0; slice < n_slices; slice++) {
            copy_wait<STAGES - 2>();
            // Everybody's part of this slice is there, and nobody reads the one before any more.
            barrier();
            if (slice + STAGES - 1 < n_slices) bring(next);
            copy_commit();
            u32 stage = shared + now;
            multiply_lines<TILES>(stage, warp_m * TILES * 16, stage + M * LINE_BYTES, warp_n * 32, sums);
            now = now == (STAGES - 1) * STAGE_BYTES ? 0 : now + STAGE_BYTES;
            next = next == (STAGES - 1) * STAGE_BYTES ? 0 : next + STAGE_BYTES;
        }
        if (adds_resized()) find_places(shared_memory);
        finish(shared_memory, warp_m, warp_n, sums);
    }
};

#define PRODUCT(name, m, n, warps_m, warps_n, windowed)                      \
    KERNEL(name, GemmArgs, warps_m * warps_n * 32) {                         \
        SHARED(shared);                                                      \
        Product<m, n, warps_m, warps_n, windowed> product = {a};             \
        product.run(shared);                                                 \
    }

PRODUCT(gemm_m128n128, 128, 128, 2, 4, false)
PRODUCT(gemm_m128n64, 128, 64, 2, 2, false)
PRODUCT(gemm_m64n32, 64, 32, 4, 1, false)
PRODUCT(conv_m128n128, 128, 128, 2, 4, true)
PRODUCT(conv_m128n64, 128, 64, 2, 2, true)
PRODUCT(conv_m64n32, 64, 32, 4, 1, true)
