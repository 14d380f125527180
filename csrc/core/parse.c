/*
 * parse.c - the two grammars line by line: metadata here, samples in sample.c.
 * The page is refused at its first malformed line.
 */
#include "reader.h"

sgc_status sgc__parser_fail(const sgc__parser *ps, const char *reason, const char *at)
{
    return sgc__fail_syntax(ps->err, reason, ps->data, (size_t)(ps->end - ps->data), at);
}

sgc_status sgc__parser_limit(const sgc__parser *ps, const char *limit, uint64_t allowed, const char *at)
{
    return sgc__fail_limit_at(ps->err, limit, allowed, ps->data, (size_t)(ps->end - ps->data), at);
}

/* --------------------------------------------------------------- metadata */

static const sgc_str type_words[] = {
#define TYPE_WORD(name, text) {(text), sizeof(text) - 1},
    SGC_TYPE_LIST(TYPE_WORD)
#undef TYPE_WORD
};

const char *sgc_type_text(sgc_type type)
{
    return type_words[type].ptr;
}

static const char *type_word_read(sgc__reader *r, const char *p, uint8_t *type)
{
    const char *stop = sgc__scan_token(p, r->ps->end);
    sgc_str word = {p, (size_t)(stop - p)};

    for (size_t i = 0; i < sizeof type_words / sizeof *type_words; i++) {
        if (sgc__eq(word, type_words[i])) {
            *type = (uint8_t)i;
            return stop;
        }
    }
    if (r->om || !sgc__eq(word, SGC__STR("untyped")))
        return sgc__fail_at(r, "expected a metric type", p);
    *type = SGC_TYPE_UNKNOWN;
    return stop;
}

/* What follows the family's name on a metadata line. */
static const char *meta_text_read(sgc__reader *r, const char *p, int kind, sgc__family *family)
{
    const char *end = r->ps->end, *stop;
    sgc__meta *meta;
    sgc__fault fault;

    if (kind == SGC__META_TYPE) {
        p = sgc__gap_read(r, p, "expected a space before the type");
        p = p ? type_word_read(r, p, &family->type) : NULL;
        return p ? sgc__line_end_read(r, p, "expected the end of the line after the type") : NULL;
    }
    if (r->om || (p < end && *p != '\n' && *p != '\r'))
        p = sgc__gap_read(r, p, "expected a space before the text");
    stop = p ? sgc__scan_text(p, end, &fault) : NULL;
    if (!stop)
        return p ? sgc__fail_fault(r, fault) : NULL;
    meta = sgc__families_meta(&r->ps->families, family);
    if (!meta)
        return sgc__reader_no_memory(r);
    if (kind == SGC__META_HELP)
        meta->help = (sgc_str){p, (size_t)(stop - p) - (!r->om && stop > p && stop[-1] == '\r')};
    else
        meta->unit = (sgc_str){p, (size_t)(stop - p)};
    return stop < end ? stop + 1 : stop;
}

/* Does the plain name of the metadata line before, which a blank follows, stand at p again? */
static bool told_again(const sgc__parser *ps, const char *p)
{
    size_t len = ps->told.len;

    return len && (size_t)(ps->end - p) > len && p[len] == ' ' && memcmp(p, ps->told.ptr, len) == 0;
}

/* The name on a metadata line, and its family, which is then the one at hand. */
static const char *meta_name_read(sgc__reader *r, const char *line, const char *p)
{
    sgc__parser *ps = r->ps;
    sgc_str name = {NULL, 0};
    const char *stop;
    bool odd = false;

    if (told_again(ps, p)) {
        ps->current = ps->told_of;
        return p + ps->told.len;
    }
    stop = sgc__name_read(r, p, &name, &odd);
    if (!stop)
        return NULL;
    if (!r->om && stop < ps->end && *stop != ' ' && *stop != '\t' && *stop != '\n' && *stop != '\r')
        return sgc__fail_at(r, "expected a blank after the metric name", stop);
    sgc__families_ahead(ps, line);
    ps->current = sgc__name_keep(ps, &name) ? sgc__families_take(&ps->families, name) : SIZE_MAX;
    if (ps->current == SIZE_MAX)
        return sgc__reader_no_memory(r);
    ps->told = name.ptr == p ? name : (sgc_str){NULL, 0};
    ps->told_of = ps->current;
    return stop;
}

