/*
 * sigpipe.c - SIGPIPE, kept from a thread for a while.
 */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1

#include "http.h"

#include <signal.h>

static bool is_pending(void)
{
    sigset_t set;

    return sigpending(&set) == 0 && sigismember(&set, SIGPIPE) == 1;
}

/* One that was pending before is somebody else's: then all stays as it is. */
void sgc__pipe_block(sgc__pipe_mask *mask)
{
    sigset_t set;

    mask->blocked = false;
    if (is_pending())
        return;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    mask->blocked = pthread_sigmask(SIG_BLOCK, &set, &mask->before) == 0;
}

void sgc__pipe_unblock(const sgc__pipe_mask *mask)
{
    sigset_t set;
    int number;

    if (!mask->blocked)
        return;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    if (is_pending())
        sigwait(&set, &number);
    pthread_sigmask(SIG_SETMASK, &mask->before, NULL);
}
