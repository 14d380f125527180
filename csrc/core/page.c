/*
 * page.c - a parsed page. A sample is 32 bytes: its labels stay where the page
 * has them and are scanned again when somebody asks. What few samples have
 * (timestamps, exemplars, names with escapes) lies in a list of its own.
 */
#include "parse.h"

enum { FLAG_TIMESTAMP = 1, FLAG_EXEMPLAR = 2, FLAG_ODD = 4, FLAG_EXTRA = 7 };

typedef struct {
    const char *name;
    double value;
    uint32_t name_len;
    uint32_t labels_at; /* the first label stands this far behind the name */
    uint32_t family;
    uint16_t n_labels;
    uint16_t flags;
} record;

/* The rare parts of one sample; the list rises by index. */
typedef struct {
    uint32_t index;
    double timestamp;
    const sgc_label *labels; /* FLAG_ODD */
    const sgc__exemplar *ex; /* FLAG_EXEMPLAR */
} extra;

struct sgc_page {
    record *samples;
    size_t n;
    size_t room;
    extra *extras;
    size_t n_extras;
    size_t extras_room;
    sgc__families families;
    sgc__arena names; /* names with escapes, which the parser resolved */
    sgc__arena kept;  /* labels of the samples that have such names */
    const char *end;
    sgc_format format;
};

/* ----------------------------------------------------------------- making */

static bool samples_grow(sgc_page *page)
{
    size_t room = sgc__grow(page->room, 64);
    record *samples = sgc__resize(page->samples, room, sizeof *samples);

    if (!samples)
        return false;
    page->samples = samples;
    page->room = room;
    return true;
}

static const sgc__exemplar *exemplar_keep(sgc_page *page, const sgc__exemplar *ex)
{
    sgc__exemplar *kept = sgc__arena_alloc(&page->kept, 1, sizeof *kept);

    if (kept)
        *kept = *ex;
    return kept;
}

static bool extra_add(sgc_page *page, const sgc__sample *s)
{
    extra *e;

    if (page->n_extras == page->extras_room) {
        size_t room = sgc__grow(page->extras_room, 16);
        e = sgc__resize(page->extras, room, sizeof *e);
        if (!e)
            return false;
        page->extras = e;
        page->extras_room = room;
    }
    e = &page->extras[page->n_extras];
    *e = (extra){.index = (uint32_t)page->n, .timestamp = s->timestamp};
    if (s->exemplar && !(e->ex = exemplar_keep(page, &s->ex)))
        return false;
    if (s->odd && s->n_labels) {
        sgc_label *labels = sgc__arena_alloc(&page->kept, s->n_labels, sizeof *labels);
        if (!labels)
            return false;
        for (uint32_t i = 0; i < s->n_labels; i++) {
            labels[i] = s->labels[i];
            labels[i].name = sgc__arena_copy(&page->kept, labels[i].name);
            if (!labels[i].name.ptr)
                return false;
        }
        e->labels = labels;
    }
    page->n_extras++;
    return true;
}

static sgc_status sample_take(void *self, const sgc__parser *parser, const sgc__sample *s)
{
    sgc_page *page = self;
    sgc__family *family = &parser->families.list[s->family];
    unsigned flags = (s->timestamp == s->timestamp ? FLAG_TIMESTAMP : 0u) |
                     (s->exemplar ? FLAG_EXEMPLAR : 0u) | (s->odd ? FLAG_ODD : 0u);

    if ((page->n == page->room && !samples_grow(page)) || (flags && !extra_add(page, s)))
        return sgc__fail_memory(parser->err);
    if (!family->n_samples++)
        family->first = (uint32_t)page->n;
    family->last = (uint32_t)page->n;
    page->samples[page->n++] = (record){
        .name = s->name.ptr,
        .value = s->value,
        .name_len = (uint32_t)s->name.len,
        .labels_at = s->odd ? 0 : (uint32_t)(s->labels_text - s->name.ptr),
        .family = s->family,
        .n_labels = (uint16_t)s->n_labels,
        .flags = (uint16_t)flags,
    };
    return SGC_OK;
}

