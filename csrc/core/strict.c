/*
 * strict.c - the rules of OpenMetrics 1.0 that span lines: families in one
 * piece, metadata first and once, suffixes and values by type, metrics that do
 * not interleave, points in order, buckets that make a histogram. A rule that
 * is broken is a constant text.
 */
#include "parse.h"

enum { HAS_SAMPLES = 8, CLOSED = 16, EXEMPLAR_CHARACTERS = 128 };

/* A set of names or label sets, their text in the arena. */
typedef struct {
    sgc_str *list;
    size_t n;
    size_t room;
    sgc__index index;
} set;

/* What the buckets, count and sum of one point have shown. */
typedef struct {
    bool buckets;
    bool negative_bound;
    bool has_count;
    bool has_sum;
    double bound;
    double last;
    double count;
    double sum;
} point;

struct sgc__strict {
    sgc__arena arena; /* claimed names */
    sgc__arena family_arena;
    sgc__arena point_arena;
    sgc__arena scratch; /* of one sample */
    size_t family;      /* the open one, or SIZE_MAX */
    set claimed;        /* names with a suffix that closed families give to samples */
    set metrics;        /* label sets of the open family */
    set series;         /* of the current point: sample name and labels */
    sgc__buf key;
    sgc__buf metric; /* the current label set */
    bool in_metric;
    double timestamp;
    point point;
};

static sgc_str key_at(const void *owner, size_t position)
{
    return ((const set *)owner)->list[position];
}

static void set_clear(set *s)
{
    s->n = 0;
    sgc__index_clear(&s->index);
}

static void set_free(set *s)
{
    sgc__release(s->list);
    sgc__index_free(&s->index);
}

/* Adds a copy of the key; *had where it was there. False: out of memory. */
static bool set_add(set *s, sgc__arena *arena, sgc_str key, bool *had)
{
    uint32_t hash;

    *had = sgc__index_find(&s->index, key, &hash, key_at, s) != SIZE_MAX;
    if (*had)
        return true;
    if (s->n == s->room) {
        size_t room = sgc__grow(s->room, 16);
        sgc_str *list = sgc__resize(s->list, room, sizeof *list);
        if (!list)
            return false;
        s->list = list;
        s->room = room;
    }
    s->list[s->n] = sgc__arena_copy(arena, key);
    if (!s->list[s->n].ptr || !sgc__index_add(&s->index, hash))
        return false;
    s->n++;
    return true;
}

sgc__strict *sgc__strict_new(void)
{
    sgc__strict *strict = sgc__alloc(1, sizeof *strict);

    if (strict) {
        strict->family = SIZE_MAX;
        sgc__buf_init(&strict->key, SIZE_MAX);
        sgc__buf_init(&strict->metric, SIZE_MAX);
    }
    return strict;
}

void sgc__strict_free(sgc__strict *strict)
{
    if (!strict)
        return;
    set_free(&strict->claimed);
    set_free(&strict->metrics);
    set_free(&strict->series);
    sgc__buf_free(&strict->key);
    sgc__buf_free(&strict->metric);
    sgc__arena_free(&strict->arena);
    sgc__arena_free(&strict->family_arena);
    sgc__arena_free(&strict->point_arena);
    sgc__arena_free(&strict->scratch);
    sgc__release(strict);
}

/* ------------------------------------------------------------------ points */

static bool is_bucketed(sgc_type type)
{
    return type == SGC_TYPE_HISTOGRAM || type == SGC_TYPE_GAUGEHISTOGRAM;
}

/* The rules that only the whole point can show. */
static const char *point_close(const sgc__strict *strict, sgc_type type)
{
    const point *p = &strict->point;

    if (!strict->in_metric || !is_bucketed(type))
        return NULL;
    if (!p->buckets || p->bound != INFINITY)
        return "a histogram without a +Inf bucket";
    if (p->has_count && p->count != p->last)
        return "the count of a histogram differs from its +Inf bucket";
    if (p->has_sum != p->has_count)
        return "a histogram has both a count and a sum, or neither";
    if (p->has_sum && p->negative_bound && type == SGC_TYPE_HISTOGRAM)
        return "a histogram with negative buckets has no sum";
    if (p->has_sum && p->sum < 0 && !p->negative_bound)
        return "a negative sum without negative buckets";
    return NULL;
}

