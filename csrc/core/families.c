/*
 * families.c - the families of a page, found by name, and which sample names
 * belong to which type.
 */
#include "parse.h"

static sgc_str name_at(const void *owner, size_t position)
{
    const sgc__families *families = owner;

    return sgc__family_name(&families->list[position]);
}

void sgc__families_free(sgc__families *families)
{
    sgc__release(families->list);
    sgc__release(families->metas);
    sgc__index_free(&families->index);
    memset(families, 0, sizeof *families);
}

size_t sgc__families_find(const sgc__families *families, sgc_str name)
{
    uint32_t hash;

    return sgc__index_find(&families->index, name, &hash, name_at, families);
}

void sgc__families_expect(const sgc__families *families, sgc_str name)
{
    sgc__index_expect(&families->index, name);
}

static bool grow(sgc__families *families)
{
    size_t room = sgc__grow(families->room, 96);
    sgc__family *list = sgc__resize(families->list, room, sizeof *list);

    if (!list)
        return false;
    families->list = list;
    families->room = room;
    return true;
}

size_t sgc__families_take(sgc__families *families, sgc_str name)
{
    uint32_t hash;
    size_t found = sgc__index_find(&families->index, name, &hash, name_at, families);

    if (found != SIZE_MAX)
        return found;
    if (families->n == families->room && !grow(families))
        return SIZE_MAX;
    families->list[families->n] = (sgc__family){.name = name.ptr, .name_len = (uint32_t)name.len};
    if (!sgc__index_add(&families->index, hash))
        return SIZE_MAX;
    return families->n++;
}

sgc__meta *sgc__families_meta(sgc__families *families, sgc__family *family)
{
    if (!family->meta) {
        if (families->n_metas == families->metas_room) {
            size_t room = sgc__grow(families->metas_room, 96);
            sgc__meta *metas = sgc__resize(families->metas, room, sizeof *metas);
            if (!metas)
                return NULL;
            families->metas = metas;
            families->metas_room = room;
        }
        families->metas[families->n_metas] = (sgc__meta){{NULL, 0}, {NULL, 0}};
        family->meta = (uint32_t)++families->n_metas;
    }
    return &families->metas[family->meta - 1];
}

/* The name of a sample or family on the line at p, if it is a plain one. */
static sgc_str name_on_line(const char *p, const char *end)
{
    const char *stop;

    if (end - p > 7 && p[0] == '#' && p[1] == ' ' && p[6] == ' ') /* TYPE, HELP or UNIT */
        p += 7;
    stop = sgc__scan_name(p, end);
    return (sgc_str){p, (size_t)(stop - p)};
}

enum { MANY_FAMILIES = 1 << 14, AHEAD = 512 /* bytes */ };

/* Where families are too many for the caches, the places at which those of the
 * next lines will be looked for are loaded meanwhile. */
void sgc__families_ahead(sgc__parser *ps, const char *p)
{
    if (SGC_LIKELY(ps->families.n < MANY_FAMILIES))
        return;
    if (ps->ahead < p)
        ps->ahead = p;
    while (ps->ahead - p < AHEAD && ps->ahead < ps->end) {
        sgc_str name = name_on_line(ps->ahead, ps->end);
        const char *stop = memchr(ps->ahead, '\n', (size_t)(ps->end - ps->ahead));
        sgc__families_expect(&ps->families, name);
        while (name.len && name.ptr[--name.len] != '_')
            ;
        if (name.len)
            sgc__families_expect(&ps->families, name);
        ps->ahead = stop ? stop + 1 : ps->end;
    }
}

bool sgc__suffix_fits(sgc_type type, sgc_str suffix)
{
    static const char *const suffixes[][4] = {
        [SGC_TYPE_COUNTER] = {"_total", "_created"},
        [SGC_TYPE_INFO] = {"_info"},
        [SGC_TYPE_HISTOGRAM] = {"_bucket", "_count", "_sum", "_created"},
        [SGC_TYPE_GAUGEHISTOGRAM] = {"_bucket", "_gcount", "_gsum"},
        [SGC_TYPE_SUMMARY] = {"_count", "_sum", "_created"},
    };

    if (!suffix.len)
        return true;
    if ((size_t)type >= sizeof suffixes / sizeof *suffixes)
        return false;
    for (int i = 0; i < 4 && suffixes[type][i]; i++)
        if (sgc__eq(suffix, (sgc_str){suffixes[type][i], strlen(suffixes[type][i])}))
            return true;
    return false;
}