sgc_status sgc_page_parse(const char *data, size_t len, const sgc_options *options, sgc_page **out,
                          sgc_error *err)
{
    sgc_page *page = sgc__alloc(1, sizeof *page);
    sgc__parser parser = {.sample = sample_take, .self = page};
    sgc_status status;

    *out = NULL;
    if (!page)
        return sgc__fail_memory(err);
    status = sgc__parser_run(&parser, data, len, options, err);
    page->families = parser.families;
    page->end = data + len;
    page->format = parser.options.format;
    memset(&parser.families, 0, sizeof parser.families);
    page->names = parser.kept;
    sgc__arena_init(&parser.kept);
    if (status == SGC_OK) {
        *out = page;
        page = NULL;
    }
    sgc__parser_free(&parser);
    sgc_page_free(page);
    return status;
}

void sgc_page_free(sgc_page *page)
{
    if (!page)
        return;
    sgc__release(page->samples);
    sgc__release(page->extras);
    sgc__families_free(&page->families);
    sgc__arena_free(&page->names);
    sgc__arena_free(&page->kept);
    sgc__release(page);
}

/* ---------------------------------------------------------------- reading */

size_t sgc_page_n_samples(const sgc_page *page)
{
    return page->n;
}

size_t sgc_page_n_families(const sgc_page *page)
{
    return page->families.n;
}

sgc_format sgc_page_format(const sgc_page *page)
{
    return page->format;
}

/* The rare parts of a sample whose flags say that it has some. */
static const extra *extra_find(const sgc_page *page, size_t index)
{
    size_t low = 0, high = page->n_extras;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (page->extras[middle].index <= index)
            low = middle;
        else
            high = middle;
    }
    return &page->extras[low];
}

void sgc_page_sample(const sgc_page *page, size_t index, sgc_sample *out)
{
    const record *s = &page->samples[index];

    *out = (sgc_sample){
        .name = {s->name, s->name_len},
        .value = s->value,
        .timestamp = s->flags & FLAG_TIMESTAMP ? extra_find(page, index)->timestamp : NAN,
        .family = s->family,
        .n_labels = s->n_labels,
        .exemplar = s->flags & FLAG_EXEMPLAR,
    };
}

void sgc_page_family(const sgc_page *page, size_t index, sgc_family *out)
{
    const sgc__family *family = &page->families.list[index];
    const sgc__meta *meta = sgc__family_meta(&page->families, family);

    *out = (sgc_family){
        .name = sgc__family_name(family),
        .type = (sgc_type)family->type,
        .help = meta->help,
        .unit = meta->unit,
        .n_samples = family->n_samples,
        .first = family->first,
        .last = family->last,
    };
}

/* What may stand between two labels, and between the last one and the brace. */
static const char *blanks_skip(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == ',')
        p++;
    return p;
}

/* Scans a label that the parser has found well-formed before. */
static const char *label_scan(const sgc_page *page, const char *p, sgc_label *out)
{
    sgc__fault fault;
    bool odd = false;

    return sgc__scan_label(blanks_skip(p), page->end, true, out, &odd, &fault);
}

void sgc_page_labels(const sgc_page *page, size_t index, sgc_label *out)
{
    const record *s = &page->samples[index];
    const char *p = s->name + s->labels_at;

    for (size_t i = 0; i < s->n_labels; i++) {
        if (s->flags & FLAG_ODD)
            out[i] = extra_find(page, index)->labels[i];
        else
            p = label_scan(page, p, &out[i]);
    }
}

/* A label that says what it said on the other line is known by its bytes, from
 * the name to the closing quote, and is not scanned. */
