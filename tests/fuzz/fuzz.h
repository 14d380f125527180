/*
 * fuzz.h - what the fuzz targets share: where an input lies, how a page becomes
 * bytes that can be compared, and what holds for every page.
 *
 * A target is tests/fuzz/fuzz_NAME.c with LLVMFuzzerTestOneInput; tools/fuzz.sh
 * finds it by its name. A property that does not hold ends the program, which
 * is how libFuzzer learns of it.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "sgc_int.h"

#define MUST(cond) ((cond) ? (void)0 : fuzz_failed(#cond, __FILE__, __LINE__))

_Noreturn void fuzz_failed(const char *what, const char *file, int line);

/* Longer inputs are not tried. */
enum { FUZZ_ROOM = 1 << 20 };

/* Places for bytes that end where an unreadable page begins. */
typedef enum { FUZZ_PAGE, FUZZ_PART, FUZZ_PLACES } fuzz_place;

/* `len` <= FUZZ_ROOM bytes, valid until the place is taken again. */
char *fuzz_edge(fuzz_place place, size_t len);

/* The input at the edge; NULL: too long. */
const char *fuzz_input(const uint8_t *data, size_t size);

/* A number below n >= 1 that the bytes decide, and nothing else. */
size_t fuzz_choice(const char *data, size_t len, size_t n);

/* ---------------------------------------------------------------- reading */

typedef enum { FUZZ_TEXT, FUZZ_OPENMETRICS, FUZZ_STRICT } fuzz_mode;

void fuzz_options(sgc_options *options, fuzz_mode mode);

/* A page, or why there is none, and it as bytes: its samples, and its families
 * with the samples' places in them. Equal bytes are equal to the last bit,
 * whatever buffer the text points into. */
typedef struct {
    sgc_status status;
    sgc_error err;
    sgc_page *page;
    sgc__buf samples;
    sgc__buf families;
} fuzz_reading;

void fuzz_read(fuzz_reading *r, const char *data, size_t len, const sgc_options *options);
void fuzz_reading_free(fuzz_reading *r);

/* Reads data[:len], which has a place of its own, and checks it. */
void fuzz_read_part(fuzz_reading *r, const char *data, size_t len, fuzz_mode mode);

/* Does the one hold the first samples of the other? */
bool fuzz_begins(const fuzz_reading *whole, const fuzz_reading *part);

/* The page under low limits: refused for one of them, or as it is without. */
void fuzz_limits_check(const fuzz_reading *whole, const char *data, size_t len, fuzz_mode mode);

/* Same page, or the same error in the same place. */
bool fuzz_same(const fuzz_reading *a, const fuzz_reading *b);
bool fuzz_same_samples(const fuzz_reading *a, const fuzz_reading *b);
bool fuzz_same_error(const sgc_error *a, const sgc_error *b);

/* What holds for every reading, whatever the bytes. */
void fuzz_check(const fuzz_reading *r, const char *data, size_t len, fuzz_mode mode);

#endif
