/*
 * columns.c - a page by columns, for programs that reckon with all of it:
 *
 *     class Values:   the values of a page, by the buffer protocol
 *     class Series:   name, labels
 *     class Columns:  series: tuple[Series, ...], values: memoryview
 *
 * A series is the same object on every page of a target that has it, so that
 * what was worked out for it once, or for the whole tuple, holds until the page
 * has other lines. The core tells by the bytes of both pages which series those
 * are; a Columns keeps its page for the next one to be compared with.
 */
#include "binding.h"

#include <stdatomic.h>

/* ------------------------------------------------------------------- Values */

typedef struct ValuesObject {
    PyObject ob_base;
    PageObject *page;
    Py_ssize_t len, stride; /* of the buffers, which point here */
} ValuesObject;

static PyObject *values_new(PageObject *page)
{
    PyTypeObject *type = core_state_of((PyObject *)page)->values;
    ValuesObject *self = (ValuesObject *)type->tp_alloc(type, 0);
    if (self) {
        size_t stride;
        sgc_page_values(page->page, &stride);
        self->page = (PageObject *)Py_NewRef(page);
        self->len = (Py_ssize_t)sgc_page_n_samples(page->page);
        self->stride = (Py_ssize_t)stride;
    }
    return (PyObject *)self;
}

PyObject *core_values_view(PageObject *page)
{
    PyObject *values = values_new(page);
    PyObject *view = values ? PyMemoryView_FromObject(values) : NULL;
    Py_XDECREF(values);
    return view;
}

static void values_dealloc(PyObject *object)
{
    Py_XDECREF(((ValuesObject *)object)->page);
    core_free(object);
}

static Py_ssize_t values_len(PyObject *object)
{
    return ((ValuesObject *)object)->len;
}

/* Does one who asks like that get along with values that stand apart? */
static bool takes_strides(int flags)
{
    return (flags & PyBUF_STRIDES) == PyBUF_STRIDES && (flags & PyBUF_C_CONTIGUOUS) != PyBUF_C_CONTIGUOUS &&
           (flags & PyBUF_F_CONTIGUOUS) != PyBUF_F_CONTIGUOUS &&
           (flags & PyBUF_ANY_CONTIGUOUS) != PyBUF_ANY_CONTIGUOUS;
}

static int values_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    static const double none = 0.0;
    ValuesObject *self = (ValuesObject *)object;
    size_t stride;
    const double *first = sgc_page_values(self->page->page, &stride);

    view->obj = NULL;
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "the values of a page are read-only");
        return -1;
    }
    if (self->len > 1 && !takes_strides(flags)) {
        PyErr_SetString(PyExc_BufferError, "the values of a page are not contiguous");
        return -1;
    }
    *view = (Py_buffer){
        .buf = (void *)(first ? first : &none),
        .obj = Py_NewRef(object),
        .len = self->len * (Py_ssize_t)sizeof(double),
        .itemsize = sizeof(double),
        .readonly = 1,
        .ndim = 1,
        .format = flags & PyBUF_FORMAT ? "d" : NULL,
        .shape = flags & PyBUF_ND ? &self->len : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? &self->stride : NULL,
    };
    return 0;
}

static PyObject *values_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Values: %zd>", values_len(object));
}

static PyType_Slot values_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The values of a page: what Page.values is a view of.")},
    {Py_tp_dealloc, values_dealloc},
    {Py_tp_repr, values_repr},
    {Py_tp_methods, core_buffer_methods},
    {Py_sq_length, values_len},
    {Py_bf_getbuffer, values_get_buffer},
    {0, NULL},
};

