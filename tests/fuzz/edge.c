/*
 * edge.c - memory that ends where an unreadable page begins, so that reading
 * one byte too far is a crash, and the end of a failed run.
 */
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS */

#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

void fuzz_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

char *fuzz_edge(fuzz_place place, size_t len)
{
    static char *starts[FUZZ_PLACES];

    if (!starts[place]) {
        size_t behind = (size_t)sysconf(_SC_PAGESIZE);
        char *map =
            mmap(NULL, FUZZ_ROOM + behind, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(map != MAP_FAILED && mprotect(map + FUZZ_ROOM, behind, PROT_NONE) == 0);
        starts[place] = map;
    }
    MUST(len <= FUZZ_ROOM);
    return starts[place] + FUZZ_ROOM - len;
}

const char *fuzz_input(const uint8_t *data, size_t size)
{
    char *at;

    if (size > FUZZ_ROOM)
        return NULL;
    at = fuzz_edge(FUZZ_PAGE, size);
    if (size)
        memcpy(at, data, size);
    return at;
}

size_t fuzz_choice(const char *data, size_t len, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3u;
    return (size_t)((hash ^ hash >> 32) % n);
}
