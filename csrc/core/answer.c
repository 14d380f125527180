/*
 * answer.c - is this an HTTP answer that holds a metrics page, and all of it?
 *
 * libcurl takes an answer apart; this file does not believe it. It calls some
 * answers whole that are not (a cut gzip stream, two Content-Lengths, a body
 * that ends with the connection) and has no ceilings worth the name, so header
 * lines and body bytes are counted and judged here.
 */
#include "answer.h"

#include "pool.h"

#include <inttypes.h>
#include <stdio.h>

void sgc__answer_init(sgc__answer *answer, sgc_failure *failure, uint64_t limit, size_t hint)
{
    memset(answer, 0, sizeof *answer);
    answer->failure = failure;
    answer->limit = limit < SIZE_MAX ? limit : SIZE_MAX;
    answer->hint = hint;
    sgc__buf_init(&answer->body, (size_t)answer->limit);
}

void sgc__answer_free(sgc__answer *answer)
{
    sgc__inflater_free(answer->inflater);
    answer->inflater = NULL;
    sgc__buf_free(&answer->body);
}

void sgc__answer_progress(const sgc__answer *answer, char out[SGC__PROGRESS_SIZE])
{
    if (answer->framing == SGC_FRAMING_LENGTH)
        snprintf(out, SGC__PROGRESS_SIZE, "%" PRIu64 " of %" PRIu64 " bytes", answer->wire_bytes,
                 answer->length);
    else
        snprintf(out, SGC__PROGRESS_SIZE, "%" PRIu64 " bytes", answer->wire_bytes);
}

/* Sets a failure after which nothing more is read. */
#define STOP(answer, ...) (sgc__failure_set((answer)->failure, __VA_ARGS__), false)

