/*
 * parse.h - how the core's files hand a page on: the lexer's scanners, the
 * family table, and the parser with its one event, a sample. Page and plan are
 * the two receivers. Private to csrc/core.
 */
#ifndef SGC_PARSE_H
#define SGC_PARSE_H

#include "sgc_int.h"

/* ----------------------------------------------------------------- lexer */

/* What a scanner found wrong: where, and a constant that says what. */
typedef struct sgc__fault {
    const char *at;
    const char *reason;
} sgc__fault;

/* Each returns the first byte behind what it scans, and never reads at `end`. */
const char *sgc__scan_blanks(const char *p, const char *end);     /* spaces, tabs */
const char *sgc__scan_name(const char *p, const char *end);       /* [a-zA-Z_:][a-zA-Z0-9_:]* or p */
const char *sgc__scan_label_name(const char *p, const char *end); /* [a-zA-Z_][a-zA-Z0-9_]* or p */
const char *sgc__scan_token(const char *p, const char *end);      /* up to a blank, CR, LF, '#', or '}' */

/* From behind an opening quote to its closing one; NULL: *fault. */
const char *sgc__scan_quoted(const char *p, const char *end, bool *escaped, sgc__fault *fault);

/* The rest of a line that may be any text; returns its newline or `end`; NULL: *fault. */
const char *sgc__scan_text(const char *p, const char *end, sgc__fault *fault);

/* The first byte that does not belong to well-formed UTF-8, or NULL. */
const char *sgc__utf8_fault(const char *p, const char *end);

/* One `name="value"`, blanks between its parts allowed where `blanks`. A quoted
 * name may hold escapes: *odd then becomes true. NULL: *fault. */
const char *sgc__scan_label(const char *p, const char *end, bool blanks, sgc_label *label, bool *odd,
                            sgc__fault *fault);

/* Order by bytes, and of pointers to labels by name: for sgc__sort. */
int sgc__str_order(sgc_str a, sgc_str b);
bool sgc__label_less(const void *a, const void *b);

/* -------------------------------------------------------------- families */

/* What HELP and UNIT lines said of a family. */
typedef struct sgc__meta {
    sgc_str help;
    sgc_str unit;
} sgc__meta;

typedef struct sgc__family {
    const char *name;
    uint32_t name_len;
    uint32_t meta; /* position of its meta + 1; 0: it has none */
    uint32_t n_samples;
    uint32_t first; /* index of its first and last sample */
    uint32_t last;
    uint8_t type; /* sgc_type */
    uint8_t seen; /* strict reading: the metadata lines it had */
} sgc__family;

/* All families of a page, in order of appearance. */
typedef struct sgc__families {
    sgc__family *list;
    size_t n;
    size_t room;
    sgc__meta *metas;
    size_t n_metas;
    size_t metas_room;
    sgc__index index;
} sgc__families;

void sgc__families_free(sgc__families *families);
size_t sgc__families_find(const sgc__families *families, sgc_str name); /* or SIZE_MAX */
/* A look-up of that name will follow. */
void sgc__families_expect(const sgc__families *families, sgc_str name);
/* The family of that name, made where there is none; SIZE_MAX: out of memory. */
size_t sgc__families_take(sgc__families *families, sgc_str name);

/* The family's meta, made where it has none yet; NULL: out of memory. */
sgc__meta *sgc__families_meta(sgc__families *families, sgc__family *family);

static inline const sgc__meta *sgc__family_meta(const sgc__families *families, const sgc__family *family)
{
    static const sgc__meta none;

    return family->meta ? &families->metas[family->meta - 1] : &none;
}

static inline sgc_str sgc__family_name(const sgc__family *family)
{
    return (sgc_str){family->name, family->name_len};
}

/* May a sample with this suffix belong to a family of this type? */
bool sgc__suffix_fits(sgc_type type, sgc_str suffix);

/* ---------------------------------------------------------------- parser */

typedef struct sgc__exemplar {
    const sgc_label *labels;
    const char *labels_text; /* the first label on the page */
    uint32_t n_labels;
    double value;
    double timestamp; /* seconds; NaN where there is none */
} sgc__exemplar;

/* Where a label stands, counted from the first byte of its line. */
typedef struct sgc__span {
    uint32_t name_at;
    uint32_t name_len;
    uint32_t value_at;
    uint32_t value_len;
    bool escaped;
} sgc__span;

#define SGC__CHANGED_ALL UINT64_MAX

/* A set of labels by their places; those from the 64th on share a bit. */
static inline uint64_t sgc__label_bit(uint32_t i)
{
    return UINT64_C(1) << (i < 63 ? i : 63);
}

/* A sample as the parser hands it on. Everything but what points into the page
 * is valid during the call alone. */
