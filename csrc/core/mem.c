/*
 * mem.c - where the core's memory comes from: the allocator seam, the arena,
 * and the seeded hash. Nothing in the core calls malloc but this file.
 */
#define _DEFAULT_SOURCE 1 /* getentropy, clock_gettime */
#define _DARWIN_C_SOURCE 1

#include "sgc_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

static void *libc_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}

static void *libc_resize(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    return realloc(ptr, size);
}

static void libc_release(void *ctx, void *ptr)
{
    (void)ctx;
    free(ptr);
}

static const sgc_allocator libc_allocator = {libc_alloc, libc_resize, libc_release, NULL};
static sgc_allocator current = {libc_alloc, libc_resize, libc_release, NULL};

void sgc_allocator_set(const sgc_allocator *allocator)
{
    current = allocator ? *allocator : libc_allocator;
}

void *sgc__alloc(size_t count, size_t size)
{
    size_t bytes;
    void *ptr;

    if (!sgc__mul_size(count, size, &bytes))
        return NULL;
    ptr = current.alloc(current.ctx, bytes ? bytes : 1);
    if (ptr)
        memset(ptr, 0, bytes);
    return ptr;
}

void *sgc__resize(void *ptr, size_t count, size_t size)
{
    size_t bytes;

    if (!sgc__mul_size(count, size, &bytes))
        return NULL;
    if (!ptr)
        return current.alloc(current.ctx, bytes ? bytes : 1);
    return current.resize(current.ctx, ptr, bytes ? bytes : 1);
}

void sgc__release(void *ptr)
{
    if (ptr)
        current.release(current.ctx, ptr);
}

/* ----------------------------------------------------------------- arena */

enum { CHUNK_SIZE = 8192, ALIGNMENT = 16 };

struct sgc__chunk {
    sgc__chunk *next;
    size_t size;
    _Alignas(ALIGNMENT) char bytes[];
};

void sgc__arena_init(sgc__arena *arena)
{
    memset(arena, 0, sizeof *arena);
}

/* Starts a chunk with room for `need` bytes; each is half as large again as the
 * one before, so that their number stays small whatever the page. */
static bool arena_extend(sgc__arena *arena, size_t need)
{
    size_t size = arena->chunk ? sgc__grow(arena->chunk->size, need) : CHUNK_SIZE;
    sgc__chunk *chunk;

    if (size < need)
        size = need;
    if (size > SIZE_MAX - sizeof *chunk)
        return false;
    chunk = sgc__resize(NULL, 1, sizeof *chunk + size);
    if (!chunk)
        return false;
    chunk->next = arena->chunk;
    chunk->size = size;
    arena->chunk = chunk;
    arena->used = 0;
    arena->room = size;
    return true;
}

void *sgc__arena_alloc(sgc__arena *arena, size_t count, size_t size)
{
    size_t bytes;
    void *ptr;

    if (!sgc__mul_size(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT)
        return NULL;
    bytes = bytes ? (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : ALIGNMENT;
    if (bytes > arena->room - arena->used && !arena_extend(arena, bytes))
        return NULL;
    ptr = arena->chunk->bytes + arena->used;
    arena->used += bytes;
    return ptr;
}

sgc_str sgc__arena_copy(sgc__arena *arena, sgc_str text)
{
    char *copy;

    if (!text.len)
        return SGC__STR("");
    copy = text.len < SIZE_MAX ? sgc__arena_alloc(arena, text.len + 1, 1) : NULL;

    if (!copy)
        return (sgc_str){NULL, 0};
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return (sgc_str){copy, text.len};
}

static void chunks_free(sgc__chunk *chunk)
{
    while (chunk) {
        sgc__chunk *next = chunk->next;
        sgc__release(chunk);
        chunk = next;
    }
}

void sgc__arena_free(sgc__arena *arena)
{
    chunks_free(arena->chunk);
    sgc__arena_init(arena);
}

void sgc__arena_reset(sgc__arena *arena)
{
    if (!arena->chunk)
        return;
    chunks_free(arena->chunk->next);
    arena->chunk->next = NULL;
    arena->used = 0;
}

/* ------------------------------------------------------------------ hash */

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint64_t seed[2];

static void seed_init(void)
{
    struct timespec now;

    if (getentropy(seed, sizeof seed) == 0)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    seed[0] = (uint64_t)now.tv_nsec ^ (uint64_t)(uintptr_t)&seed;
    seed[1] = (uint64_t)now.tv_sec ^ (uint64_t)getpid();
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t high, low = sgc__mul_wide(a, b, &high);

    return low ^ high;
}

static uint64_t read_word(const unsigned char *ptr)
{
    uint64_t word;

    memcpy(&word, ptr, sizeof word);
    return word;
}

uint64_t sgc__hash(const void *data, size_t len)
{
    const unsigned char *ptr = data;
    uint64_t hash, low = 0, high = 0;

    pthread_once(&seed_once, seed_init);
    hash = seed[0] ^ len;
    for (; len > 16; ptr += 16, len -= 16)
        hash = mix(read_word(ptr) ^ seed[1], read_word(ptr + 8) ^ hash);
    if (len >= 8) {
        low = read_word(ptr);
        high = read_word(ptr + len - 8);
    } else if (len) {
        memcpy(&low, ptr, len);
    }
    hash = mix(low ^ seed[1], high ^ hash);
    return mix(hash ^ 0x9e3779b97f4a7c15u, seed[0] | 1);
}
