/*
 * err.c - errors. Everything here runs only after something went wrong, so it
 * may walk the page again to find a line number: the reading itself keeps none.
 */
#include "sgc_int.h"

const char *sgc_status_text(sgc_status status)
{
    static const char *const texts[] = {
#define STATUS_TEXT(name, text) [SGC_##name] = (text),
        SGC_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    };
    return (size_t)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

void sgc__escape(char *out, size_t size, sgc_str text)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool plain = c >= 0x20 && c < 0x7f && c != '\\';
        if (used + (plain ? 1 : 4) >= size)
            break;
        if (plain) {
            out[used++] = (char)c;
        } else {
            out[used++] = '\\';
            out[used++] = 'x';
            out[used++] = hex[c >> 4];
            out[used++] = hex[c & 15];
        }
    }
    if (size)
        out[used] = '\0';
}

static sgc_status fail(sgc_error *err, sgc_status code, const char *reason)
{
    if (err) {
        memset(err, 0, sizeof *err);
        err->code = code;
        err->reason = reason;
    }
    return code;
}

sgc_status sgc__fail(sgc_error *err, sgc_status code)
{
    return fail(err, code, sgc_status_text(code));
}

sgc_status sgc__fail_memory(sgc_error *err)
{
    return sgc__fail(err, SGC_NOMEM);
}

sgc_status sgc__fail_argument(sgc_error *err, const char *reason, sgc_str excerpt)
{
    fail(err, SGC_ARGUMENT, reason);
    if (err)
        sgc__escape(err->excerpt, sizeof err->excerpt, excerpt);
    return SGC_ARGUMENT;
}

sgc_status sgc__fail_limit(sgc_error *err, const char *limit, uint64_t allowed)
{
    fail(err, SGC_LIMIT, "limit exceeded");
    if (err) {
        err->limit = limit;
        err->allowed = allowed;
    }
    return SGC_LIMIT;
}

/* Line, column and the rest of the line at `at`, which lies in the page or at its end. */
static void place(sgc_error *err, const char *data, size_t len, const char *at)
{
    const char *line = data, *newline;
    const char *end = data + len;

    err->line = 1;
    while (line < at && (newline = memchr(line, '\n', (size_t)(at - line)))) {
        err->line++;
        line = newline + 1;
    }
    err->column = (uint64_t)(at - line) + 1;

    newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    sgc__escape(err->excerpt, sizeof err->excerpt, (sgc_str){at, (size_t)((newline ? newline : end) - at)});
}

sgc_status sgc__fail_syntax(sgc_error *err, const char *reason, const char *data, size_t len, const char *at)
{
    fail(err, SGC_SYNTAX, reason);
    if (err)
        place(err, data, len, at);
    return SGC_SYNTAX;
}

sgc_status sgc__fail_limit_at(sgc_error *err, const char *limit, uint64_t allowed, const char *data,
                              size_t len, const char *at)
{
    sgc__fail_limit(err, limit, allowed);
    if (err)
        place(err, data, len, at);
    return SGC_LIMIT;
}