/* ------------------------------------------------------------- text helpers */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static sgc_str trim(sgc_str text)
{
    while (text.len && is_blank(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len && is_blank(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

static sgc_str without_line_end(sgc_str line)
{
    if (line.len && line.ptr[line.len - 1] == '\n')
        line.len--;
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* Is `text` the word `word`, which is in lower case? */
static bool is_word(sgc_str text, const char *word)
{
    size_t i = 0;

    while (i < text.len && word[i] && lower(text.ptr[i]) == word[i])
        i++;
    return i == text.len && word[i] == '\0';
}

static bool begins_with(sgc_str text, const char *word)
{
    size_t len = strlen(word);

    return text.len >= len && is_word((sgc_str){text.ptr, len}, word);
}

/* Digits alone, up to `most`. */
static bool read_digits(sgc_str text, uint64_t most, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(text.ptr[i] - '0');
        if (!is_digit(text.ptr[i]) || *value > (most - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    return text.len > 0;
}

/* ------------------------------------------------------------- status line */

static bool read_status(sgc__answer *answer, sgc_str line)
{
    const char *digits = line.ptr + 9;
    bool ok = line.len >= 12 && memcmp(line.ptr, "HTTP/1.", 7) == 0 && is_digit(line.ptr[7]) &&
              line.ptr[8] == ' ' && is_digit(digits[0]) && is_digit(digits[1]) && is_digit(digits[2]) &&
              digits[0] != '0' && (line.len == 12 || digits[3] == ' ');

    if (!ok)
        return STOP(answer, SGC_REASON_FRAMING, "not an HTTP/1.x answer; expected a status line");
    answer->started = true;
    answer->status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
    if (answer->status != 101)
        return true;
    answer->failure->status = answer->status;
    return STOP(answer, SGC_REASON_HTTP_STATUS, "HTTP status 101 switches protocols; expected 200");
}

/* ------------------------------------------------------------ header fields */

static const struct {
    const char *name;
    sgc__field field;
} fields[] = {
    {"content-length", SGC__FIELD_LENGTH},     {"transfer-encoding", SGC__FIELD_TRANSFER},
    {"content-encoding", SGC__FIELD_ENCODING}, {"content-type", SGC__FIELD_TYPE},
    {"retry-after", SGC__FIELD_RETRY_AFTER},   {"connection", SGC__FIELD_CONNECTION},
};

static sgc__field field_of(sgc_str name)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (is_word(name, fields[i].name))
            return fields[i].field;
    return SGC__FIELD_OTHER;
}

static void read_length(sgc__answer *answer, sgc_str value)
{
    uint64_t length;

    if (!read_digits(value, INT64_MAX, &length))
        answer->bad_framing = "Content-Length is no number of bytes";
    else if (answer->sized && length != answer->length)
        answer->bad_framing = "two different Content-Lengths";
    answer->sized = true;
    answer->length = length;
}

static void read_transfer(sgc__answer *answer, sgc_str value)
{
    if (answer->chunked || !is_word(value, "chunked"))
        answer->bad_framing = "a Transfer-Encoding other than chunked";
    answer->chunked = true;
}

/* One layer of gzip can be undone. */
static void read_encoding(sgc__answer *answer, sgc_str value)
{
    if (value.len == 0 || is_word(value, "identity"))
        return;
    if (answer->encoded || (!is_word(value, "gzip") && !is_word(value, "x-gzip")))
        sgc__escape(answer->encoding, 41, answer->encoded ? SGC__STR("several codings") : value);
    answer->gzip = answer->encoded = true;
}

static void read_type(sgc__answer *answer, sgc_str value)
{
    const char *semicolon = value.len ? memchr(value.ptr, ';', value.len) : NULL;

    if (semicolon)
        value = trim((sgc_str){value.ptr, (size_t)(semicolon - value.ptr)});
    sgc__escape(answer->type, 61, value);
    answer->format =
        is_word(value, "application/openmetrics-text") ? SGC_FORMAT_OPENMETRICS : SGC_FORMAT_TEXT;
}

static bool read_field(sgc__answer *answer, sgc_str line)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    sgc_str name, value;

    if (!colon || colon == line.ptr || is_blank(colon[-1]) || memchr(line.ptr, 0, line.len) ||
        memchr(line.ptr, '\r', line.len))
        return STOP(answer, SGC_REASON_FRAMING, "not a header line; expected \"name: value\"");
    name = (sgc_str){line.ptr, (size_t)(colon - line.ptr)};
    value = trim((sgc_str){colon + 1, line.len - name.len - 1});
    answer->field = field_of(name);
    switch (answer->field) {
    case SGC__FIELD_LENGTH:
        read_length(answer, value);
        break;
    case SGC__FIELD_TRANSFER:
        read_transfer(answer, value);
        break;
    case SGC__FIELD_ENCODING:
        read_encoding(answer, value);
        break;
    case SGC__FIELD_TYPE:
        read_type(answer, value);
        break;
    case SGC__FIELD_RETRY_AFTER:
        sgc__escape(answer->retry_after, sizeof answer->retry_after, value);
        break;
    case SGC__FIELD_CONNECTION:
        answer->closing |= is_word(value, "close");
        break;
    case SGC__FIELD_OTHER:
        break;
    }
    return true;
}

/* A folded line goes on with the field before. libcurl would not read it so
 * where it matters to us, and two readings of one header are no reading. */
static void read_folded(sgc__answer *answer)
{
    if (answer->field != SGC__FIELD_OTHER && answer->field != SGC__FIELD_RETRY_AFTER)
        answer->bad_framing = "a folded framing header";
}

/* -------------------------------------------------------- end of the headers */

static bool is_redirect(int status)
{
    return status / 100 == 3 && status != 304;
}

/* More bytes on the wire than a page within the limit can need. gzip grows a
 * page by little, and by much only where it says nothing at length. */
static uint64_t wire_ceiling(const sgc__answer *answer)
{
    uint64_t slack = answer->gzip ? answer->limit / 8 + SGC__DRAIN_BYTES : 0;

    return answer->limit < UINT64_MAX - slack ? answer->limit + slack : UINT64_MAX;
}

/* Is the rest of an answer that is refused worth reading, to keep the connection? */
static bool is_drainable(const sgc__answer *answer)
{
    return !answer->bad_framing &&
           (answer->framing != SGC_FRAMING_LENGTH || answer->length <= SGC__DRAIN_BYTES);
}

/* Any status but 200. The body is never looked at. */
static bool refuse_status(sgc__answer *answer)
{
    if (is_redirect(answer->status))
        sgc__failure_set(answer->failure, SGC_REASON_REDIRECT,
                         "HTTP status %d points elsewhere; redirects are not followed", answer->status);
    else
        sgc__failure_set(answer->failure, SGC_REASON_HTTP_STATUS, "HTTP status %d; expected 200",
                         answer->status);
    answer->failure->status = answer->status;
    answer->draining = true;
    return is_drainable(answer);
}

static bool refuse_type(sgc__answer *answer)
{
    sgc__failure_set(answer->failure, SGC_REASON_NOT_EXPOSITION, "answer is %s; expected %s", answer->type,
                     answer->json ? "application/json" : "text/plain or application/openmetrics-text");
    answer->draining = true;
    return is_drainable(answer);
}

static bool is_wanted_type(const sgc__answer *answer)
{
    sgc_str type = {answer->type, strlen(answer->type)};

    if (answer->json)
        return type.len == 0 || is_word(type, "application/json");
    return type.len == 0 || is_word(type, "text/plain") || answer->format == SGC_FORMAT_OPENMETRICS;
}

static sgc_framing framing_of(const sgc__answer *answer)
{
    if (answer->status == 204 || answer->status == 304)
        return SGC_FRAMING_NONE;
    if (answer->chunked)
        return SGC_FRAMING_CHUNKED;
    return answer->sized ? SGC_FRAMING_LENGTH : SGC_FRAMING_CLOSE;
}

static bool end_headers(sgc__answer *answer)
{
    answer->headers_done = true;
    answer->framing = framing_of(answer);
    answer->closing |= answer->framing == SGC_FRAMING_CLOSE || (answer->chunked && answer->sized);
    if (answer->status != 200)
        return refuse_status(answer);
    if (answer->bad_framing)
        return STOP(answer, SGC_REASON_FRAMING, "%s; expected one way to tell the end of the body",
                    answer->bad_framing);
    if (!is_wanted_type(answer))
        return refuse_type(answer);
    if (answer->encoding[0])
        return STOP(answer, SGC_REASON_ENCODING, "Content-Encoding %s; expected gzip or none",
                    answer->encoding);
    if (answer->framing == SGC_FRAMING_LENGTH && answer->length > wire_ceiling(answer)) {
        sgc__failure_limit(answer->failure, "body_bytes", answer->limit);
        return false;
    }
    return true;
}

/* An interim answer (1xx) is followed by another. */
static bool end_block(sgc__answer *answer)
{
    if (answer->status / 100 != 1)
        return end_headers(answer);
    answer->started = false;
    answer->status = 0;
    answer->sized = answer->chunked = answer->gzip = answer->encoded = false;
    answer->bad_framing = NULL;
    answer->format = SGC_FORMAT_TEXT;
    answer->type[0] = answer->encoding[0] = answer->retry_after[0] = '\0';
    return true;
}

bool sgc__answer_header(sgc__answer *answer, const char *line, size_t len)
{
    sgc_str text = without_line_end((sgc_str){line, len});

    answer->header_bytes += len;
    answer->header_lines++;
    if (answer->header_bytes > SGC__HEADER_BYTES || answer->header_lines > SGC__HEADER_LINES)
        return STOP(answer, SGC_REASON_HEADERS_TOO_LARGE, "more headers than %d bytes or %d lines",
                    SGC__HEADER_BYTES, SGC__HEADER_LINES);
    if (answer->headers_done) /* trailers */
        return true;
    if (!answer->started)
        return read_status(answer, text);
    if (text.len == 0)
        return end_block(answer);
    if (is_blank(text.ptr[0])) {
        read_folded(answer);
        return true;
    }
    return read_field(answer, text);
}

/* ------------------------------------------------------------------- body */

/* Room for what will probably come, so that the buffer need not grow. A
 * declared length is believed only up to some size: it costs nothing to say. */
static sgc_status reserve_body(sgc__answer *answer)
{
    enum { BELIEVED = 256 << 10 };
    size_t want = answer->hint;

    if (answer->framing == SGC_FRAMING_LENGTH && !answer->gzip)
        want = answer->length < BELIEVED || answer->length < want * 2 ? (size_t)answer->length : BELIEVED;
    if (want > answer->limit)
        want = (size_t)answer->limit;
    return sgc__pool_reserve(&answer->body, want);
}

static sgc_status take(sgc__answer *answer, const char *data, size_t len)
{
    sgc_status status = SGC_OK;

    if (answer->wire_bytes == len)
        status = reserve_body(answer);
    if (status != SGC_OK || !answer->gzip)
        return status != SGC_OK ? status : sgc__buf_append(&answer->body, data, len);
    if (!answer->inflater)
        answer->inflater = sgc__inflater_new();
    return answer->inflater ? sgc__inflater_feed(answer->inflater, data, len, &answer->body) : SGC_NOMEM;
}

bool sgc__answer_body(sgc__answer *answer, const char *data, size_t len)
{
    answer->wire_bytes += len;
    if (answer->draining)
        return answer->wire_bytes <= SGC__DRAIN_BYTES;
    switch (answer->wire_bytes > wire_ceiling(answer) ? SGC_LIMIT : take(answer, data, len)) {
    case SGC_OK:
        return true;
    case SGC_NOMEM:
        sgc__failure_memory(answer->failure);
        return false;
    case SGC_LIMIT:
        sgc__failure_limit(answer->failure, "body_bytes", answer->limit);
        return false;
    default:
        return STOP(answer, SGC_REASON_ENCODING, "gzip data is damaged; expected whole gzip members");
    }
}

/* --------------------------------------------------------------- whole page */

static sgc_str skip_space(sgc_str text)
{
    while (text.len && strchr(" \t\r\n", text.ptr[0]) && text.ptr[0]) {
        text.ptr++;
        text.len--;
    }
    return text;
}

/* '{' begins JSON, and a sample with a quoted name: {"a.b", x="1"} 1 or {"a.b"} 1. */
static bool is_json(sgc_str text)
{
    size_t i = 1;

    if (text.len == 0 || text.ptr[0] != '{')
        return false;
    text = skip_space((sgc_str){text.ptr + 1, text.len - 1});
    if (text.len == 0 || text.ptr[0] != '"')
        return true;
    while (i < text.len && text.ptr[i] != '"')
        i += text.ptr[i] == '\\' ? 2 : 1;
    if (i >= text.len)
        return true;
    text = skip_space((sgc_str){text.ptr + i + 1, text.len - i - 1});
    return text.len == 0 || (text.ptr[0] != ',' && text.ptr[0] != '}');
}

static uint64_t count_lines(const sgc__buf *body)
{
    const char *at = body->ptr, *end = body->ptr + body->len;
    uint64_t lines = 0;

    while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
        lines++;
        at++;
    }
    return lines;
}

/* Its line feeds are two bytes; the reader names the mark. */
static bool is_utf16(sgc_str text)
{
    return text.len >= 2 && (memcmp(text.ptr, "\xff\xfe", 2) == 0 || memcmp(text.ptr, "\xfe\xff", 2) == 0);
}

/* A number cut in the middle is another number: the last line must have an end. */
static void check_last_line(sgc__answer *answer)
{
    const sgc__buf *body = &answer->body;
    sgc_str text = {body->ptr, body->len};

    if (text.len == 0 || text.ptr[text.len - 1] == '\n' || is_utf16(text))
        return;
    if (answer->format == SGC_FORMAT_OPENMETRICS &&
        (sgc__ends(text, SGC__STR("\n# EOF")) || sgc__eq(text, SGC__STR("# EOF"))))
        return;
    sgc__failure_set(answer->failure, SGC_REASON_TRUNCATED,
                     "body ends inside line %" PRIu64 "; expected a line feed at the end",
                     count_lines(body) + 1);
}

/* The body came whole: is it a metrics page, and to its end? */
static void check_page(sgc__answer *answer)
{
    sgc_str text = skip_space((sgc_str){answer->body.ptr, answer->body.len});

    if (begins_with(text, "<!doctype") || begins_with(text, "<html") || is_json(text))
        sgc__failure_set(answer->failure, SGC_REASON_NOT_EXPOSITION, "body is %s; expected a metrics page",
                         text.ptr[0] == '<' ? "HTML" : "JSON");
    else
        check_last_line(answer);
}

void sgc__answer_end(sgc__answer *answer)
{
    if (answer->failure->reason != SGC_REASON_NONE)
        return;
    if (!answer->headers_done) {
        sgc__failure_set(answer->failure, SGC_REASON_FRAMING, "answer ends inside its headers");
        return;
    }
    if (answer->gzip && !(answer->inflater && sgc__inflater_done(answer->inflater))) {
        sgc__failure_set(answer->failure, SGC_REASON_TRUNCATED,
                         "gzip data ends early; expected the end of a member");
        return;
    }
    if (!answer->json) /* which shows by itself where it is cut */
        check_page(answer);
    if (!answer->body.ptr && !(answer->body.ptr = sgc__alloc(1, 1)))
        sgc__failure_memory(answer->failure);
}
