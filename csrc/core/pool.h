/*
 * pool.h - buffers of bodies that are gone, for the next ones. Private to
 * csrc/core. Any thread.
 */
#ifndef SGC_POOL_H
#define SGC_POOL_H

#include "sgc_int.h"

/* What is kept at most, and the least that is worth keeping, in bytes. */
enum { SGC__POOL_BUFFERS = 256, SGC__POOL_BYTES = 16 << 20, SGC__POOL_LEAST = 4 << 10 };

/* Buffers are kept from the first opening to the last closing: one for each
 * scraper. */
void sgc__pool_open(void);
void sgc__pool_close(void);

/* As sgc__buf_reserve, for a buffer that holds nothing yet. */
sgc_status sgc__pool_reserve(sgc__buf *buf, size_t need);

/* Takes back the memory of a buffer, however it came by it; NULL: nothing. */
void sgc__pool_give(char *ptr, size_t room);

#endif