/* From the name on a HELP, TYPE or UNIT line. */
static const char *meta_read(sgc__reader *r, const char *p, const char *line, int kind)
{
    sgc__parser *ps = r->ps;
    const char *broken = NULL;

    p = meta_name_read(r, line, p);
    if (!p)
        return NULL;
    ps->retold = true;
    p = meta_text_read(r, p, kind, &ps->families.list[ps->current]);
    if (p && ps->strict)
        broken = sgc__strict_meta(ps->strict, ps, ps->current, kind, &r->status);
    if (broken)
        return sgc__fail_at(r, broken, line);
    if (p && r->status != SGC_OK)
        return sgc__reader_no_memory(r);
    return p;
}

static int keyword_kind(const sgc__reader *r, sgc_str word)
{
    if (sgc__eq(word, SGC__STR("HELP")))
        return SGC__META_HELP;
    if (sgc__eq(word, SGC__STR("TYPE")))
        return SGC__META_TYPE;
    return r->om && sgc__eq(word, SGC__STR("UNIT")) ? SGC__META_UNIT : 0;
}

/* The kind of a line that begins as all programs begin it; 0: it does not. */
static int common_kind(const char *line, const char *end)
{
    if (end - line < 8 || line[7] == ' ' || line[7] == '\t')
        return 0;
    if (memcmp(line, "# HELP ", 7) == 0)
        return SGC__META_HELP;
    return memcmp(line, "# TYPE ", 7) == 0 ? SGC__META_TYPE : 0;
}

/* A line that begins with #: metadata, or in text 0.0.4 any comment. */
static const char *hash_read(sgc__reader *r, const char *line)
{
    const char *end = r->ps->end, *p = line + 1, *stop;
    sgc__fault fault;
    int kind = common_kind(line, end);

    if (kind)
        return meta_read(r, line + 7, line, kind);
    if (r->om && (p == end || *p++ != ' '))
        return sgc__fail_at(r, "expected a space after #", p - (p > line + 1));
    p = sgc__blanks_read(r, p);
    stop = sgc__scan_token(p, end);
    kind = stop < end && (*stop == ' ' || (!r->om && *stop == '\t'))
               ? keyword_kind(r, (sgc_str){p, (size_t)(stop - p)})
               : 0;
    if (kind)
        return meta_read(r, r->om ? stop + 1 : sgc__scan_blanks(stop, end), line, kind);
    if (r->om)
        return sgc__fail_at(r, "expected HELP, TYPE, UNIT or EOF", p);
    stop = sgc__scan_text(p, end, &fault);
    if (!stop)
        return sgc__fail_fault(r, fault);
    if (memchr(p, '\0', (size_t)(stop - p)))
        return sgc__fail_at(r, "NUL outside a label value", memchr(p, '\0', (size_t)(stop - p)));
    return stop < end ? stop + 1 : stop;
}

/* ------------------------------------------------------------------- page */

static bool is_eof_line(const char *p, const char *end)
{
    return end - p >= 5 && memcmp(p, "# EOF", 5) == 0 && (end - p == 5 || p[5] == '\n');
}

/* What only the end of the page can show is told at its "# EOF". */
static const char *eof_read(sgc__reader *r, const char *line)
{
    sgc__parser *ps = r->ps;
    const char *p = ps->end - line > 5 ? line + 6 : line + 5;
    const char *broken = NULL;

    if (p != ps->end)
        return sgc__fail_at(r, "text after # EOF", p);
    if (ps->strict)
        broken = sgc__strict_end(ps->strict, ps, &r->status);
    if (broken)
        return sgc__fail_at(r, broken, line);
    return r->status == SGC_OK ? p : sgc__reader_no_memory(r);
}

