// What the kernels need of the device and not of C++: types, tensor-core instructions, asynchronous copies.
//
// NVRTC has no headers by itself, so there are none here: instructions are written as PTX. Compiled for the
// host (LIPSYNC_HOST), the same names come from the emulator.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32;

// Eight fp16 numbers: what a thread reads or writes at once.
struct alignas(16) Eight {
    u32 pairs[4];
};

#ifdef LIPSYNC_HOST
#include "host.h"
#else

#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define KERNEL(name, Args, n_threads) \
    extern "C" __global__ void __launch_bounds__(n_threads) name(const Args a)
// With so few registers that so many blocks fit onto a multiprocessor.
#define KERNEL_OF_MANY(name, Args, n_threads, n_blocks) \
    extern "C" __global__ void __launch_bounds__(n_threads, n_blocks) name(const Args a)
#define SHARED(name) extern __shared__ __align__(16) u8 name[]

DEVICE u32 thread_index() { return threadIdx.x; }
DEVICE u32 block_index() { return blockIdx.x; }
DEVICE u32 block_size() { return blockDim.x; }
DEVICE void barrier() { __syncthreads(); }
DEVICE void warp_barrier() { __syncwarp(); }

// The address of shared memory as instructions take it.
DEVICE u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// Starts copying the first `n_bytes` of 16 bytes to shared memory; the rest becomes zero.
DEVICE void copy_async(u32 to, const void* from, u32 n_bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(from), "r"(n_bytes) : "memory");
}

// The same of all 16, which costs less.
DEVICE void copy_async_whole(u32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(from) : "memory");
}

// Ends a group of copies.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `N` of this thread's groups are under way.
template <int N>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

// Four 8x8 matrices of fp16: lane l names row l % 8 of matrix l / 8, and gets of every matrix the numbers
// 2 (l % 4) and 2 (l % 4) + 1 of row l / 4.
DEVICE void load_matrices(u32 (&matrices)[4], u32 row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(row) : "memory");
}

// Adds the product of a 16x16 matrix and a 16x8 matrix (by columns) to a 16x8 matrix.
DEVICE void multiply_add(f32 (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same, added to `start`, which stays as it is.
DEVICE void multiply_add_to(f32 (&sum)[4], const f32 (&start)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(start[0]), "f"(start[1]), "f"(start[2]),
          "f"(start[3]));
}

DEVICE f32 to_float(u16 half) {
    f32 x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
}

// To the nearest fp16 number; x must lie in their range.
DEVICE u16 round_to_half(f32 x) {
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}

// Two numbers to the nearest fp16 numbers, the first one below; infinite where there is none so large.
DEVICE u32 round_to_halves(f32 low, f32 high) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// The same, but zero for what is negative.
DEVICE u32 round_to_positive_halves(f32 low, f32 high) {
    u32 pair;
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// The smaller ones of two fp16 numbers each.
DEVICE u32 least_of_halves(u32 pair, u32 most) {
    u32 limited;
    asm("min.f16x2 %0, %1, %2;" : "=r"(limited) : "r"(pair), "r"(most));
    return limited;
}

// Two fp16 numbers, limited to others; what is no number becomes the lower limit.
DEVICE u32 limit_halves(u32 pair, u32 least, u32 most) {
    u32 limited;
    asm("{ .reg .b32 raised; max.f16x2 raised, %1, %2; min.f16x2 %0, raised, %3; }"
        : "=r"(limited) : "r"(pair), "r"(least), "r"(most));
    return limited;
}

// Two floats, read where this stands.
DEVICE void load_two(const f32* from, f32& first, f32& second) {
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(first), "=f"(second) : "l"(from));
}

// Writes eight fp16 numbers at once: where the compiler sees four words, it may write them one by one.
DEVICE void store_eight(u16* to, const Eight& eight) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
        :: "l"(to), "r"(eight.pairs[0]), "r"(eight.pairs[1]), "r"(eight.pairs[2]), "r"(eight.pairs[3]));
}

// The same number, which nothing that is computed from it precedes.
DEVICE u32 not_before(u32 x) {
    asm volatile("" : "+r"(x));
    return x;
}

DEVICE f32 multiply_and_add(f32 x, f32 y, f32 z) { return __fmaf_rn(x, y, z); }
DEVICE f32 larger(f32 x, f32 y) { return fmaxf(x, y); }
DEVICE f32 smaller(f32 x, f32 y) { return fminf(x, y); }
DEVICE f32 exponential(f32 x) { return expf(x); }

