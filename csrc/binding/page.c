/*
 * page.c - one exposition, parsed:
 *
 *     class Page:
 *         samples: Samples
 *         families: Families
 *         format: str
 *         values: memoryview
 *         def columns(like=None) -> Columns
 *         def value(name, /, **labels) -> float | None
 *         def histogram(name, /, **labels) -> Histogram | None
 *
 * A page holds its input and the core's page over it. Nothing else is made
 * until it is asked for, and what is made points back at the page.
 */
#include "binding.h"

PyObject *core_page_new(core_state *state, core_input *input, const char *label, double elapsed)
{
    sgc_page *page = NULL;
    sgc_error err;

    PyThreadState *gil = PyEval_SaveThread();
    sgc_status status = sgc_page_parse(input->data, input->len, &input->options, &page, &err);
    PyEval_RestoreThread(gil);
    if (status != SGC_OK) {
        core_input_clear(input);
        return core_raise_error(core_error(state, &err, label, elapsed));
    }
    PageObject *self = (PageObject *)state->page->tp_alloc(state->page, 0);
    if (!self) {
        sgc_page_free(page);
        core_input_clear(input);
        return NULL;
    }
    self->input = *input;
    self->input.options.format = sgc_page_format(page);
    self->page = page;
    return (PyObject *)self;
}

static void page_dealloc(PyObject *object)
{
    PageObject *self = (PageObject *)object;
    sgc_page_free(self->page);
    core_input_clear(&self->input);
    Py_XDECREF(self->order);
    core_patterns_free(self->patterns);
    core_free(object);
}

static PyObject *page_repr(PyObject *object)
{
    sgc_page *page = ((PageObject *)object)->page;
    return PyUnicode_FromFormat("<Page: %zu samples in %zu families>", sgc_page_n_samples(page),
                                sgc_page_n_families(page));
}

static PyObject *page_samples(PyObject *object, void *unused)
{
    (void)unused;
    PageObject *self = (PageObject *)object;
    return core_samples_new(self, NULL, 0, 1, (Py_ssize_t)sgc_page_n_samples(self->page));
}

static PyObject *page_families(PyObject *object, void *unused)
{
    (void)unused;
    return core_families_new((PageObject *)object);
}

static PyObject *page_format(PyObject *object, void *unused)
{
    (void)unused;
    return core_format_text(((PageObject *)object)->input.options.format);
}

static PyObject *page_values(PyObject *object, void *unused)
{
    (void)unused;
    return core_values_view((PageObject *)object);
}

PyDoc_STRVAR(page_columns_doc,
             "columns($self, like=None)\n--\n\n"
             "The page by columns: which series it has, and their values.\n\n"
             "like: the Columns of an earlier page of the same target, or None. Each series whose\n"
             "    text is on both pages is then the same object, but for names with escapes, and\n"
             "    `series` the same tuple where both have the same ones in the same order.\n\n"
             "Returns Columns. Raises TypeError for any other `like`.");

static PyObject *page_columns(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"like", NULL};
    PyObject *like = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:columns", names, &like))
        return NULL;
    return core_columns_new((PageObject *)object, like);
}

/* -------------------------------------------------------- samples by family */

/* Writes sample indices grouped by family behind `n_families` starts, each of
 * which is where the group of that family begins in the same array. */
static void sort_by_family(const sgc_page *page, size_t *order, size_t n_families)
{
    size_t n_samples = sgc_page_n_samples(page), at = n_families;
    sgc_family family;
    sgc_sample sample;

    for (size_t i = 0; i < n_families; i++) {
        sgc_page_family(page, i, &family);
        order[i] = at;
        at += family.n_samples;
    }
    for (size_t i = 0; i < n_samples; i++) {
        sgc_page_sample(page, i, &sample);
        order[order[sample.family]++] = i;
    }
    for (size_t i = 0; i < n_families; i++) {
        sgc_page_family(page, i, &family);
        order[i] -= family.n_samples;
    }
}

/* Made only where a family's samples do not stand together, and one for all of
 * them, which keeps a page of interleaved families linear. */
static PyObject *order_new(const sgc_page *page)
{
    size_t n_families = sgc_page_n_families(page);
    size_t n = n_families + sgc_page_n_samples(page);
    PyObject *order = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(size_t)));
    if (order)
        sort_by_family(page, (size_t *)(void *)PyBytes_AS_STRING(order), n_families);
    return order;
}

PyObject *core_page_family_samples(PageObject *self, const sgc_family *family, size_t index)
{
    Py_ssize_t n = (Py_ssize_t)family->n_samples;
    if (n == 0 || family->last - family->first + 1 == family->n_samples)
        return core_samples_new(self, NULL, (Py_ssize_t)family->first, 1, n);

    PyObject *order = core_kept((PyObject *)self, &self->order);
    if (!order)
        order = core_keep((PyObject *)self, &self->order, order_new(self->page));
    if (!order)
        return NULL;
    size_t start = ((size_t *)(void *)PyBytes_AS_STRING(order))[index];
    PyObject *samples = core_samples_new(self, order, (Py_ssize_t)start, 1, n);
    Py_DECREF(order);
    return samples;
}

/* ------------------------------------------------------------------ look-up */

/* The arguments (name, /, **labels). */
typedef struct query {
    sgc_str name;
    sgc_label *labels;
    size_t n;
} query;

