/*
 * family.c - the families of a page:
 *
 *     class Families(Mapping[str, Family])
 *     class Family: name, type, help, unit, samples
 */
#include "binding.h"

typedef struct FamiliesObject {
    PyObject ob_base;
    PageObject *page;
} FamiliesObject;

typedef struct FamilyObject {
    PyObject ob_base;
    PageObject *page;
    size_t index;
} FamilyObject;

/* ------------------------------------------------------------------- Family */

PyObject *core_family_new(PageObject *page, size_t index)
{
    PyTypeObject *type = core_state_of((PyObject *)page)->family;
    FamilyObject *self = (FamilyObject *)type->tp_alloc(type, 0);
    if (self) {
        self->page = (PageObject *)Py_NewRef(page);
        self->index = index;
    }
    return (PyObject *)self;
}

static void family_dealloc(PyObject *object)
{
    Py_XDECREF(((FamilyObject *)object)->page);
    core_free(object);
}

static sgc_family family_read(PyObject *object)
{
    FamilyObject *self = (FamilyObject *)object;
    sgc_family family;
    sgc_page_family(self->page->page, self->index, &family);
    return family;
}

static PyObject *family_name(PyObject *object, void *unused)
{
    (void)unused;
    return core_text(family_read(object).name);
}

static PyObject *family_type(PyObject *object, void *unused)
{
    (void)unused;
    return core_text_z(sgc_type_text(family_read(object).type));
}

static PyObject *family_help(PyObject *object, void *unused)
{
    (void)unused;
    sgc_str help = family_read(object).help;
    bool quotes = ((FamilyObject *)object)->page->input.options.format == SGC_FORMAT_OPENMETRICS;
    char *plain = PyMem_Malloc(help.len + 1);
    if (!plain)
        return PyErr_NoMemory();
    PyObject *text = core_text((sgc_str){plain, sgc_unescape_help(help, quotes, plain)});
    PyMem_Free(plain);
    return text;
}

static PyObject *family_unit(PyObject *object, void *unused)
{
    (void)unused;
    return core_text(family_read(object).unit);
}

static PyObject *family_samples(PyObject *object, void *unused)
{
    (void)unused;
    FamilyObject *self = (FamilyObject *)object;
    sgc_family family = family_read(object);
    return core_page_family_samples(self->page, &family, self->index);
}

static PyObject *family_key(PyObject *object)
{
    return Py_BuildValue("(NNNNN)", family_name(object, NULL), family_type(object, NULL),
                         family_help(object, NULL), family_unit(object, NULL), family_samples(object, NULL));
}

static PyObject *family_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, Py_TYPE(a)) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *left = family_key(a);
    PyObject *right = left ? family_key(b) : NULL;
    PyObject *answer = right ? PyObject_RichCompare(left, right, op) : NULL;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return answer;
}

static Py_hash_t family_hash(PyObject *object)
{
    PyObject *name = family_name(object, NULL);
    Py_hash_t hash = name ? PyObject_Hash(name) : -1;
    Py_XDECREF(name);
    return hash;
}

static PyObject *family_repr(PyObject *object)
{
    sgc_family family = family_read(object);
    PyObject *name = family_name(object, NULL);
    PyObject *text = name ? PyUnicode_FromFormat("<Family %R: %s, %zu samples>", name,
                                                 sgc_type_text(family.type), family.n_samples)
                          : NULL;
    Py_XDECREF(name);
    return text;
}

static PyGetSetDef family_getset[] = {
    {"name", family_name, NULL, PyDoc_STR("str: the name, without the suffixes of its samples."), NULL},
    {"type", family_type, NULL, PyDoc_STR("str: what TYPE says: 'gauge', ...; 'unknown' where nothing does."),
     NULL},
    {"help", family_help, NULL, PyDoc_STR("str: what HELP says, '' where nothing does."), NULL},
    {"unit", family_unit, NULL, PyDoc_STR("str: what UNIT says, '' where nothing does."), NULL},
    {"samples", family_samples, NULL, PyDoc_STR("Samples: its samples, in page order."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot family_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The samples that share a TYPE line. Compares by all that it says.")},
    {Py_tp_dealloc, family_dealloc},
    {Py_tp_repr, family_repr},
    {Py_tp_hash, family_hash},
    {Py_tp_richcompare, family_compare},
    {Py_tp_methods, core_view_methods},
    {Py_tp_getset, family_getset},
    {0, NULL},
};

PyType_Spec core_family_spec = {
    .name = "sglang_collect._core.Family",
    .basicsize = sizeof(FamilyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = family_slots,
};

/* ----------------------------------------------------------------- Families */

PyObject *core_families_new(PageObject *page)
{
    PyTypeObject *type = core_state_of((PyObject *)page)->families;
    FamiliesObject *self = (FamiliesObject *)type->tp_alloc(type, 0);
    if (self)
        self->page = (PageObject *)Py_NewRef(page);
    return (PyObject *)self;
}

static void families_dealloc(PyObject *object)
{
    Py_XDECREF(((FamiliesObject *)object)->page);
    core_free(object);
}

static Py_ssize_t families_len(PyObject *object)
{
    return (Py_ssize_t)sgc_page_n_families(((FamiliesObject *)object)->page->page);
}

/* 1 where `key` is the name of a family, 0 where it is not, -1 with an exception. */
static int families_find(PyObject *object, PyObject *key, size_t *index)
{
    Py_ssize_t len;
    if (!PyUnicode_Check(key))
        return 0;
    const char *name = PyUnicode_AsUTF8AndSize(key, &len);
    if (!name) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    *index = sgc_page_find(((FamiliesObject *)object)->page->page, (sgc_str){name, (size_t)len});
    return *index != SIZE_MAX;
}

static PyObject *families_subscript(PyObject *object, PyObject *key)
{
    size_t index;
    int found = families_find(object, key, &index);
    if (found > 0)
        return core_family_new(((FamiliesObject *)object)->page, index);
    if (found == 0)
        core_raise_key(key);
    return NULL;
}

static int families_contains(PyObject *object, PyObject *key)
{
    size_t index;
    return families_find(object, key, &index);
}

static PyObject *families_iter(PyObject *object)
{
    sgc_page *page = ((FamiliesObject *)object)->page->page;
    PyObject *names = PyTuple_New(families_len(object));
    for (Py_ssize_t i = 0; names && i < families_len(object); i++) {
        sgc_family family;
        sgc_page_family(page, (size_t)i, &family);
        PyObject *name = core_text(family.name);
        if (name)
            PyTuple_SET_ITEM(names, i, name);
        else
            Py_CLEAR(names);
    }
    PyObject *iter = names ? PyObject_GetIter(names) : NULL;
    Py_XDECREF(names);
    return iter;
}

static PyObject *families_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Families: %zd>", families_len(object));
}

static PyType_Slot families_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A mapping of Family by name, in page order, each made when asked for.")},
    {Py_tp_dealloc, families_dealloc},
    {Py_tp_repr, families_repr},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_iter, families_iter},
    {Py_tp_methods, core_view_methods},
    {Py_sq_contains, families_contains},
    {Py_mp_length, families_len},
    {Py_mp_subscript, families_subscript},
    {0, NULL},
};

PyType_Spec core_families_spec = {
    .name = "sglang_collect._core.Families",
    .basicsize = sizeof(FamiliesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = families_slots,
};
