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

// Adds the products of a slice: 16 TILES lines of A, from `first_a` on, with 32 lines of B.
template <int TILES>
DEVICE void multiply_lines(u32 of_a, u32 first_a, u32 of_b, u32 first_b, f32 (&sums)[TILES][4][4]) {
    u32 lane = thread_index() % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        // Of four neighbouring 8-column tiles, both halves of 16 products.
        u32 b[2][4];
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
            u32 at = first_b + pair * 16 + lane / 16 * 8 + lane % 8;
            load_matrices(b[pair], of_b + place_in_slice(at, half * 2 + lane / 8 % 2));
        }
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            u32 pixels[4];
            load_matrices(pixels, of_a + place_in_slice(first_a + tile * 16 + lane % 16, half * 2 + lane / 16));
#pragma unroll
            for (int column = 0; column < 4; column++) {
                multiply_add(sums[tile][column], pixels, b[column / 2][column % 2 * 2],
                             b[column / 2][column % 2 * 2 + 1]);
            }
        }
    }
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

    const GemmArgs& a;
    u32 shared;
    u32 first_m, first_n;
    // The chunk of a slice and the first line that this thread brings.
    u32 chunk, line;
    u32 lines_of_weights;
    u32 depth;
    // Of every line of A: the pixel, or where its window starts.
    u32 frame_row[LINES_A];
    int window_y[LINES_A], window_x[LINES_A];

    DEVICE_MEMBER void start(u32 shared_memory) {
        shared = shared_memory;
        u32 n_tiles_n = (a.n + N - 1) / N;
        first_m = block_index() / n_tiles_n * M;
        first_n = block_index() % n_tiles_n * N;
        chunk = thread_index() % 4;
        line = thread_index() / 4;
        lines_of_weights = (a.n + 31) / 32 * 32;
        depth = (a.channels + 7) / 8 * 8;
        if (WINDOWED) {
#pragma unroll
            for (int i = 0; i < LINES_A; i++) {
                u32 m = first_m + line + i * STEP;
                u32 plane = a.out_h * a.out_w;
                u32 place = m % plane;
                frame_row[i] = m / plane * a.in_h;
                window_y[i] = (int)(place / a.out_w * a.stride_h) - (int)a.pad_top;
                window_x[i] = (int)(place % a.out_w * a.stride_w) - (int)a.pad_left;
            }
        }
    }

    // Starts bringing slice `slice` to stage `stage`.
    DEVICE_MEMBER void bring(u32 slice, u32 stage) {
        u32 base = shared + stage * STAGE_BYTES;
        u32 k = slice * SLICE + chunk * 8;
        u32 tap = WINDOWED ? k / depth : 0;
        u32 channel = k - tap * depth;
        int tap_y = WINDOWED ? (int)(tap / a.kernel_w) : 0;
        int tap_x = WINDOWED ? (int)(tap % a.kernel_w) : 0;
        u32 n_left = k < a.k && channel < a.channels ? a.channels - channel : 0;
        u32 n_bytes = (n_left < 8 ? n_left : 8) * 2;
        const u16* input = (const u16*)a.a;
#pragma unroll
        for (int i = 0; i < LINES_A; i++) {
            u32 at = line + i * STEP;
            u32 m = first_m + at;
            bool is_inside = m < a.m && n_bytes > 0;
            u64 pixel = m;
            if (WINDOWED) {
                int y = window_y[i] + tap_y, x = window_x[i] + tap_x;
                is_inside = is_inside && y >= 0 && y < (int)a.in_h && x >= 0 && x < (int)a.in_w;
                pixel = (u64)(frame_row[i] + (u32)y) * a.in_w + (u32)x;
            }
            const u16* from = is_inside ? input + pixel * a.a_stride + channel : input;
            copy_async(base + place_in_slice(at, chunk), from, is_inside ? n_bytes : 0);
        }
        const u16* weights = (const u16*)a.weights;
#pragma unroll
        for (int i = 0; i < LINES_B; i++) {
            u32 at = line + i * STEP;
            bool is_inside = first_n + at < lines_of_weights;
            const u16* from = is_inside ? weights + (u64)(first_n + at) * a.weights_stride + k : weights;
            copy_async(base + M * LINE_BYTES + place_in_slice(at, chunk), from, is_inside ? 16 : 0);
        }
    }

    // What is added to eight channels of pixel `m`, from `n` on.
    DEVICE_MEMBER void add(u32 m, u32 n, f32 (&values)[8]) {
        const u16* added = (const u16*)a.added + n;
        f32 others[8];
        // Only products with single pixels are given something smaller.
        if (WINDOWED || a.low_h == 0) {
            unpack(load_eight(added + (u64)m * a.added_stride), others);
        } else {
            u32 plane = a.out_h * a.out_w;
            u32 frame = m / plane, place = m % plane;
            const u16* map = added + (u64)frame * a.low_h * a.low_w * a.added_stride;
            blend(map, scaled(between(place / a.out_w, a.low_h, a.out_h), a.low_w * a.added_stride),
                  scaled(between(place % a.out_w, a.low_w, a.out_w), a.added_stride), others);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] += others[i];
    }

    // Writes what a warp has. Packed weights are ordered so that a thread has eight channels in a row.
    DEVICE_MEMBER void finish(u32 warp_m, u32 warp_n, const f32 (&sums)[TILES][4][4]) {
        u32 lane = thread_index() % 32;
        u32 n = first_n + warp_n * 32 + lane % 4 * 8;
        if (n >= a.n) return;
        const f32* bias = (const f32*)a.bias + n;
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                u32 m = first_m + (warp_m * TILES + tile) * 16 + half * 8 + lane / 4;
                if (m >= a.m) continue;
                f32 values[8];
                load_floats(bias, values);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    values[i] = sums[tile][i / 2][half * 2 + i % 2] + values[i];
                }
                if (a.added) add(m, n, values);
                store((u16*)a.out + (u64)m * a.out_stride + n, values, a.n - n, a.relu);
            }
        }
    }

    DEVICE_MEMBER void run(u32 shared_memory) {
        start(shared_memory);
        u32 warp = thread_index() / 32;
        u32 warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
        f32 sums[TILES][4][4] = {};
        u32 n_slices = (a.k + SLICE - 1) / SLICE;
#pragma unroll
        for (u32 slice = 0; slice < STAGES - 1; slice++) {
            if (slice < n_slices) bring(slice, slice);
            copy_commit();
        }
        for (u32 slice = 0; slice < n_slices; slice++) {
            copy_wait<STAGES - 2>();
            // Everybody's part of this slice is there, and nobody reads the one before any more.
            barrier();
            u32 next = slice + STAGES - 1;
            if (next < n_slices) bring(next, next % STAGES);
            copy_commit();
            u32 stage = shared + slice % STAGES * STAGE_BYTES;
            multiply_lines<TILES>(stage, warp_m * TILES * 16, stage + M * LINE_BYTES, warp_n * 32, sums);
        }
        finish(warp_m, warp_n, sums);
    }
};

#define PRODUCT(name, m, n, warps_m, warps_n, windowed)                      \
    KERNEL(name, GemmArgs, warps_m * warps_n * 32) {                         \
        SHARED(shared);                                                      \
        Product<m, n, warps_m, warps_n, windowed> product = {a};             \
        product.run(shared_address(shared));                                 \
    }

PRODUCT(gemm_m128n128, 128, 128, 2, 4, false)
PRODUCT(gemm_m128n64, 128, 64, 2, 2, false)
PRODUCT(gemm_m64n32, 64, 32, 4, 1, false)
PRODUCT(conv_m128n128, 128, 128, 2, 4, true)
PRODUCT(conv_m128n64, 128, 64, 2, 2, true)
PRODUCT(conv_m64n32, 64, 32, 4, 1, true)
