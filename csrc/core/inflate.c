/*
 * inflate.c - gzip over zlib. libcurl can do this too, but calls a stream that
 * was cut a success, knows no ceiling, and fails at a second member.
 */
#include "answer.h"

#include <limits.h>
#include <zlib.h>

enum { GZIP_WINDOW = 15 + 16, OUT_STEP = 16 << 10 };

struct sgc__inflater {
    z_stream stream;
    bool done; /* between members */
};

static voidpf zlib_alloc(voidpf ctx, uInt items, uInt size)
{
    (void)ctx;
    return sgc__resize(NULL, items, size);
}

static void zlib_free(voidpf ctx, voidpf ptr)
{
    (void)ctx;
    sgc__release(ptr);
}

sgc__inflater *sgc__inflater_new(void)
{
    sgc__inflater *inflater = sgc__alloc(1, sizeof *inflater);

    if (!inflater)
        return NULL;
    inflater->stream.zalloc = zlib_alloc;
    inflater->stream.zfree = zlib_free;
    if (inflateInit2(&inflater->stream, GZIP_WINDOW) != Z_OK) {
        sgc__release(inflater);
        return NULL;
    }
    return inflater;
}

void sgc__inflater_free(sgc__inflater *inflater)
{
    if (!inflater)
        return;
    inflateEnd(&inflater->stream);
    sgc__release(inflater);
}

bool sgc__inflater_done(const sgc__inflater *inflater)
{
    return inflater->done;
}

/* Inflates into the room behind out->len, or, where the ceiling is reached,
 * into one byte beside it: a page of just the limit must be told from a longer. */
static sgc_status inflate_step(z_stream *stream, sgc__buf *out, int *code)
{
    size_t left = out->ceiling - out->len;
    size_t room = 1;
    Bytef beyond;

    if (left && out->len == out->room) {
        sgc_status status = sgc__buf_reserve(out, left < OUT_STEP ? left : OUT_STEP);
        if (status != SGC_OK)
            return status;
    }
    if (left)
        room = out->room - out->len < left ? out->room - out->len : left;
    if (room > UINT_MAX)
        room = UINT_MAX;
    stream->next_out = left ? (Bytef *)out->ptr + out->len : &beyond;
    stream->avail_out = (uInt)room;
    *code = inflate(stream, Z_NO_FLUSH);
    if (left)
        out->len += room - stream->avail_out;
    return left || stream->avail_out ? SGC_OK : SGC_LIMIT;
}

sgc_status sgc__inflater_feed(sgc__inflater *inflater, const void *data, size_t len, sgc__buf *out)
{
    z_stream *stream = &inflater->stream;
    sgc_status status;
    int code = Z_OK;

    if (len > UINT_MAX)
        return SGC_LIMIT;
    stream->next_in = (z_const Bytef *)data;
    stream->avail_in = (uInt)len;
    do {
        if (inflater->done) {
            if (stream->avail_in == 0)
                break;
            inflateReset(stream);
            inflater->done = false;
        }
        status = inflate_step(stream, out, &code);
        if (status != SGC_OK)
            return status;
        inflater->done = code == Z_STREAM_END;
        /* Z_BUF_ERROR: nothing more without more input */
    } while (code == Z_STREAM_END || (code == Z_OK && (stream->avail_in || stream->avail_out == 0)));
    if (code == Z_MEM_ERROR)
        return SGC_NOMEM;
    return code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR ? SGC_OK : SGC_SYNTAX;
}