PyType_Spec core_values_spec = {
    .name = "sglang_collect._core.Values",
    .basicsize = sizeof(ValuesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = values_slots,
};

/* ------------------------------------------------------------------- Series */

typedef struct SeriesObject {
    PyObject ob_base;
    PyObject *name;
    PyObject *dict;          /* nobody else has it */
    PyObject *labels;        /* a read-only view of it; NULL until asked for */
    _Atomic(Py_hash_t) hash; /* -1 until asked for */
} SeriesObject;

static PyObject *series_new(PageObject *page, size_t index)
{
    SeriesObject *self = PyObject_New(SeriesObject, core_state_of((PyObject *)page)->series);
    sgc_sample sample;

    if (!self)
        return NULL;
    sgc_page_sample(page->page, index, &sample);
    self->labels = NULL;
    atomic_init(&self->hash, -1);
    self->name = core_sample_name(page, sample.name);
    self->dict = self->name ? core_sample_labels(page, index) : NULL;
    if (!self->dict)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void series_dealloc(PyObject *object)
{
    SeriesObject *self = (SeriesObject *)object;
    Py_XDECREF(self->name);
    Py_XDECREF(self->dict);
    Py_XDECREF(self->labels);
    core_free(object);
}

static PyObject *series_name(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((SeriesObject *)object)->name);
}

static PyObject *series_labels(PyObject *object, void *unused)
{
    (void)unused;
    SeriesObject *self = (SeriesObject *)object;
    PyObject *labels = core_kept(object, &self->labels);
    return labels ? labels : core_keep(object, &self->labels, PyDictProxy_New(self->dict));
}

static Py_hash_t series_hash(PyObject *object)
{
    SeriesObject *self = (SeriesObject *)object;
    Py_hash_t hash = atomic_load_explicit(&self->hash, memory_order_relaxed);
    if (hash != -1)
        return hash;
    PyObject *items = PyDict_Items(self->dict);
    PyObject *labels = items ? PyFrozenSet_New(items) : NULL;
    PyObject *key = labels ? PyTuple_Pack(2, self->name, labels) : NULL;
    if (key)
        hash = PyObject_Hash(key);
    atomic_store_explicit(&self->hash, hash, memory_order_relaxed);
    Py_XDECREF(key);
    Py_XDECREF(labels);
    Py_XDECREF(items);
    return hash;
}

static PyObject *series_compare(PyObject *a, PyObject *b, int op)
{
    SeriesObject *left = (SeriesObject *)a, *right = (SeriesObject *)b;
    if (!Py_IS_TYPE(b, Py_TYPE(a)) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    int equal = PyObject_RichCompareBool(left->name, right->name, Py_EQ);
    if (equal > 0)
        equal = PyObject_RichCompareBool(left->dict, right->dict, Py_EQ);
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *series_repr(PyObject *object)
{
    SeriesObject *self = (SeriesObject *)object;
    return PyUnicode_FromFormat("Series(name=%R, labels=%R)", self->name, self->dict);
}

static PyGetSetDef series_getset[] = {
    {"name", series_name, NULL, PyDoc_STR("str: the name as written, suffix included."), NULL},
    {"labels", series_labels, NULL,
     PyDoc_STR("MappingProxyType[str, str]: read-only, always the same, in page order."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot series_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("What the values of many pages belong to. Hashable; compares by name and labels.")},
    {Py_tp_dealloc, series_dealloc},
    {Py_tp_repr, series_repr},
    {Py_tp_hash, series_hash},
    {Py_tp_richcompare, series_compare},
    {Py_tp_methods, core_view_methods},
    {Py_tp_getset, series_getset},
    {0, NULL},
};

PyType_Spec core_series_spec = {
    .name = "sglang_collect._core.Series",
    .basicsize = sizeof(SeriesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = series_slots,
};

/* ------------------------------------------------------------------ Columns */

typedef struct ColumnsObject {
    PyObject ob_base;
    PageObject *page;
    PyObject *series; /* tuple of Series */
} ColumnsObject;

/* The samples of the other page that are of the same series; memory for PyMem_Free. */
static uint32_t *align(core_state *state, const sgc_page *page, const sgc_page *other)
{
    uint32_t *found = PyMem_New(uint32_t, sgc_page_n_samples(page) + 1);
    sgc_error err;

    if (!found) {
        PyErr_NoMemory();
        return NULL;
    }
    PyThreadState *gil = PyEval_SaveThread();
    sgc_status status = sgc_page_align(page, other, found, &err);
    PyEval_RestoreThread(gil);
    if (status != SGC_OK) {
        core_raise(state, &err);
        PyMem_Free(found);
        return NULL;
    }
    return found;
}

/* A tuple of the series of a page, taken from those of an earlier one where
 * `found` says where they are. */
static PyObject *series_collect(PageObject *page, const uint32_t *found, PyObject *earlier)
{
    Py_ssize_t n = (Py_ssize_t)sgc_page_n_samples(page->page);
    PyObject *all = PyTuple_New(n);
    for (Py_ssize_t i = 0; all && i < n; i++) {
        bool known = found && found[i] != SGC_NO_SAMPLE;
        PyObject *series =
            known ? Py_NewRef(PyTuple_GET_ITEM(earlier, found[i])) : series_new(page, (size_t)i);
        if (series)
            PyTuple_SET_ITEM(all, i, series);
        else
            Py_CLEAR(all);
    }
    return all;
}

static PyObject *series_like(PageObject *page, const ColumnsObject *like)
{
    Py_ssize_t n = (Py_ssize_t)sgc_page_n_samples(page->page), same = 0;
    uint32_t *found = align(core_state_of((PyObject *)page), page->page, like->page->page);
    if (!found)
        return NULL;
    while (same < n && found[same] == (uint32_t)same)
        same++;
    PyObject *series = same == n && n == PyTuple_GET_SIZE(like->series)
                           ? Py_NewRef(like->series)
                           : series_collect(page, found, like->series);
    PyMem_Free(found);
    return series;
}

PyObject *core_columns_new(PageObject *page, PyObject *like)
{
    PyTypeObject *type = core_state_of((PyObject *)page)->columns;

    if (like != Py_None && !Py_IS_TYPE(like, type))
        return PyErr_Format(PyExc_TypeError, "like must be Columns or None, not %.100s",
                            Py_TYPE(like)->tp_name);
    PyObject *series =
        like == Py_None ? series_collect(page, NULL, NULL) : series_like(page, (ColumnsObject *)like);
    ColumnsObject *self = series ? (ColumnsObject *)type->tp_alloc(type, 0) : NULL;
    if (self) {
        self->page = (PageObject *)Py_NewRef(page);
        self->series = Py_NewRef(series);
    }
    Py_XDECREF(series);
    return (PyObject *)self;
}

static void columns_dealloc(PyObject *object)
{
    ColumnsObject *self = (ColumnsObject *)object;
    Py_XDECREF(self->page);
    Py_XDECREF(self->series);
    core_free(object);
}

static PyObject *columns_series(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((ColumnsObject *)object)->series);
}

static PyObject *columns_values(PyObject *object, void *unused)
{
    (void)unused;
    return core_values_view(((ColumnsObject *)object)->page);
}

static PyObject *columns_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Columns: %zd>", PyTuple_GET_SIZE(((ColumnsObject *)object)->series));
}

static PyGetSetDef columns_getset[] = {
    {"series", columns_series, NULL,
     PyDoc_STR("tuple[Series, ...]: the series of every sample, in page order."), NULL},
    {"values", columns_values, NULL, PyDoc_STR("memoryview of float64: Page.values, one for each series."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(columns_doc,
             "A page by columns: values[i] is the value of series[i]. Keeps its page alive.\n\n"
             "Columns made `like` those of an earlier page have the same Series where the page has\n"
             "the same text, and the same tuple where all of it is the same: what was worked out\n"
             "for the tuple then still holds::\n\n"
             "    columns = page.columns(like=columns)\n"
             "    if columns.series is not known:\n"
             "        known = columns.series\n"
             "        running = [i for i, one in enumerate(known) if one.name == 'sglang:num_running_reqs']\n"
             "    total = sum(columns.values[i] for i in running)");

static PyType_Slot columns_slots[] = {
    {Py_tp_doc, (void *)columns_doc},   {Py_tp_dealloc, columns_dealloc}, {Py_tp_repr, columns_repr},
    {Py_tp_methods, core_view_methods}, {Py_tp_getset, columns_getset},   {0, NULL},
};

PyType_Spec core_columns_spec = {
    .name = "sglang_collect._core.Columns",
    .basicsize = sizeof(ColumnsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = columns_slots,
};
