/*
 * An HTTP answer: whatever comes is a whole page within the limit or a failure
 * in printable words, and the pieces that it comes in change nothing about it.
 *
 * The first two bytes choose the pieces and the limit; then come header lines, an
 * empty one, and the body.
 */
#include "answer.h"
#include "fuzz.h"

#include <zlib.h>

enum { LIMIT_STEP = 16, MOST = 256 * LIMIT_STEP };

typedef struct {
    sgc__answer answer;
    sgc_failure failure;
    const char *body; /* as it came */
    size_t len;
} exchange;

/* What stands behind the header lines. */
static bool headers_read(exchange *made, const char *data, size_t len)
{
    const char *end;

    made->body = data;
    made->len = len;
    while (!made->answer.headers_done && (end = memchr(made->body, '\n', made->len))) {
        size_t line = (size_t)(end - made->body) + 1;
        const char *start = made->body;
        made->body += line;
        made->len -= line;
        if (!sgc__answer_header(&made->answer, start, line))
            return false;
    }
    return made->answer.headers_done;
}

static void exchange_make(exchange *made, const char *data, size_t len, uint64_t limit, size_t step)
{
    bool going;

    memset(&made->failure, 0, sizeof made->failure);
    sgc__answer_init(&made->answer, &made->failure, limit, step);
    going = headers_read(made, data, len);
    for (size_t at = 0; going && at < made->len; at += step)
        going =
            sgc__answer_body(&made->answer, made->body + at, made->len - at < step ? made->len - at : step);
    if (going)
        sgc__answer_end(&made->answer);
    MUST(going || made->failure.reason != SGC_REASON_NONE || !made->answer.headers_done);
}

static bool is_good(const exchange *made)
{
    return made->answer.headers_done && made->failure.reason == SGC_REASON_NONE;
}

static void failure_check(const sgc_failure *failure)
{
    size_t len = strlen(failure->what);

    MUST(len < SGC_WHAT_SIZE && (failure->reason == SGC_REASON_NONE) == (len == 0));
    for (size_t i = 0; i < len; i++)
        MUST(failure->what[i] >= 0x20 && failure->what[i] < 0x7f);
}

/* gzip, read by zlib in one go. Returns the bytes it gives. */
static size_t inflated(const char *data, size_t len, char out[MOST])
{
    z_stream stream = {.next_in = (z_const Bytef *)data, .avail_in = (uInt)len};
    int code = Z_OK;

    stream.next_out = (Bytef *)out;
    stream.avail_out = MOST;
    MUST(inflateInit2(&stream, 15 + 16) == Z_OK);
    while (code == Z_OK) {
        code = inflate(&stream, Z_NO_FLUSH);
        if (code == Z_STREAM_END && stream.avail_in)
            code = inflateReset(&stream);
    }
    MUST(code == Z_STREAM_END);
    inflateEnd(&stream);
    return MOST - stream.avail_out;
}

static void page_check(const exchange *made)
{
    const sgc__answer *answer = &made->answer;
    char out[MOST];
    const char *want = answer->gzip ? out : made->body;
    size_t len = answer->gzip ? inflated(made->body, made->len, out) : made->len;

    MUST(answer->status == 200 && answer->body.len <= answer->limit);
    MUST(answer->wire_bytes == made->len);
    MUST(len == answer->body.len && (!len || memcmp(want, answer->body.ptr, len) == 0));
    MUST(!len || want[len - 1] == '\n' || answer->format == SGC_FORMAT_OPENMETRICS || want[0] == '\xff' ||
         want[0] == '\xfe');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = fuzz_input(data, size);
    exchange whole, pieces;

    if (!input || size < 2)
        return 0;
    exchange_make(&whole, input + 2, size - 2, (data[1] + 1u) * LIMIT_STEP, SIZE_MAX / 2);
    exchange_make(&pieces, input + 2, size - 2, (data[1] + 1u) * LIMIT_STEP, data[0] + 1u);
    failure_check(&whole.failure);
    failure_check(&pieces.failure);
    MUST(is_good(&whole) == is_good(&pieces));
    if (is_good(&whole)) {
        page_check(&whole);
        page_check(&pieces);
    }
    sgc__answer_free(&whole.answer);
    sgc__answer_free(&pieces.answer);
    return 0;
}