static int query_init(query *query, const char *method, PyObject *const *args, Py_ssize_t n_args,
                      PyObject *keys)
{
    if (n_args != 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes the name of a metric and labels as keywords", method);
        return -1;
    }
    if (core_view(args[0], "name", &query->name) < 0)
        return -1;
    query->n = keys ? (size_t)PyTuple_GET_SIZE(keys) : 0;
    query->labels = PyMem_New(sgc_label, query->n + 1);
    if (!query->labels) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < query->n; i++) {
        sgc_label *label = &query->labels[i];
        label->escaped = false;
        if (core_view(PyTuple_GET_ITEM(keys, (Py_ssize_t)i), "a label name", &label->name) < 0 ||
            core_view(args[n_args + (Py_ssize_t)i], "a label value", &label->value) < 0) {
            PyMem_Free(query->labels);
            return -1;
        }
    }
    return 0;
}

PyDoc_STRVAR(page_value_doc,
             "value($self, name, /, **labels)\n--\n\n"
             "The value of the one sample of that name, suffix included, that has these labels.\n\n"
             "An empty label equals an absent one; labels that are not given may be any.\n"
             "Returns None where there is no such sample. Raises LookupError where there\n"
             "are several: nothing is added up unasked.");

static PyObject *page_value(PyObject *object, PyObject *const *args, Py_ssize_t n_args, PyObject *keys)
{
    PageObject *self = (PageObject *)object;
    query asked;
    size_t first = 0;
    sgc_sample sample;

    if (query_init(&asked, "value", args, n_args, keys) < 0)
        return NULL;
    size_t n = sgc_page_match(self->page, asked.name, asked.labels, asked.n, &first);
    PyMem_Free(asked.labels);
    if (n == 0)
        Py_RETURN_NONE;
    if (n > 1)
        return PyErr_Format(PyExc_LookupError, "%zu samples match %R: name labels that tell them apart", n,
                            args[0]);
    sgc_page_sample(self->page, first, &sample);
    return PyFloat_FromDouble(sample.value);
}

/* A plan with one extract: the histograms of that name whose labels are those given. */
static sgc_status histogram_plan(const query *asked, sgc_plan **plan, sgc_error *err)
{
    const sgc_str no_prefix = {"", 0};
    sgc_cond *where = PyMem_New(sgc_cond, asked->n + 1);
    sgc_extract extract = {
        .kind = SGC_KIND_HISTOGRAM, .names = &asked->name, .n_names = 1, .where = where, .n_where = asked->n};

    if (!where) {
        err->code = SGC_NOMEM;
        return SGC_NOMEM;
    }
    for (size_t i = 0; i < asked->n; i++)
        where[i] = (sgc_cond){.label = asked->labels[i].name,
                              .op = SGC_OP_IS,
                              .values = &asked->labels[i].value,
                              .n_values = 1};
    sgc_status status = sgc_plan_new(&no_prefix, 1, plan, err);
    if (status == SGC_OK) {
        status = sgc_plan_add(*plan, &extract, err);
        if (status != SGC_OK)
            sgc_plan_free(*plan);
    }
    PyMem_Free(where);
    return status;
}

PyDoc_STRVAR(page_histogram_doc,
             "histogram($self, name, /, **labels)\n--\n\n"
             "The histograms (or summaries) of the family of that name that have these\n"
             "labels, added up.\n\n"
             "An empty label equals an absent one. Returns None where there is none, and\n"
             "where its buckets make no histogram (a count that falls, no +Inf bucket).");

static PyObject *page_histogram(PyObject *object, PyObject *const *args, Py_ssize_t n_args, PyObject *keys)
{
    PageObject *self = (PageObject *)object;
    core_state *state = core_state_of(object);
    query asked;
    sgc_plan *plan = NULL;
    sgc_error err;

    if (query_init(&asked, "histogram", args, n_args, keys) < 0)
        return NULL;
    sgc_status status = histogram_plan(&asked, &plan, &err);
    PyMem_Free(asked.labels);
    if (status != SGC_OK)
        return core_raise(state, &err);
    sgc_fold *fold = core_fold_input(state, plan, &self->input);
    sgc_plan_free(plan);
    if (!fold)
        return NULL;
    const sgc_slot *slot = sgc_fold_slot(fold, 0);
    PyObject *histogram =
        slot->kind == SGC_SLOT_HIST ? core_histogram_new(state, slot->hist) : Py_NewRef(Py_None);
    sgc_fold_free(fold);
    return histogram;
}

/* --------------------------------------------------------------------- type */

static PyMethodDef page_methods[] = {
    {"columns", (PyCFunction)(void (*)(void))page_columns, METH_VARARGS | METH_KEYWORDS, page_columns_doc},
    {"value", (PyCFunction)(void (*)(void))page_value, METH_FASTCALL | METH_KEYWORDS, page_value_doc},
    {"histogram", (PyCFunction)(void (*)(void))page_histogram, METH_FASTCALL | METH_KEYWORDS,
     page_histogram_doc},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef page_getset[] = {
    {"samples", page_samples, NULL, PyDoc_STR("Samples: every sample, in page order."), NULL},
    {"families", page_families, NULL, PyDoc_STR("Families: family by name, in page order."), NULL},
    {"format", page_format, NULL, PyDoc_STR("str: 'text' or 'openmetrics', as it was read."), NULL},
    {"values", page_values, NULL,
     PyDoc_STR("memoryview of float64: the value of every sample, in page order; read-only, not copied.\n\n"
               "It is strided, keeps the page alive, and is taken by numpy.asarray(). A value may be NaN\n"
               "or infinite. Of length 0 where the page has no sample."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot page_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("One exposition, parsed and checked whole. Made by parse(); immutable.")},
    {Py_tp_dealloc, page_dealloc},
    {Py_tp_repr, page_repr},
    {Py_tp_methods, page_methods},
    {Py_tp_getset, page_getset},
    {0, NULL},
};

PyType_Spec core_page_spec = {
    .name = "sglang_collect._core.Page",
    .basicsize = sizeof(PageObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = page_slots,
};
