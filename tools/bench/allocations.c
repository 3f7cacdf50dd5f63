/* Counts a program's larger allocations, for benches/made_up_device.rs:
 *
 *     cc -shared -fPIC -O2 -o allocations.so allocations.c
 *     LD_PRELOAD=./allocations.so LIPSYNC_ALLOCATIONS=counts PROGRAM
 *
 * The file `counts` holds three 64-bit numbers while the program runs: allocations of 4 kB and more, those of 256 kB
 * and more, and the bytes of the former. A block that is moved to grow counts again. For glibc. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static unsigned long long none[3], *counts = none;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("LIPSYNC_ALLOCATIONS");
    int file = name ? open(name, O_RDWR | O_CREAT | O_TRUNC, 0644) : -1;
    if (file < 0 || ftruncate(file, 4096)) return;
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) counts = at;
    close(file);
}

static void count(size_t n_bytes) {
    if (n_bytes < 4096) return;
    __atomic_fetch_add(&counts[0], 1, __ATOMIC_RELAXED);
    if (n_bytes >= 256 << 10) __atomic_fetch_add(&counts[1], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counts[2], n_bytes, __ATOMIC_RELAXED);
}

void *malloc(size_t n_bytes) {
    count(n_bytes);
    return __libc_malloc(n_bytes);
}

void *calloc(size_t n, size_t n_bytes) {
    count(n * n_bytes);
    return __libc_calloc(n, n_bytes);
}

void *realloc(void *old, size_t n_bytes) {
    count(n_bytes);
    return __libc_realloc(old, n_bytes);
}

void *memalign(size_t alignment, size_t n_bytes) {
    count(n_bytes);
    return __libc_memalign(alignment, n_bytes);
}

void *aligned_alloc(size_t alignment, size_t n_bytes) {
    return memalign(alignment, n_bytes);
}

int posix_memalign(void **at, size_t alignment, size_t n_bytes) {
    *at = memalign(alignment, n_bytes);
    return *at ? 0 : ENOMEM;
}
