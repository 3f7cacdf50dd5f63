// The depthwise convolution inside of a block: four warps, each four columns of ROWS results, of 32 channels.
//
// What is expanded is read where `block.cu` keeps it, line by line of 32 channels; weights are nine lines of floats, and the
// bias is a tenth. Results go where the projection takes them from. With RELU, nothing is below zero; otherwise not below
// `least`.

#define BLOCK_WARPS 4
// Columns of the result that a warp computes.
#define WARP_COLUMNS 4

// Two floats.
struct alignas(8) Two {
    f32 values[2];
};

// Four fp16 numbers.
struct alignas(8) Quad {
    u32 pairs[2];
};

// Two numbers between limits; with RELU, the lower one is zero.
template <bool RELU>
DEVICE u32 between_limits(f32 low, f32 high, u32 least, u32 most) {
    if (RELU) return least_of_halves(round_to_positive_halves(low, high), most);
    return limit_halves(round_to_halves(low, high), least, most);
}

// With a stride of one: a thread has two channels of all columns of its warp, of half the rows. So every number that it
// converts goes into up to nine results. Of every other four rows, lines of even and odd columns have changed places.
template <int ROWS, int SEEN_W, bool RELU>
DEVICE void convolve_halves(const u8* expanded, const u8* taps_at, u8* convolved, u32 least) {
    constexpr int H = ROWS / 2, W = WARP_COLUMNS, OWN = ROWS * W;
    static_assert(H == 4 && W == 4 && SEEN_W % 2 == 0, "what is told of lines and chunks below");
    // Anew each time: kept, what follows of it would need registers while tiles are multiplied.
    u32 thread = not_before(thread_index()), warp = thread / 32, pair = thread % 16, lower = thread / 16 % 2;
    const Two* taps = (const Two*)taps_at + pair;
    Two weights[9], bias = taps[9 * 16];
#pragma unroll
    for (int tap = 0; tap < 9; tap++) weights[tap] = taps[tap * 16];
    // Of the first four rows that the thread sees; of those behind, it is the other way round.
    const u8* seen = expanded + (lower * H * SEEN_W + warp * W) * LINE_BYTES + pair * 4;
    const u8* even = seen + lower * LINE_BYTES;
    const u8* odd = seen + (1 - lower) * LINE_BYTES;
    // By the order of a line's chunks, which rows and pairs of columns decide.
    u8* to[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[i] = convolved + (warp * OWN + lower * H * W) * LINE_BYTES + ((pair / 4 ^ i) * 16 + pair % 4 * 4);
    }
    f32 sums[H][W][2];
#pragma unroll
    for (int row = 0; row < H + 2; row++) {
#pragma unroll
        for (int column = 0; column < W + 2; column++) {
            const u8* line = (column % 2 ^ row / 4) ? odd : even;
            u32 two = *(const u32*)(line + (row * SEEN_W + column / 2 * 2) * LINE_BYTES);
            f32 values[2] = {to_float((u16)(two & 0xffff)), to_float((u16)(two >> 16))};
#pragma unroll
            for (int y = 0; y < H; y++) {
#pragma unroll
                for (int x = 0; x < W; x++) {
                    int ky = row - y, kx = column - x;
                    if (ky < 0 || ky > 2 || kx < 0 || kx > 2) continue;
                    const Two& weight = weights[ky * 3 + kx];
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        f32 sum = ky == 0 && kx == 0 ? bias.values[i] : sums[y][x][i];
                        sums[y][x][i] = multiply_and_add(values[i], weight.values[i], sum);
                    }
                }
            }
        }
        // A row of results is complete when the last that it sees has been added.
        if (row < 2) continue;
        int y = row - 2;
#pragma unroll
        for (int x = 0; x < W; x++) {
            u32 two = between_limits<RELU>(sums[y][x][0], sums[y][x][1], least, 0x7bff7bff);
            *(u32*)(to[y % 2 * 2 + x / 2] + (y * W + x) * LINE_BYTES) = two;
        }
    }
}

// With a stride of two: a thread has four channels of one column. Lines of even columns of a row come before those of odd
// ones.
template <int ROWS, int SEEN_W, bool RELU>
DEVICE void convolve_columns(const u8* expanded, const u8* taps_at, u8* convolved, u32 least) {
    constexpr int EVEN = (SEEN_W + 1) / 2;
    u32 warp = thread_index() / 32, lane = thread_index() % 32, quad = lane % 8;
    const Four* taps = (const Four*)taps_at + quad;
    const u8* seen = expanded + (warp * WARP_COLUMNS + lane / 8) * LINE_BYTES + quad * 8;
    Four weights[9], bias = taps[9 * 8];
#pragma unroll
    for (int tap = 0; tap < 9; tap++) weights[tap] = taps[tap * 8];
    // Of even and of odd rows: chunks of neighbouring rows are in another order.
    u32 own = warp * ROWS * WARP_COLUMNS + lane / 8;
    u8* to[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        to[i] = convolved + place_in_slice(own + i * WARP_COLUMNS, quad / 2) + quad % 2 * 8;
    }
    f32 sums[ROWS][4];
#pragma unroll
    for (int row = 0; row < 2 * ROWS + 1; row++) {
        if (row % 2 == 0 && row / 2 < ROWS) {
#pragma unroll
            for (int i = 0; i < 4; i++) sums[row / 2][i] = bias.values[i];
        }
#pragma unroll
        for (int kx = 0; kx < 3; kx++) {
            Quad quads = *(const Quad*)(seen + (row * SEEN_W + kx % 2 * EVEN + kx / 2) * LINE_BYTES);
            f32 values[4];
#pragma unroll
            for (int i = 0; i < 4; i++) values[i] = to_float((u16)(quads.pairs[i / 2] >> i % 2 * 16));
#pragma unroll
            for (int p = 0; p < ROWS; p++) {
                int ky = row - p * 2;
                if (ky < 0 || ky > 2) continue;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sums[p][i] = multiply_and_add(values[i], weights[ky * 3 + kx].values[i], sums[p][i]);
                }
            }
        }
        // A row of results is complete when the last that it sees has been added.
        if (row < 2 || row % 2 != 0) continue;
        int p = row / 2 - 1;
        Quad quads;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            quads.pairs[i] = between_limits<RELU>(sums[p][2 * i], sums[p][2 * i + 1], least, 0x7bff7bff);
        }
        *(Quad*)(to[p % 2] + p / 2 * 2 * WARP_COLUMNS * LINE_BYTES) = quads;
    }
}