bool sgc_page_labels_step(const sgc_page *page, size_t from, size_t to, sgc_label *labels, bool *changed)
{
    const record *s = &page->samples[to];
    const char *p = s->name + s->labels_at;

    if (s->n_labels != page->samples[from].n_labels || (s->flags | page->samples[from].flags) & FLAG_ODD)
        return false;
    for (size_t i = 0; i < s->n_labels; i++) {
        sgc_label *known = &labels[i], label;
        size_t len = (size_t)(known->value.ptr + known->value.len + 1 - known->name.ptr);
        p = blanks_skip(p);
        changed[i] = false;
        if ((size_t)(page->end - p) >= len && memcmp(p, known->name.ptr, len) == 0) {
            p += len;
            continue;
        }
        p = label_scan(page, p, &label);
        if (!sgc__eq(label.name, known->name))
            return false;
        changed[i] = !sgc__eq(label.value, known->value);
        *known = label;
    }
    return true;
}

bool sgc_page_exemplar(const sgc_page *page, size_t index, sgc_exemplar *out)
{
    const sgc__exemplar *ex;

    if (!(page->samples[index].flags & FLAG_EXEMPLAR))
        return false;
    ex = extra_find(page, index)->ex;
    *out = (sgc_exemplar){.value = ex->value, .timestamp = ex->timestamp, .n_labels = ex->n_labels};
    return true;
}

void sgc_page_exemplar_labels(const sgc_page *page, size_t index, sgc_label *out)
{
    const sgc__exemplar *ex;
    const char *p;

    if (!(page->samples[index].flags & FLAG_EXEMPLAR))
        return;
    ex = extra_find(page, index)->ex;
    p = ex->labels_text;
    for (size_t i = 0; i < ex->n_labels; i++)
        p = label_scan(page, p, &out[i]);
}

/* --------------------------------------------------------------- look-up */

size_t sgc_page_find(const sgc_page *page, sgc_str name)
{
    return sgc__families_find(&page->families, name);
}

/* Does a value that may hold escapes read as `want`? */
static bool value_is(const sgc_label *label, sgc_str want)
{
    size_t at = 0;

    if (!label->escaped)
        return sgc__eq(label->value, want);
    for (size_t i = 0; i < label->value.len; at++) {
        char plain[2];
        size_t step = label->value.ptr[i] == '\\' && i + 1 < label->value.len ? 2 : 1;
        size_t n = sgc_unescape((sgc_str){label->value.ptr + i, step}, plain);
        if (at + n > want.len || memcmp(plain, want.ptr + at, n) != 0)
            return false;
        at += n - 1;
        i += step;
    }
    return at == want.len;
}

static bool sample_has(const sgc_page *page, size_t index, const sgc_label *want)
{
    const record *s = &page->samples[index];
    const char *p = s->name + s->labels_at;
    sgc_label label;

    for (size_t i = 0; i < s->n_labels; i++) {
        if (s->flags & FLAG_ODD)
            label = extra_find(page, index)->labels[i];
        else
            p = label_scan(page, p, &label);
        if (sgc__eq(label.name, want->name))
            return value_is(&label, want->value);
    }
    return want->value.len == 0;
}

size_t sgc_page_match(const sgc_page *page, sgc_str name, const sgc_label *labels, size_t n_labels,
                      size_t *first)
{
    size_t count = 0, fitting;

    for (size_t i = 0; i < page->n; i++) {
        const record *s = &page->samples[i];
        if (s->name_len != name.len || memcmp(s->name, name.ptr, name.len) != 0)
            continue;
        for (fitting = 0; fitting < n_labels && sample_has(page, i, &labels[fitting]);)
            fitting++;
        if (fitting == n_labels && !count++)
            *first = i;
    }
    return count;
}

/* ---------------------------------------------------------------- columns */

const double *sgc_page_values(const sgc_page *page, size_t *stride)
{
    *stride = sizeof *page->samples;
    return page->n ? &page->samples[0].value : NULL;
}

