/*
 * alloc.h - an allocator that counts live blocks and can be told to fail. With
 * ALLOC_SWEEP an operation runs once for every allocation it makes, each time
 * with another one failing: once, and then from that one on.
 */
#ifndef ALLOC_H
#define ALLOC_H

#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "sgc.h"

static atomic_long alloc_live, alloc_made;
static long alloc_fail_at = -1; /* the allocation that fails, counted from 0 */
static bool alloc_fail_on;      /* and all behind it */

static bool alloc_fails(void)
{
    long n = atomic_fetch_add(&alloc_made, 1);

    return alloc_fail_at >= 0 && (n == alloc_fail_at || (alloc_fail_on && n > alloc_fail_at));
}

static void *alloc_alloc(void *ctx, size_t size)
{
    void *ptr = alloc_fails() ? NULL : malloc(size);

    (void)ctx;
    if (ptr)
        atomic_fetch_add(&alloc_live, 1);
    return ptr;
}

static void *alloc_resize(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    return alloc_fails() ? NULL : realloc(ptr, size);
}

static void alloc_release(void *ctx, void *ptr)
{
    (void)ctx;
    atomic_fetch_sub(&alloc_live, 1);
    free(ptr);
}

static inline void alloc_install(void)
{
    static const sgc_allocator allocator = {alloc_alloc, alloc_resize, alloc_release, NULL};

    sgc_allocator_set(&allocator);
}

/* Are so many blocks held? A thread that ends may let go of its own a moment later. */
static inline bool alloc_holds(long expected)
{
    const double patience = check_failed ? 0 : 10;

    for (time_t began = time(NULL); atomic_load(&alloc_live) != expected;)
        if (difftime(time(NULL), began) > patience)
            return false;
    return true;
}

/* `operation` returns true where it succeeded; it must fail or succeed, never
 * leak, and succeed again once memory is back. Returns the points tried. */
static inline long alloc_sweep(const char *name, bool (*operation)(void))
{
    long before = atomic_load(&alloc_live), points = 0;

    for (int persistent = 0; persistent < 2; persistent++) {
        bool done = false;
        for (long n = 0; !done; n++, points++) {
            atomic_store(&alloc_made, 0);
            alloc_fail_at = n;
            alloc_fail_on = persistent;
            bool ok = operation();
            done = atomic_load(&alloc_made) <= n;
            alloc_fail_at = -1;
            CHECK_MSG(!done || ok, "%s failed with all memory there", name);
            CHECK_MSG(alloc_holds(before), "%s leaks when allocation %ld fails", name, n);
        }
    }
    return points;
}

#endif
