/*
 * answer.h - one HTTP answer as it comes in, without the network: header lines
 * and body bytes go in, a checked body or a failure comes out. Private to
 * csrc/core.
 */
#ifndef SGC_ANSWER_H
#define SGC_ANSWER_H

#include "sgc_int.h"
#include "sgc_scrape.h"

/* Writes a failure, unless there is one already: what was seen first, and is
 * nearest to the cause, stands. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void sgc__failure_set(sgc_failure *failure, sgc_reason reason, const char *format, ...);

/* The failure that a core function's status and error amount to. */
void sgc__failure_memory(sgc_failure *failure);
void sgc__failure_limit(sgc_failure *failure, const char *limit, uint64_t allowed);

/* ---------------------------------------------------------------- inflate */

/* Reads gzip, member after member. */
typedef struct sgc__inflater sgc__inflater;

sgc__inflater *sgc__inflater_new(void); /* NULL: no memory */
void sgc__inflater_free(sgc__inflater *inflater);

/* Appends what `data` inflates to. SYNTAX: it is no gzip, is damaged, or goes
 * on behind its end; LIMIT: `out` is full and there is more. */
sgc_status sgc__inflater_feed(sgc__inflater *inflater, const void *data, size_t len, sgc__buf *out);

/* Did the data end where a member does? */
bool sgc__inflater_done(const sgc__inflater *inflater);

/* ----------------------------------------------------------------- answer */

enum { SGC__HEADER_BYTES = 64 << 10, SGC__HEADER_LINES = 256, SGC__DRAIN_BYTES = 64 << 10 };

typedef enum {
    SGC__FIELD_OTHER,
    SGC__FIELD_LENGTH,
    SGC__FIELD_TRANSFER,
    SGC__FIELD_ENCODING,
    SGC__FIELD_TYPE,
    SGC__FIELD_RETRY_AFTER,
    SGC__FIELD_CONNECTION,
} sgc__field;

typedef struct sgc__answer {
    sgc_failure *failure; /* where to say what is wrong */
    uint64_t limit;       /* bytes of the inflated body */
    size_t hint;          /* bytes of it that are likely */
    bool json;            /* it is to be JSON, not a page */

    int status;        /* 0 before the status line */
    bool headers_done; /* of the final answer */
    bool closing;      /* the connection is of no use afterwards */
    bool chunked;
    bool sized; /* Content-Length was given: */
    uint64_t length;
    sgc_framing framing;
    sgc_format format;
    uint64_t wire_bytes; /* of the body */

    /* while reading */
    bool started; /* the status line of the answer at hand has come */
    bool gzip;
    bool draining;           /* the body is read only to keep the connection */
    bool encoded;            /* Content-Encoding named a coding already */
    sgc__field field;        /* of the last header line */
    const char *bad_framing; /* what is wrong with it; reported at the end of the headers */
    char type[64];           /* media type, escaped */
    char encoding[48];       /* that we cannot undo, escaped */
    char retry_after[48];    /* as sent, escaped */
    size_t header_bytes;
    size_t header_lines;
    sgc__inflater *inflater;
    sgc__buf body;
} sgc__answer;

void sgc__answer_init(sgc__answer *answer, sgc_failure *failure, uint64_t limit, size_t hint);
void sgc__answer_free(sgc__answer *answer);

/* One header line with its line end, and one piece of the body, chunks already
 * undone. False: stop reading, *failure says why. */
bool sgc__answer_header(sgc__answer *answer, const char *line, size_t len);
bool sgc__answer_body(sgc__answer *answer, const char *data, size_t len);

/* The body came to the end that its framing gives it: is it whole, and a page?
 * Leaves it in answer->body, never NULL, or sets *failure. */
void sgc__answer_end(sgc__answer *answer);

/* "40 of 1000 bytes", for a failure's text. */
enum { SGC__PROGRESS_SIZE = 64 };
void sgc__answer_progress(const sgc__answer *answer, char out[SGC__PROGRESS_SIZE]);

#endif