/* OpenMetrics: lines up to "# EOF", which ends the page. */
static const char *openmetrics_read(sgc__reader *r, const char *p)
{
    const char *end = r->ps->end;

    while (p && p < end) {
        if (*p == '#' && is_eof_line(p, end))
            return eof_read(r, p);
        p = *p == '#' ? hash_read(r, p) : sgc__sample_read(r, p);
        if (r->ps->scratch.used)
            sgc__arena_reset(&r->ps->scratch);
    }
    return p ? sgc__fail_at(r, "truncated: the page ends without # EOF", p) : NULL;
}

static const char *text_read(sgc__reader *r, const char *p)
{
    const char *end = r->ps->end;

    while (p && p < end) {
        if (*p == '#')
            p = hash_read(r, p);
        else if (*p == '\n')
            p++;
        else if (*p == ' ' || *p == '\t')
            p = sgc__scan_blanks(p, end);
        else if (*p == '\r')
            p = sgc__line_end_read(r, p, "expected a newline after the carriage return");
        else
            p = sgc__sample_read(r, p);
        if (r->ps->scratch.used)
            sgc__arena_reset(&r->ps->scratch);
    }
    return p;
}

/* A byte order mark tells of text that is not what the formats ask for. */
static const char *byte_order_mark(const char *data, size_t len)
{
    if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
        return "the page begins with a UTF-8 byte order mark";
    if (len >= 2 && (memcmp(data, "\xff\xfe", 2) == 0 || memcmp(data, "\xfe\xff", 2) == 0))
        return "the page begins with a UTF-16 byte order mark";
    return NULL;
}

/* Does the last line say "# EOF"? */
static bool ends_in_eof(const char *data, size_t len)
{
    if (len && data[len - 1] == '\n')
        len--;
    return len >= 5 && memcmp(data + len - 5, "# EOF", 5) == 0 && (len == 5 || data[len - 6] == '\n');
}

sgc_status sgc__parser_run(sgc__parser *ps, const char *data, size_t len, const sgc_options *options,
                           sgc_error *err)
{
    sgc__reader r = {.ps = ps, .status = SGC_OK};
    const char *mark = byte_order_mark(data, len);

    ps->data = data;
    ps->end = data + len;
    ps->ahead = data;
    ps->pause = ps->take_known ? data : ps->end;
    ps->options = *options;
    ps->err = err;
    ps->current = SIZE_MAX;
    for (int i = 0; i < SGC__MODELS; i++)
        ps->order[i] = &ps->models[i];
    if (len > options->limits.body_bytes)
        return sgc__fail_limit(err, "body_bytes", options->limits.body_bytes);
    if (mark)
        return sgc__parser_fail(ps, mark, data);
    if (options->format == SGC_FORMAT_AUTO)
        ps->options.format = ends_in_eof(data, len) ? SGC_FORMAT_OPENMETRICS : SGC_FORMAT_TEXT;
    r.om = ps->options.format == SGC_FORMAT_OPENMETRICS;
    r.strict = r.om && options->strict;
    r.short_numbers = options->limits.number_length >= 16;
    if (!sgc__labels_room(ps, 0)) /* so that there is an array even where no label is */
        return sgc__fail_memory(err);
    if (r.strict && !(ps->strict = sgc__strict_new()))
        return sgc__fail_memory(err);
    (void)(r.om ? openmetrics_read(&r, data) : text_read(&r, data));
    return r.status;
}

void sgc__parser_free(sgc__parser *ps)
{
    sgc__families_free(&ps->families);
    sgc__release(ps->labels);
    for (int i = 0; i < SGC__MODELS; i++)
        sgc__release(ps->models[i].spans);
    sgc__arena_free(&ps->scratch);
    sgc__arena_free(&ps->kept);
    sgc__strict_free(ps->strict);
}

void sgc_limits_init(sgc_limits *limits)
{
#define LIMIT_DEFAULT(name, dflt) limits->name = (dflt);
    SGC_LIMIT_LIST(LIMIT_DEFAULT)
#undef LIMIT_DEFAULT
}

void sgc_options_init(sgc_options *options)
{
    options->format = SGC_FORMAT_TEXT;
    options->strict = false;
    sgc_limits_init(&options->limits);
}