/* The closing brace of a sample that has labels. Neither a value nor a timestamp
 * holds one, so that it is the last of its line; an exemplar has one of its own. */
static const char *brace_find(const sgc_page *page, size_t index)
{
    const record *s = &page->samples[index];
    const char *p = s->name + s->labels_at;
    sgc_label label;

    if (!(s->flags & FLAG_EXEMPLAR)) {
        p = memchr(p, '\n', (size_t)(page->end - p));
        for (p = p ? p : page->end; *--p != '}';)
            ;
        return p;
    }
    for (size_t i = 0; i < s->n_labels; i++)
        p = label_scan(page, p, &label);
    return blanks_skip(p);
}

/* A quoted name is taken with its quotes: a plain one must not be taken for it. */
static bool is_quoted(const record *s)
{
    return s->name[s->name_len] == '"';
}

sgc_str sgc_page_series(const sgc_page *page, size_t index)
{
    const record *s = &page->samples[index];
    const char *start, *end;

    if (s->flags & FLAG_ODD)
        return (sgc_str){NULL, 0};
    start = s->name - is_quoted(s);
    end = s->n_labels ? brace_find(page, index) + 1 : s->name + s->name_len + is_quoted(s);
    return (sgc_str){start, (size_t)(end - start)};
}

/* Is sample i of the series that sample j of the other page is of? Bytes that are
 * equal up to the closing brace are read alike. */
static bool same_series(const sgc_page *page, size_t i, const sgc_page *other, size_t j)
{
    const record *a = &page->samples[i], *b = &other->samples[j];
    const char *start;
    sgc_str text;

    if (a->n_labels != b->n_labels || a->name_len != b->name_len || (a->flags | b->flags) & FLAG_ODD)
        return false;
    start = a->name - is_quoted(a);
    text = sgc_page_series(other, j);
    return (size_t)(page->end - start) >= text.len && memcmp(start, text.ptr, text.len) == 0;
}

/* The samples of a page by the text of their series; of equal ones the first. */
typedef struct {
    const sgc_page *page;
    sgc__index index;
    uint32_t *samples; /* by position in the index */
} series_index;

static sgc_str series_at(const void *owner, size_t position)
{
    const series_index *all = owner;

    return sgc_page_series(all->page, all->samples[position]);
}

static bool series_index_make(series_index *all, const sgc_page *page)
{
    uint32_t hash;

    all->samples = sgc__resize(NULL, page->n, sizeof *all->samples);
    if (!all->samples)
        return false;
    for (size_t j = 0; j < page->n; j++) {
        sgc_str text = sgc_page_series(page, j);
        all->samples[all->index.n] = (uint32_t)j;
        if (text.len && sgc__index_find(&all->index, text, &hash, series_at, all) == SIZE_MAX &&
            !sgc__index_add(&all->index, hash))
            return false;
    }
    return true;
}

static uint32_t series_index_find(const series_index *all, sgc_str text)
{
    uint32_t hash;
    size_t position = text.len ? sgc__index_find(&all->index, text, &hash, series_at, all) : SIZE_MAX;

    return position == SIZE_MAX ? SGC_NO_SAMPLE : all->samples[position];
}

sgc_status sgc_page_align(const sgc_page *page, const sgc_page *other, uint32_t *out, sgc_error *err)
{
    series_index all = {.page = other};
    sgc_status status = SGC_OK;
    size_t j = 0; /* where the series is if the order is the same */

    for (size_t i = 0; i < page->n && status == SGC_OK; i++) {
        if (j < other->n && same_series(page, i, other, j)) {
            out[i] = (uint32_t)j++;
            continue;
        }
        if (!all.samples && !series_index_make(&all, other))
            status = sgc__fail_memory(err);
        else if ((out[i] = series_index_find(&all, sgc_page_series(page, i))) != SGC_NO_SAMPLE)
            j = (size_t)out[i] + 1;
    }
    sgc__release(all.samples);
    sgc__index_free(&all.index);
    return status;
}