static const char *bucket_check(point *p, sgc_str le, double count)
{
    double bound;

    if (!sgc__number_read(le, &bound) || bound != bound || bound == -INFINITY ||
        (bound == INFINITY && !sgc__eq(le, SGC__STR("+Inf"))))
        return "le is not a bucket bound";
    if (p->buckets && bound <= p->bound)
        return "bucket bounds do not rise";
    if (p->buckets && count < p->last)
        return "bucket counts fall";
    p->buckets = true;
    p->negative_bound |= bound < 0;
    p->bound = bound;
    p->last = count;
    return NULL;
}

/* ----------------------------------------------------------------- samples */

/* The label of that name; ptr NULL in its name where the sample has none. */
static sgc_label label_find(const sgc__sample *s, sgc_str name)
{
    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = sgc__label_at(s, i);
        if (sgc__eq(label.name, name))
            return label;
    }
    return (sgc_label){{NULL, 0}, {NULL, 0}, false};
}

static bool is_count(double value)
{
    return value >= 0 && (value == floor(value));
}

/* Value and labels of one sample, by the type of its family. */
static const char *value_check(sgc__strict *strict, const sgc__sample *s, sgc_type type, sgc_str family,
                               sgc_str suffix)
{
    point *p = &strict->point;
    sgc_label label;
    double quantile;

    switch (type) {
    case SGC_TYPE_STATESET:
        if (!label_find(s, family).name.ptr)
            return "a stateset sample needs a label of its family's name";
        return s->value == 0 || s->value == 1 ? NULL : "a stateset sample is 0 or 1";
    case SGC_TYPE_INFO:
        return s->value == 1 ? NULL : "an info sample is 1";
    case SGC_TYPE_SUMMARY:
        if (suffix.len)
            break;
        label = label_find(s, SGC__STR("quantile"));
        if (!label.name.ptr || !sgc__number_read(label.value, &quantile) || !(quantile >= 0 && quantile <= 1))
            return "a summary sample needs a quantile from 0 to 1";
        return s->value < 0 ? "a quantile is not negative" : NULL;
    default:
        break;
    }
    if (sgc__eq(suffix, SGC__STR("_bucket")) || sgc__eq(suffix, SGC__STR("_count")) ||
        sgc__eq(suffix, SGC__STR("_gcount"))) {
        if (!is_count(s->value))
            return "a count is a whole number from 0 on";
        p->has_count |= suffix.ptr[1] != 'b';
        p->count = suffix.ptr[1] != 'b' ? s->value : p->count;
    } else if (sgc__eq(suffix, SGC__STR("_total")) || sgc__eq(suffix, SGC__STR("_sum"))) {
        if (!(s->value >= 0))
            return "a total or sum is not negative and not NaN";
    }
    if (sgc__eq(suffix, SGC__STR("_sum")) || sgc__eq(suffix, SGC__STR("_gsum"))) {
        p->has_sum = true;
        p->sum = s->value;
    }
    if (!sgc__eq(suffix, SGC__STR("_bucket")))
        return NULL;
    label = label_find(s, SGC__STR("le"));
    return label.name.ptr ? bucket_check(p, label.value, s->value) : "a bucket without le";
}

static const char *suffix_check(sgc_type type, sgc_str suffix)
{
    bool bare = type == SGC_TYPE_UNKNOWN || type == SGC_TYPE_GAUGE || type == SGC_TYPE_STATESET ||
                type == SGC_TYPE_SUMMARY;

    return suffix.len || bare ? NULL : "a sample of this type needs a suffix";
}

static size_t characters(sgc_str text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.ptr[i] & 0xc0) != 0x80;
    return n;
}

static const char *exemplar_check(const sgc__sample *s, sgc_type type, sgc_str suffix)
{
    size_t n = 0;

    if (!s->exemplar)
        return NULL;
    if (!(type == SGC_TYPE_COUNTER && sgc__eq(suffix, SGC__STR("_total"))) &&
        !(is_bucketed(type) && sgc__eq(suffix, SGC__STR("_bucket"))))
        return "only buckets and totals have exemplars";
    for (uint32_t i = 0; i < s->ex.n_labels; i++)
        n += characters(s->ex.labels[i].name) + characters(s->ex.labels[i].value);
    return n > EXEMPLAR_CHARACTERS ? "an exemplar's labels have more than 128 characters" : NULL;
}

/* ----------------------------------------------------------------- metrics */

