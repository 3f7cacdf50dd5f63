// Runs the engine's CUDA kernels on the host and compares them with what their scalar twins gave.
//
//     emulate CASES
//
// A file of cases (`write_kernel_cases`) is a sequence of blocks, each a 64-bit length and so many bytes: the
// kernel's name; blocks, threads, bytes of shared memory as 32-bit numbers; the arguments; the number of
// pieces of memory, and for each its address, what it holds, the bytes before and the bytes after.
//
// Memory lies at the addresses that the arguments name, with nothing mapped behind its end. The threads of
// a block are fibers; every case runs with the fibers in three orders and with asynchronous copies that land
// at once and as late as they may, so that a missing barrier or wait shows as a wrong number.

#include "kernels.cu"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

namespace emulator {

constexpr size_t PAGE = 4096, STACK_BYTES = 64 * 1024;

struct Kernel {
    size_t args_bytes;
    unsigned n_threads;
    Body body;
};

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

Entry::Entry(const char* name, size_t args_bytes, unsigned n_threads, Body body) {
    kernels()[name] = {args_bytes, n_threads, body};
}

struct Copy {
    u32 to;
    const void* from;
    u32 n_bytes;
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    std::vector<std::vector<Copy>> groups;
    bool is_done;
    u64 n_block_waits, n_warp_waits;
};

struct Warp {
    void* lanes[32];
    u32 n_arrived;
    u64 n_done;
};

std::string current_case;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<u8> shared;
ucontext_t scheduler;
u32 current, current_block, n_threads, n_arrived;
u64 n_barriers_done, n_conflicts, n_matrix_loads;
bool copies_are_late, progressed;
Body body;
const void* arguments;

[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "%s: block %u, thread %u: %s\n", current_case.c_str(), current_block, current, what);
    exit(1);
}

u8* shared_memory() { return shared.data(); }
u32 thread() { return current; }
u32 block() { return current_block; }
u32 threads_of_block() { return n_threads; }

u8* checked(u32 address, u32 n_bytes) {
    if (address % 16 || address + n_bytes > shared.size()) fail("shared memory is missed");
    return shared.data() + address;
}

void yield() { swapcontext(&fibers[current].context, &scheduler); }

void wait_for_block() {
    u64 mine = fibers[current].n_block_waits++;
    progressed = true;
    if (++n_arrived == n_threads) {
        n_arrived = 0;
        n_barriers_done++;
    }
    while (n_barriers_done <= mine) yield();
    progressed = true;
}

void with_warp(void* mine, void (*work)(void* (&lanes)[32])) {
    Warp& warp = warps[current / 32];
    u64 number = fibers[current].n_warp_waits++;
    warp.lanes[current % 32] = mine;
    progressed = true;
    if (++warp.n_arrived == 32) {
        work(warp.lanes);
        warp.n_arrived = 0;
        warp.n_done++;
    }
    while (warp.n_done <= number) yield();
    progressed = true;
}

void apply(const Copy& copy) {
    u8* to = checked(copy.to, 16);
    memset(to, 0, 16);
    memcpy(to, copy.from, copy.n_bytes);
}

void start_copy(u32 to, const void* from, u32 n_bytes) {
    if (reinterpret_cast<u64>(from) % 16 || n_bytes > 16) fail("a copy is not aligned");
    Copy copy = {to, from, n_bytes};
    checked(to, 16);
    if (copies_are_late) fibers[current].groups.back().push_back(copy);
    else apply(copy);
}

void end_copies() { fibers[current].groups.emplace_back(); }

void wait_for_copies(u32 n_left) {
    auto& groups = fibers[current].groups;
    // The last one is not committed yet.
    while (groups.size() > n_left + 1) {
        for (const Copy& copy : groups.front()) apply(copy);
        groups.erase(groups.begin());
    }
}

void count_conflicts(const u32 (&rows)[32]) {
    n_matrix_loads++;
    for (int phase = 0; phase < 4; phase++) {
        u32 banks = 0;
        for (int row = 0; row < 8; row++) banks |= 1u << rows[phase * 8 + row] / 16 % 8;
        n_conflicts += banks != 0xff;
    }
}

void fiber_main() {
    body(arguments);
    fibers[current].is_done = true;
    progressed = true;
    while (true) yield();
}

void run_block(std::mt19937& random, int order_kind) {
    std::vector<u32> order(n_threads);
    for (u32 i = 0; i < n_threads; i++) order[i] = order_kind == 1 ? n_threads - 1 - i : i;
    warps.assign((n_threads + 31) / 32, {});
    n_arrived = 0;
    n_barriers_done = 0;
    std::fill(shared.begin(), shared.end(), 0xff);
    for (u32 i = 0; i < n_threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.groups.assign(1, {});
        fiber.is_done = false;
        fiber.n_block_waits = fiber.n_warp_waits = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack = {fiber.stack.get(), 0, STACK_BYTES};
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
    }
    bool all_done = false;
    while (!all_done) {
        if (order_kind == 2) std::shuffle(order.begin(), order.end(), random);
        all_done = true;
        progressed = false;
        for (u32 i : order) {
            if (fibers[i].is_done) continue;
            current = i;
            swapcontext(&scheduler, &fibers[i].context);
            all_done = all_done && fibers[i].is_done;
        }
        if (!all_done && !progressed) fail("threads wait for others that never come");
    }
}

}  // namespace emulator

