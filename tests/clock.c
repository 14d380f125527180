/*
 * clock.c - clocks that a test can step, to be loaded before libc. A program
 * under it reads the machine's clocks plus what `shift_clock` was told.
 */
#define _GNU_SOURCE 1

#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

static _Atomic long real_shift, monotonic_shift; /* seconds */

void shift_clock(int monotonic, long seconds)
{
    atomic_fetch_add(monotonic ? &monotonic_shift : &real_shift, seconds);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static int (*real)(clockid_t, struct timespec *);
    int code;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    code = real(clock, at);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        at->tv_sec += atomic_load(&real_shift);
    else
        at->tv_sec += atomic_load(&monotonic_shift);
    return code;
}

time_t time(time_t *out)
{
    struct timespec at;

    clock_gettime(CLOCK_REALTIME, &at);
    if (out)
        *out = at.tv_sec;
    return at.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec at;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    out->tv_sec = at.tv_sec;
    out->tv_usec = at.tv_nsec / 1000;
    return 0;
}
