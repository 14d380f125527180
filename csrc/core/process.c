/*
 * process.c - which process this is. A forked child has its parent's sockets, locks
 * and buffers, and must know that they are not its own. Its id alone does not tell:
 * in a PID namespace of its own it may be 1, as its parent is in another, and an
 * id comes again once the process is gone that had it.
 */
#define _POSIX_C_SOURCE 200809L

#include "sgc_scrape.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_uint forks; /* between this process and the first that asked */

static void on_fork(void)
{
    atomic_fetch_add(&forks, 1);
}

static void watch(void)
{
    pthread_atfork(NULL, NULL, on_fork);
}

uint64_t sgc_process(void)
{
    pthread_once(&once, watch);
    return (uint64_t)atomic_load(&forks) << 32 | (uint32_t)getpid();
}