// 1 / (1 + e^-x), to some units in the last place: for what becomes a byte.
DEVICE f32 sigmoid(f32 x) {
    f32 power, y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.4426950408889634f));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.0f + power));
    return y;
}

#endif

// To the nearest fp16 number, the largest where there is none so large.
DEVICE u16 to_half(f32 x) {
    return round_to_half(smaller(larger(x, -65504.0f), 65504.0f));
}

// The same of two. With `relu`, negative numbers become zero: a limit costs less than it does among floats.
DEVICE u32 to_halves(f32 low, f32 high, bool relu) {
    return limit_halves(round_to_halves(low, high), relu ? 0 : 0xfbfffbff, 0x7bff7bff);
}

DEVICE void unpack(const Eight& eight, f32 (&values)[8]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        values[2 * i] = to_float((u16)(eight.pairs[i] & 0xffff));
        values[2 * i + 1] = to_float((u16)(eight.pairs[i] >> 16));
    }
}

DEVICE Eight pack(const f32 (&values)[8], bool relu) {
    Eight eight;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        eight.pairs[i] = to_halves(values[2 * i], values[2 * i + 1], relu);
    }
    return eight;
}

DEVICE Eight load_eight(const u16* from) { return *(const Eight*)from; }

// Four floats: what a thread reads of them at once.
struct alignas(16) Four {
    f32 values[4];
};

DEVICE void load_floats(const f32* from, f32 (&values)[8]) {
    Four low = *(const Four*)from, high = *(const Four*)(from + 4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        values[i] = low.values[i];
        values[4 + i] = high.values[i];
    }
}

// What the sums of a product begin with: eight floats in pairs, each pair for two pixels. It is read once for each: where
// it is copied instead, an instruction is issued for every number.
DEVICE void load_starts(const f32* from, f32 (&starts)[4][4]) {
#pragma unroll
    for (int i = 0; i < 8; i++) load_two(from + i / 2 * 2, starts[i / 2][i % 2 * 2], starts[i / 2][i % 2 * 2 + 1]);
}

// The first `n` of eight numbers, none below `least`; all at once where they are eight.
DEVICE void store_limited(u16* to, const f32 (&values)[8], u32 n, u32 least) {
    Eight eight;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        eight.pairs[i] = limit_halves(round_to_halves(values[2 * i], values[2 * i + 1]), least, 0x7bff7bff);
    }
    if (n >= 8) {
        store_eight(to, eight);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if ((u32)i < n) to[i] = (u16)(eight.pairs[i / 2] >> i % 2 * 16);
    }
}

// The same, or zero where they are negative and `relu` says so.
DEVICE void store(u16* to, const f32 (&values)[8], u32 n, bool relu) {
    store_limited(to, values, n, relu ? 0 : 0xfbfffbff);
}

// The number of this thread among all of the launch.
DEVICE u32 global_index() { return block_index() * block_size() + thread_index(); }

// The positions that position `i` of `n_out` lies between, of `n_in`, and how far, corners on corners.
struct alignas(16) Between {
    u32 first, second;
    f32 fraction;
};

DEVICE Between between(u32 i, u32 n_in, u32 n_out) {
    u32 last_in = n_in - 1, last_out = n_out > 1 ? n_out - 1 : 1;
    Between place;
    place.first = i * last_in / last_out;
    place.second = place.first < last_in ? place.first + 1 : last_in;
    place.fraction = (f32)(i * last_in % last_out) / (f32)last_out;
    return place;
}

// The same places in elements, where neighbours are `stride` apart.
DEVICE Between scaled(Between place, u32 stride) {
    place.first *= stride;
    place.second *= stride;
    return place;
}

// Eight channels of one column of a map, between two of its rows.
DEVICE void blend_rows(const u16* column, const Between& y, f32 (&values)[8]) {
    f32 below[8];
    unpack(load_eight(column + y.first), values);
    unpack(load_eight(column + y.second), below);
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] = multiply_and_add(below[i] - values[i], y.fraction, values[i]);
}

// The same between two columns.
DEVICE void blend_columns(const f32 (&left)[8], const f32 (&right)[8], f32 fraction, f32 (&values)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] = multiply_and_add(right[i] - left[i], fraction, left[i]);
}

// Eight channels of a map at a place between its pixels, in elements: first between rows, then between
// columns.
DEVICE void blend(const u16* map, const Between& y, const Between& x, f32 (&values)[8]) {
    f32 left[8], right[8];
    blend_rows(map + x.first, y, left);
    blend_rows(map + x.second, y, right);
    blend_columns(left, right, x.fraction, values);
}
