// What `device.cuh` needs, on the host: the threads of a block are fibers that meet at barriers.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>

#define DEVICE static inline
#define DEVICE_MEMBER inline
#define KERNEL(name, Args, n_threads)                                                     \
    static void name(const Args a);                                                      \
    static emulator::Entry entry_of_##name(#name, sizeof(Args), n_threads,               \
        [](const void* args) { name(*static_cast<const Args*>(args)); });                \
    static void name(const Args a)
#define KERNEL_OF_MANY(name, Args, n_threads, n_blocks) KERNEL(name, Args, n_threads)
#define SHARED(name) u8* name = emulator::shared_memory()

namespace emulator {

using Body = void (*)(const void* args);

// A kernel that can be started.
struct Entry {
    Entry(const char* name, size_t args_bytes, unsigned n_threads, Body body);
};

u8* shared_memory();
u32 thread();
u32 block();
u32 threads_of_block();
// Every thread of the block comes here before any goes on.
void wait_for_block();
// Every thread of the warp comes here; the last one works for all 32, whose arguments it is given.
void with_warp(void* mine, void (*work)(void* (&lanes)[32]));
void start_copy(u32 to, const void* from, u32 n_bytes);
void end_copies();
void wait_for_copies(u32 n_groups_left);
// Shared memory, after a check that it is there and aligned.
u8* checked(u32 address, u32 n_bytes);
void count_conflicts(const u32 (&rows)[32]);

}  // namespace emulator

DEVICE u32 thread_index() { return emulator::thread(); }
DEVICE u32 block_index() { return emulator::block(); }
DEVICE u32 block_size() { return emulator::threads_of_block(); }
DEVICE void barrier() { emulator::wait_for_block(); }

DEVICE u32 shared_address(const void* pointer) {
    return static_cast<u32>(static_cast<const u8*>(pointer) - emulator::shared_memory());
}

DEVICE void copy_async(u32 to, const void* from, u32 n_bytes) {
    emulator::start_copy(to, from, n_bytes);
}
DEVICE void copy_async_whole(u32 to, const void* from) { emulator::start_copy(to, from, 16); }
DEVICE void copy_commit() { emulator::end_copies(); }
template <int N>
DEVICE void copy_wait() { emulator::wait_for_copies(N); }

DEVICE f32 to_float(u16 half) {
    _Float16 x;
    memcpy(&x, &half, 2);
    return static_cast<f32>(x);
}

DEVICE u16 round_to_half(f32 x) {
    _Float16 rounded = static_cast<_Float16>(x);
    u16 half;
    memcpy(&half, &rounded, 2);
    return half;
}

DEVICE u32 round_to_halves(f32 low, f32 high) {
    return round_to_half(low) | static_cast<u32>(round_to_half(high)) << 16;
}

DEVICE u32 round_to_positive_halves(f32 low, f32 high) {
    return round_to_halves(low < 0 ? 0 : low, high < 0 ? 0 : high);
}

DEVICE u32 least_of_halves(u32 pair, u32 most) {
    auto least = [=](int shift) {
        auto half = [=](u32 two) { return to_float(static_cast<u16>(two >> shift)); };
        return static_cast<u32>(round_to_half(std::fmin(half(pair), half(most)))) << shift;
    };
    return least(0) | least(16);
}

DEVICE u32 limit_halves(u32 pair, u32 least, u32 most) {
    auto limit = [=](int shift) {
        auto half = [=](u32 two) { return to_float(static_cast<u16>(two >> shift)); };
        f32 limited = std::fmin(std::fmax(half(pair), half(least)), half(most));
        return static_cast<u32>(round_to_half(limited)) << shift;
    };
    return limit(0) | limit(16);
}

DEVICE void load_two(const f32* from, f32& first, f32& second) {
    first = from[0];
    second = from[1];
}
DEVICE u32 not_before(u32 x) { return x; }
DEVICE void store_eight(u16* to, const Eight& eight) { *(Eight*)to = eight; }
DEVICE f32 multiply_and_add(f32 x, f32 y, f32 z) { return std::fma(x, y, z); }
DEVICE f32 larger(f32 x, f32 y) { return std::fmax(x, y); }
DEVICE f32 smaller(f32 x, f32 y) { return std::fmin(x, y); }
DEVICE f32 exponential(f32 x) { return std::exp(x); }
DEVICE f32 sigmoid(f32 x) { return 1 / (1 + std::exp(-x)); }

DEVICE void warp_barrier() {
    emulator::with_warp(nullptr, [](void* (&)[32]) {});
}

struct MatrixLoad {
    u32* matrices;
    u32 row;
};

DEVICE void load_matrices(u32 (&matrices)[4], u32 row) {
    MatrixLoad mine = {matrices, row};
    emulator::with_warp(&mine, [](void* (&lanes)[32]) {
        u32 rows[32];
        for (int lane = 0; lane < 32; lane++) rows[lane] = static_cast<MatrixLoad*>(lanes[lane])->row;
        emulator::count_conflicts(rows);
        for (int lane = 0; lane < 32; lane++) {
            for (int matrix = 0; matrix < 4; matrix++) {
                const u8* line = emulator::checked(rows[matrix * 8 + lane / 4], 16);
                memcpy(&static_cast<MatrixLoad*>(lanes[lane])->matrices[matrix], line + lane % 4 * 4, 4);
            }
        }
    });
}

struct MultiplyAdd {
    f32* sum;
    const u32* a;
    u32 b[2];
};

DEVICE void multiply_add(f32 (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    MultiplyAdd mine = {sum, a, {b0, b1}};
    emulator::with_warp(&mine, [](void* (&lanes)[32]) {
        auto of = [&](int lane) { return static_cast<MultiplyAdd*>(lanes[lane]); };
        auto half = [](u32 pair, int odd) { return to_float(static_cast<u16>(odd ? pair >> 16 : pair)); };
        f32 a[16][16], b[16][8];
        for (int lane = 0; lane < 32; lane++) {
            int group = lane / 4, pair = lane % 4 * 2;
            for (int odd = 0; odd < 2; odd++) {
                for (int part = 0; part < 4; part++) {
                    a[group + part % 2 * 8][pair + odd + part / 2 * 8] = half(of(lane)->a[part], odd);
                }
                for (int part = 0; part < 2; part++) {
                    b[pair + odd + part * 8][group] = half(of(lane)->b[part], odd);
                }
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                for (int k = 0; k < 16; k++) of(lane)->sum[i] += a[row][k] * b[k][column];
            }
        }
    });
}

DEVICE void multiply_add_to(f32 (&sum)[4], const f32 (&start)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    memcpy(sum, start, sizeof sum);
    multiply_add(sum, a, b0, b1);
}