/* A value as it reads, however it is spelled; false: no memory. */
static bool value_append(sgc__buf *key, const sgc_label *label)
{
    if (sgc__buf_reserve(key, label->value.len) != SGC_OK)
        return false;
    if (label->value.len)
        key->len += sgc_unescape(label->value, key->ptr + key->len);
    return true;
}

/* The labels in key order, without `skip`, as text that tells sets apart. */
static bool key_build(sgc__buf *key, sgc__arena *arena, const sgc__sample *s, sgc_str skip)
{
    const sgc_label **list = sgc__arena_alloc(arena, s->n_labels, sizeof *list);
    sgc_label *labels = sgc__arena_alloc(arena, s->n_labels, sizeof *labels);
    bool ok = list && labels;

    sgc__buf_reset(key);
    for (uint32_t i = 0; ok && i < s->n_labels; i++) {
        labels[i] = sgc__label_at(s, i);
        list[i] = &labels[i];
    }
    if (ok)
        sgc__sort(list, s->n_labels, sizeof *list, sgc__label_less);
    for (uint32_t i = 0; ok && i < s->n_labels; i++) {
        const sgc_label *label = list[i];
        if (skip.len && sgc__eq(label->name, skip))
            continue;
        ok = sgc__buf_append(key, label->name.ptr, label->name.len) == SGC_OK &&
             sgc__buf_append(key, "\xff", 1) == SGC_OK && value_append(key, label) &&
             sgc__buf_append(key, "\xfe", 1) == SGC_OK;
    }
    return ok;
}

static sgc_str buf_text(const sgc__buf *buf)
{
    return (sgc_str){buf->ptr, buf->len};
}

/* The label that tells the samples of one metric apart. */
static sgc_str own_label(sgc_type type, sgc_str family, sgc_str suffix)
{
    if (sgc__eq(suffix, SGC__STR("_bucket")))
        return SGC__STR("le");
    if (type == SGC_TYPE_SUMMARY && !suffix.len)
        return SGC__STR("quantile");
    return type == SGC_TYPE_STATESET ? family : SGC__STR("");
}

/* A sample of another metric, or of another time: the point before is whole. */
static const char *point_open(sgc__strict *strict, const sgc__sample *s, sgc_type type, bool other_metric,
                              sgc_status *status)
{
    const char *broken = point_close(strict, type);
    bool had = false;

    set_clear(&strict->series);
    sgc__arena_reset(&strict->point_arena);
    strict->point = (point){.buckets = false};
    strict->timestamp = s->timestamp;
    if (broken || !other_metric)
        return broken;
    strict->in_metric = true;
    sgc__buf_reset(&strict->metric);
    if (!set_add(&strict->metrics, &strict->family_arena, buf_text(&strict->key), &had) ||
        sgc__buf_append(&strict->metric, strict->key.ptr, strict->key.len) != SGC_OK)
        *status = SGC_NOMEM;
    return had ? "the samples of a metric stand together" : NULL;
}

static const char *metric_check(sgc__strict *strict, const sgc__sample *s, sgc_type type, sgc_str family,
                                sgc_str suffix, sgc_status *status)
{
    bool timed = s->timestamp == s->timestamp, had = false, other;
    const char *broken = NULL;

    sgc__arena_reset(&strict->scratch);
    if (!key_build(&strict->key, &strict->scratch, s, own_label(type, family, suffix)))
        goto no_memory;
    other = !strict->in_metric || !sgc__eq(buf_text(&strict->key), buf_text(&strict->metric));
    if (!other && timed != (strict->timestamp == strict->timestamp))
        return "a metric's samples have timestamps all or none";
    if (!other && timed && s->timestamp < strict->timestamp && type != SGC_TYPE_INFO)
        return "timestamps fall";
    if (other || (timed && s->timestamp > strict->timestamp))
        broken = point_open(strict, s, type, other, status);
    if (broken || *status != SGC_OK)
        return broken;
    if (!key_build(&strict->key, &strict->scratch, s, SGC__STR("")) ||
        sgc__buf_append(&strict->key, s->name.ptr, s->name.len) != SGC_OK ||
        !set_add(&strict->series, &strict->point_arena, buf_text(&strict->key), &had))
        goto no_memory;
    return had ? "the same series twice" : NULL;

no_memory:
    *status = SGC_NOMEM;
    return NULL;
}

/* ---------------------------------------------------------------- families */

/* Every name that a closing family may give to a sample is its own alone: not
 * another family's, nor one that a suffix made another family claim. */