typedef struct sgc__sample {
    sgc_str name;            /* escapes resolved */
    const sgc_label *labels; /* in page order; NULL: as `spans` say. Read by sgc__label_at */
    const sgc__span *spans;
    uint32_t n_labels;
    uint32_t moved; /* labels from moved_from on stand so far behind their spans; wraps */
    uint32_t moved_from;
    uint64_t layout;         /* equal for samples with the same label names in the same places, and
                                the same between their values; 0: not known */
    const char *text;        /* equal for samples of a layout whose label values are all equal */
    uint64_t changed;        /* sgc__label_bit of each label whose value differs from the sample
                                before, of the same layout; or SGC__CHANGED_ALL */
    bool renamed;            /* name or family may be another than the sample's before */
    uint32_t family;         /* index */
    const char *labels_text; /* the first label on the page */
    bool odd;                /* a name has escapes or stands late: the labels cannot be read
                                again from labels_text with plain names */
    bool exemplar;
    double value;
    double timestamp; /* seconds; NaN where there is none */
    sgc__exemplar ex;
    const char *line;       /* its first byte */
    const char *value_text; /* where its value stands */
    const char *next;       /* where the next line begins */
} sgc__sample;

/* The i-th label of a sample, in page order. */
static inline sgc_label sgc__label_at(const sgc__sample *s, uint32_t i)
{
    const sgc__span *span;
    const char *line;

    if (s->labels)
        return s->labels[i];
    span = &s->spans[i];
    line = s->line + (i >= s->moved_from ? (int32_t)s->moved : 0);
    return (sgc_label){
        {line + span->name_at, span->name_len}, {line + span->value_at, span->value_len}, span->escaped};
}

/* The last sample line of a layout, for the ones behind it to be compared with. */
typedef struct sgc__model {
    bool usable;
    uint32_t series_len; /* up to behind the closing brace */
    uint32_t expected;   /* the label that most likely differs next, or n_labels */
    uint32_t n_spans_room;
    sgc__span *spans;
    sgc__sample sample;
} sgc__model;

enum { SGC__MODELS = 4 };

typedef struct sgc__strict sgc__strict;

typedef struct sgc__parser {
    const char *data;
    const char *end;
    sgc_options options; /* format decided: never AUTO */
    sgc_error *err;
    /* Receives each sample, in page order. */
    sgc_status (*sample)(void *self, const struct sgc__parser *parser, const sgc__sample *sample);
    void *self;
    /* NULL, or takes the sample lines from p on that it knows: counts them in n_samples,
     * and returns the first that it does not know. It may set `pause`. NULL: no memory. */
    const char *(*take_known)(void *self, struct sgc__parser *parser, const char *p);
    const char *pause; /* take_known is asked again at the first line from here on */

    sgc__families families;
    size_t current; /* the family that a sample most likely belongs to, or SIZE_MAX */
    sgc_str told;   /* the plain name of the last metadata line, and its family */
    size_t told_of;
    const char *ahead; /* families of the lines before this one are expected */
    uint64_t n_samples;
    sgc_label *labels;
    size_t labels_room;
    uint64_t n_layouts;
    sgc__model models[SGC__MODELS];
    sgc__model *order[SGC__MODELS]; /* that of the last line first */
    bool apart;                     /* the last line is of no model */
    bool retold;                    /* metadata came: the next sample may be of another family */
    sgc__arena scratch;             /* what the current line needs */
    sgc__arena kept;     /* names whose escapes were resolved: the page's own bytes hold the others */
    sgc__strict *strict; /* OpenMetrics with strict=True, else NULL */
} sgc__parser;

/* To be called before the families of the line at p are looked up. */
void sgc__families_ahead(sgc__parser *ps, const char *p);
/* Reads the whole page; stops at the first error, which fills *err. */
sgc_status sgc__parser_run(sgc__parser *parser, const char *data, size_t len, const sgc_options *options,
                           sgc_error *err);
void sgc__parser_free(sgc__parser *parser);

sgc_status sgc__parser_fail(const sgc__parser *parser, const char *reason, const char *at);
sgc_status sgc__parser_limit(const sgc__parser *parser, const char *limit, uint64_t allowed, const char *at);

/* ----------------------------------------------------- strict OpenMetrics */

enum { SGC__META_HELP = 1, SGC__META_TYPE = 2, SGC__META_UNIT = 4 };

/* Every MUST that a line alone cannot break: grouping, order, suffixes,
 * uniqueness, bucket rules. Each call gives NULL or the rule that was broken;
 * *status is NOMEM where memory ran out instead. */
sgc__strict *sgc__strict_new(void);
void sgc__strict_free(sgc__strict *strict);
const char *sgc__strict_meta(sgc__strict *strict, sgc__parser *parser, size_t family, int kind,
                             sgc_status *status);
const char *sgc__strict_sample(sgc__strict *strict, sgc__parser *parser, const sgc__sample *sample,
                               sgc_status *status);
const char *sgc__strict_end(sgc__strict *strict, sgc__parser *parser, sgc_status *status);

#endif
