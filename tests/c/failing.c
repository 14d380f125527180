/*
 * failing.c - built into the extension by tests/failing_core.py, and nowhere else:
 * an allocator for the core and for libcurl that Python can tell to fail. It counts
 * what is held.
 */
#include "sgc.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

static atomic_long held, made; /* bytes; allocations since failing_begin */
static atomic_long first, end; /* the allocations that fail: from one up to another */

/* What stands before every block: how long it is. */
typedef union head {
    size_t len;
    max_align_t aligned;
} head;

static void *failing_alloc(void *ctx, size_t len)
{
    long n = atomic_fetch_add(&made, 1);
    bool fails = n >= atomic_load(&first) && n < atomic_load(&end);
    head *block = fails ? NULL : malloc(sizeof *block + len);

    (void)ctx;
    if (!block)
        return NULL;
    block->len = len;
    atomic_fetch_add(&held, (long)len);
    return block + 1;
}

static void failing_release(void *ctx, void *ptr)
{
    (void)ctx;
    if (!ptr)
        return;
    head *block = (head *)ptr - 1;
    atomic_fetch_sub(&held, (long)block->len);
    free(block);
}

static void *failing_resize(void *ctx, void *ptr, size_t len)
{
    void *other = failing_alloc(ctx, len);

    if (other && ptr) {
        size_t before = ((head *)ptr - 1)->len;
        memcpy(other, ptr, before < len ? before : len);
        failing_release(ctx, ptr);
    }
    return other;
}

static void *curl_alloc(size_t len)
{
    return failing_alloc(NULL, len);
}

static void curl_release(void *ptr)
{
    failing_release(NULL, ptr);
}

static void *curl_resize(void *ptr, size_t len)
{
    return failing_resize(NULL, ptr, len);
}

static void *curl_zeroed(size_t count, size_t len)
{
    void *ptr = failing_alloc(NULL, count * len);

    return ptr ? memset(ptr, 0, count * len) : NULL;
}

static char *curl_copy(const char *text)
{
    size_t len = strlen(text) + 1;
    void *ptr = failing_alloc(NULL, len);

    return ptr ? memcpy(ptr, text, len) : NULL;
}

/* Before the core does: libcurl keeps the allocator that it was given first. */
__attribute__((constructor)) static void install(void)
{
    static const sgc_allocator allocator = {failing_alloc, failing_resize, failing_release, NULL};

    sgc_allocator_set(&allocator);
    curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_alloc, curl_release, curl_resize, curl_copy, curl_zeroed);
}

/* From now on so many allocations fail, from the n-th on, counted from 0. */
SHOWN void failing_begin(long n, long count);
SHOWN void failing_begin(long n, long count)
{
    atomic_store(&end, 0);
    atomic_store(&made, 0);
    atomic_store(&first, n);
    atomic_store(&end, n + count);
}

/* None fails any more; returns how many were asked for meanwhile. */
SHOWN long failing_end(void);
SHOWN long failing_end(void)
{
    atomic_store(&end, 0);
    return atomic_load(&made);
}

SHOWN long failing_held(void);
SHOWN long failing_held(void)
{
    return atomic_load(&held);
}