using namespace emulator;

struct Piece {
    u64 address;
    u8 content;
    std::vector<u8> before, after;
};

struct Reader {
    std::ifstream file;
    bool at_end() { return file.peek() == EOF; }
    std::vector<u8> block() {
        u64 length = 0;
        file.read(reinterpret_cast<char*>(&length), 8);
        std::vector<u8> bytes(length);
        file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(length));
        if (!file) {
            fprintf(stderr, "the file of cases is cut off\n");
            exit(2);
        }
        return bytes;
    }
    u64 number() {
        u64 value = 0;
        std::vector<u8> bytes = block();
        memcpy(&value, bytes.data(), 8);
        return value;
    }
};

static f32 half_at(const u8* bytes) {
    u16 half;
    memcpy(&half, bytes, 2);
    return to_float(half);
}

// Compares a piece with what the twin left there; the largest difference of fp16 numbers.
static f32 compare(const Piece& piece) {
    const u8* found = reinterpret_cast<const u8*>(piece.address);
    f32 largest = 0;
    for (size_t i = 0; i < piece.after.size(); i++) {
        bool is_near;
        if (piece.content == 0) {
            if (i % 2) continue;
            f32 a = half_at(found + i), e = half_at(&piece.after[i]);
            largest = std::max(largest, std::fabs(a - e));
            is_near = std::fabs(a - e) <= 2e-3f * (1 + std::fabs(e));
        } else {
            is_near = std::abs(found[i] - piece.after[i]) <= (piece.content == 1 ? 1 : 0);
        }
        if (!is_near) {
            fprintf(stderr, "%s: byte %zu of a piece of %zu is %u (as fp16 %g), expected %u (%g)\n",
                    current_case.c_str(), i, piece.after.size(), found[i], half_at(found + i / 2 * 2),
                    piece.after[i], half_at(&piece.after[i / 2 * 2]));
            exit(1);
        }
    }
    return largest;
}

static void on_fault(int, siginfo_t* info, void*) {
    fprintf(stderr, "%s: block %u, thread %u: nothing is mapped at %p\n", current_case.c_str(),
            current_block, current, info->si_addr);
    _exit(1);
}

// The pages that a piece lies in, filled with a pattern around it.
static void map_piece(const Piece& piece) {
    u64 start = piece.address / PAGE * PAGE;
    size_t length = (piece.address + piece.before.size() + PAGE - 1) / PAGE * PAGE - start;
    void* mapped = mmap(reinterpret_cast<void*>(start), length, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mapped != reinterpret_cast<void*>(start)) fail("the address is taken");
    memset(mapped, 0xff, length);
}

static void unmap_piece(const Piece& piece) {
    u64 start = piece.address / PAGE * PAGE;
    munmap(reinterpret_cast<void*>(start), piece.address + piece.before.size() - start);
}

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: emulate CASES\n");
        return 2;
    }
    stack_t handler_stack = {malloc(64 * 1024), 0, 64 * 1024};
    sigaltstack(&handler_stack, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);

    Reader reader{std::ifstream(argv[1], std::ios::binary)};
    std::mt19937 random(1);
    std::map<std::string, std::pair<u32, f32>> results;
    while (!reader.at_end()) {
        std::vector<u8> name_bytes = reader.block(), sizes = reader.block(), args = reader.block();
        std::string name(name_bytes.begin(), name_bytes.end());
        u32 launch[3];
        memcpy(launch, sizes.data(), sizeof launch);
        std::vector<Piece> pieces(reader.number());
        for (Piece& piece : pieces) {
            piece.address = reader.number();
            piece.content = reader.block()[0];
            piece.before = reader.block();
            piece.after = reader.block();
        }
        current_case = name + " case " + std::to_string(results[name].first);
        auto found = kernels().find(name);
        if (found == kernels().end()) fail("there is no such kernel");
        const Kernel& kernel = found->second;
        if (kernel.args_bytes != args.size()) fail("the arguments have another size");
        if (kernel.n_threads != launch[1]) fail("the kernel is for another number of threads");
        // Aligned as a kernel's parameters are.
        std::vector<u64> aligned(args.size() / 8);
        memcpy(aligned.data(), args.data(), args.size());
        body = kernel.body;
        arguments = aligned.data();
        n_threads = launch[1];
        shared.assign(launch[2], 0);
        if (fibers.size() < n_threads) fibers = std::vector<Fiber>(n_threads);
        for (const Piece& piece : pieces) map_piece(piece);
        for (int mode = 0; mode < 6; mode++) {
            copies_are_late = mode % 2;
            for (const Piece& piece : pieces) {
                memcpy(reinterpret_cast<void*>(piece.address), piece.before.data(), piece.before.size());
            }
            for (current_block = 0; current_block < launch[0]; current_block++) {
                run_block(random, mode / 2);
            }
            for (const Piece& piece : pieces) {
                results[name].second = std::max(results[name].second, compare(piece));
            }
        }
        for (const Piece& piece : pieces) unmap_piece(piece);
        results[name].first++;
    }
    for (const auto& [name, result] : results) {
        printf("%-14s %4u cases, largest difference %.1e\n", name.c_str(), result.first, result.second);
    }
    printf("%llu matrix loads, %llu with bank conflicts\n", n_matrix_loads, n_conflicts);
    return 0;
}