static const char *names_claim(sgc__strict *strict, const sgc__families *families, const sgc__family *family,
                               sgc_status *status)
{
    static const char *const suffixes[] = {"_total", "_created", "_info",   "_bucket",
                                           "_count", "_sum",     "_gcount", "_gsum"};
    sgc_str name = sgc__family_name(family);
    uint32_t hash;
    bool had = sgc__index_find(&strict->claimed.index, name, &hash, key_at, &strict->claimed) != SIZE_MAX;

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && !had; i++) {
        sgc_str suffix = {suffixes[i], strlen(suffixes[i])};
        if (!sgc__suffix_fits((sgc_type)family->type, suffix))
            continue;
        sgc__buf_reset(&strict->key);
        if (sgc__buf_append(&strict->key, name.ptr, name.len) != SGC_OK ||
            sgc__buf_append(&strict->key, suffix.ptr, suffix.len) != SGC_OK ||
            !set_add(&strict->claimed, &strict->arena, buf_text(&strict->key), &had)) {
            *status = SGC_NOMEM;
            return NULL;
        }
        had |= sgc__families_find(families, buf_text(&strict->key)) != SIZE_MAX;
    }
    return had ? "two families share the name of a sample" : NULL;
}

static const char *unit_check(const sgc__families *families, const sgc__family *family)
{
    sgc_str name = sgc__family_name(family), unit = sgc__family_meta(families, family)->unit;

    if (!unit.len)
        return NULL;
    if (family->type == SGC_TYPE_INFO || family->type == SGC_TYPE_STATESET)
        return "a family of this type has no unit";
    if (!sgc__ends(name, unit) || name.len == unit.len || name.ptr[name.len - unit.len - 1] != '_')
        return "the family's name does not end in its unit";
    return NULL;
}

static const char *family_close(sgc__strict *strict, sgc__parser *parser, sgc_status *status)
{
    sgc__family *family;
    const char *broken;

    if (strict->family == SIZE_MAX)
        return NULL;
    family = &parser->families.list[strict->family];
    broken = point_close(strict, (sgc_type)family->type);
    if (!broken)
        broken = unit_check(&parser->families, family);
    if (!broken)
        broken = names_claim(strict, &parser->families, family, status);
    family->seen |= CLOSED;
    strict->family = SIZE_MAX;
    strict->in_metric = false;
    set_clear(&strict->metrics);
    set_clear(&strict->series);
    sgc__arena_reset(&strict->family_arena);
    return broken;
}

static const char *family_open(sgc__strict *strict, sgc__parser *parser, size_t family, sgc_status *status)
{
    const char *broken = NULL;

    if (strict->family == family)
        return NULL;
    broken = family_close(strict, parser, status);
    if (!broken && parser->families.list[family].seen & CLOSED)
        broken = "the lines of a family stand together";
    strict->family = family;
    return broken;
}

const char *sgc__strict_meta(sgc__strict *strict, sgc__parser *parser, size_t family, int kind,
                             sgc_status *status)
{
    const char *broken = family_open(strict, parser, family, status);
    sgc__family *f = &parser->families.list[family];

    if (broken || *status != SGC_OK)
        return broken;
    if (f->seen & HAS_SAMPLES)
        return "metadata stands before the samples of its family";
    if (f->seen & kind)
        return "a second line of this kind for the family";
    f->seen |= (uint8_t)kind;
    return NULL;
}

const char *sgc__strict_sample(sgc__strict *strict, sgc__parser *parser, const sgc__sample *s,
                               sgc_status *status)
{
    const char *broken = family_open(strict, parser, s->family, status);
    sgc__family *f = &parser->families.list[s->family];
    sgc_str name = sgc__family_name(f), suffix = {s->name.ptr + name.len, s->name.len - name.len};
    sgc_type type = (sgc_type)f->type;

    if (!broken && *status == SGC_OK)
        broken = suffix_check(type, suffix);
    if (!broken && *status == SGC_OK)
        broken = metric_check(strict, s, type, name, suffix, status);
    if (!broken && *status == SGC_OK)
        broken = value_check(strict, s, type, name, suffix);
    if (!broken && *status == SGC_OK)
        broken = exemplar_check(s, type, suffix);
    f->seen |= HAS_SAMPLES;
    return broken;
}

const char *sgc__strict_end(sgc__strict *strict, sgc__parser *parser, sgc_status *status)
{
    return family_close(strict, parser, status);
}
