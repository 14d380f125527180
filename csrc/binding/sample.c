/*
 * sample.c - the samples of a page:
 *
 *     class Samples(Sequence[Sample])     a view: of a page, of a family, of a slice
 *     class Sample:   name, labels, value, timestamp, exemplar, family
 *     class Exemplar: labels, value, timestamp
 *
 * A sample is its page and a number; labels.c makes its name, and a dict of its
 * labels for each who asks. Two are equal where they say the same, whatever page
 * they are on (and NaN says the same as NaN).
 */
#include "binding.h"

#include <structmember.h>

#include <math.h>
#include <stddef.h>

typedef struct SamplesObject {
    PyObject ob_base;
    PageObject *page;
    PyObject *order; /* bytes of size_t, or NULL */
    Py_ssize_t start, step, len;
} SamplesObject;

static PyObject *float_or_none(double number)
{
    return isnan(number) ? Py_NewRef(Py_None) : PyFloat_FromDouble(number);
}

/* Hash of (name, labels, value, timestamp), with a dict in the second place. */
static Py_hash_t key_hash(PyObject *key)
{
    PyObject *items = key ? PyDict_Items(PyTuple_GET_ITEM(key, 1)) : NULL;
    PyObject *labels = items ? PyFrozenSet_New(items) : NULL;
    PyObject *all = labels ? PyTuple_Pack(4, PyTuple_GET_ITEM(key, 0), labels, PyTuple_GET_ITEM(key, 2),
                                          PyTuple_GET_ITEM(key, 3))
                           : NULL;
    Py_hash_t hash = all ? PyObject_Hash(all) : -1;
    Py_XDECREF(all);
    Py_XDECREF(labels);
    Py_XDECREF(items);
    Py_XDECREF(key);
    return hash;
}

/* Compares two objects of one type by their keys. */
static PyObject *key_compare(PyObject *a, PyObject *b, int op, PyObject *key_of(PyObject *))
{
    if (!Py_IS_TYPE(b, Py_TYPE(a)) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *left = key_of(a);
    PyObject *right = left ? key_of(b) : NULL;
    PyObject *answer = right ? PyObject_RichCompare(left, right, op) : NULL;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return answer;
}

/* ----------------------------------------------------------------- Exemplar */

typedef struct ExemplarObject {
    PyObject ob_base;
    PageObject *page;
    size_t index; /* of its sample */
} ExemplarObject;

static PyObject *exemplar_new(PageObject *page, size_t index)
{
    PyTypeObject *type = core_state_of((PyObject *)page)->exemplar;
    ExemplarObject *self = (ExemplarObject *)type->tp_alloc(type, 0);
    if (self) {
        self->page = (PageObject *)Py_NewRef(page);
        self->index = index;
    }
    return (PyObject *)self;
}

static void exemplar_dealloc(PyObject *object)
{
    Py_XDECREF(((ExemplarObject *)object)->page);
    core_free(object);
}

static sgc_exemplar exemplar_read(PyObject *object)
{
    ExemplarObject *self = (ExemplarObject *)object;
    sgc_exemplar exemplar = {0};
    sgc_page_exemplar(self->page->page, self->index, &exemplar);
    return exemplar;
}

static PyObject *exemplar_labels(PyObject *object, void *unused)
{
    (void)unused;
    ExemplarObject *self = (ExemplarObject *)object;
    return core_exemplar_labels(self->page, self->index, exemplar_read(object).n_labels);
}

static PyObject *exemplar_value(PyObject *object, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(exemplar_read(object).value);
}

static PyObject *exemplar_timestamp(PyObject *object, void *unused)
{
    (void)unused;
    return float_or_none(exemplar_read(object).timestamp);
}

static PyObject *exemplar_key(PyObject *object)
{
    sgc_exemplar exemplar = exemplar_read(object);
    return Py_BuildValue("(sNNN)", "", exemplar_labels(object, NULL), float_or_none(exemplar.value),
                         float_or_none(exemplar.timestamp));
}

static PyObject *exemplar_compare(PyObject *a, PyObject *b, int op)
{
    return key_compare(a, b, op, exemplar_key);
}

static Py_hash_t exemplar_hash(PyObject *object)
{
    return key_hash(exemplar_key(object));
}

static PyObject *exemplar_repr(PyObject *object)
{
    PyObject *labels = exemplar_labels(object, NULL);
    PyObject *value = labels ? exemplar_value(object, NULL) : NULL;
    PyObject *timestamp = value ? exemplar_timestamp(object, NULL) : NULL;
    PyObject *text = timestamp ? PyUnicode_FromFormat("Exemplar(labels=%R, value=%R, timestamp=%R)", labels,
                                                      value, timestamp)
                               : NULL;
    Py_XDECREF(labels);
    Py_XDECREF(value);
    Py_XDECREF(timestamp);
    return text;
}

static PyGetSetDef exemplar_getset[] = {
    {"labels", exemplar_labels, NULL, PyDoc_STR("dict[str, str]: a new dict, in page order."), NULL},
    {"value", exemplar_value, NULL, PyDoc_STR("float: the value of the observation."), NULL},
    {"timestamp", exemplar_timestamp, NULL,
     PyDoc_STR("float | None: seconds since 1970; None where the page gives none."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot exemplar_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("One observation behind a sample. Compares by labels, value and timestamp.")},
    {Py_tp_dealloc, exemplar_dealloc},
    {Py_tp_repr, exemplar_repr},
    {Py_tp_hash, exemplar_hash},
    {Py_tp_richcompare, exemplar_compare},
    {Py_tp_methods, core_view_methods},
    {Py_tp_getset, exemplar_getset},
    {0, NULL},
};

PyType_Spec core_exemplar_spec = {
    .name = "sglang_collect._core.Exemplar",
    .basicsize = sizeof(ExemplarObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = exemplar_slots,
};

/* ------------------------------------------------------------------- Sample */

/* Name and value are what nearly everybody asks for, and members are what the
 * interpreter gets quickest; the rest is made when asked for. */
typedef struct SampleObject {
    PyObject ob_base;
    PageObject *page;
    size_t index;
    PyObject *name;
    PyObject *value;
} SampleObject;

static PyObject *sample_new(PyTypeObject *type, PageObject *page, size_t index)
{
    SampleObject *self = PyObject_New(SampleObject, type);
    sgc_sample sample;

    if (!self)
        return NULL;
    sgc_page_sample(page->page, index, &sample);
    self->page = (PageObject *)Py_NewRef(page);
    self->index = index;
    self->name = core_sample_name(page, sample.name);
    self->value = PyFloat_FromDouble(sample.value);
    if (!self->name || !self->value)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void sample_dealloc(PyObject *object)
{
    SampleObject *self = (SampleObject *)object;
    Py_DECREF(self->page);
    Py_XDECREF(self->name);
    Py_XDECREF(self->value);
    core_free(object);
}

static sgc_sample sample_read(PyObject *object)
{
    SampleObject *self = (SampleObject *)object;
    sgc_sample sample;
    sgc_page_sample(self->page->page, self->index, &sample);
    return sample;
}

static PyObject *sample_labels(PyObject *object, void *unused)
{
    (void)unused;
    SampleObject *self = (SampleObject *)object;
    return core_sample_labels(self->page, self->index);
}

static PyObject *sample_timestamp(PyObject *object, void *unused)
{
    (void)unused;
    return float_or_none(sample_read(object).timestamp);
}

static PyObject *sample_exemplar(PyObject *object, void *unused)
{
    (void)unused;
    SampleObject *self = (SampleObject *)object;
    if (!sample_read(object).exemplar)
        Py_RETURN_NONE;
    return exemplar_new(self->page, self->index);
}

static PyObject *sample_family(PyObject *object, void *unused)
{
    (void)unused;
    return core_family_new(((SampleObject *)object)->page, sample_read(object).family);
}

/* (name, labels, value, timestamp), NaN as None. */
static PyObject *sample_key(PyObject *object)
{
    sgc_sample sample = sample_read(object);
    return Py_BuildValue("(ONNN)", ((SampleObject *)object)->name, sample_labels(object, NULL),
                         float_or_none(sample.value), float_or_none(sample.timestamp));
}

static PyObject *sample_compare(PyObject *a, PyObject *b, int op)
{
    return key_compare(a, b, op, sample_key);
}

static Py_hash_t sample_hash(PyObject *object)
{
    return key_hash(sample_key(object));
}

static PyObject *sample_repr(PyObject *object)
{
    SampleObject *self = (SampleObject *)object;
    PyObject *key = sample_key(object);
    PyObject *text = NULL;
    if (key) {
        PyObject *timestamp = PyTuple_GET_ITEM(key, 3);
        text = PyUnicode_FromFormat("Sample(name=%R, labels=%R, value=%R", self->name,
                                    PyTuple_GET_ITEM(key, 1), self->value);
        if (text && timestamp != Py_None)
            Py_SETREF(text, PyUnicode_FromFormat("%U, timestamp=%R", text, timestamp));
        if (text)
            Py_SETREF(text, PyUnicode_FromFormat("%U)", text));
    }
    Py_XDECREF(key);
    return text;
}

static PyMemberDef sample_members[] = {
    {"name", T_OBJECT_EX, offsetof(SampleObject, name), READONLY,
     PyDoc_STR("str: the name as written, suffix included.")},
    {"value", T_OBJECT_EX, offsetof(SampleObject, value), READONLY,
     PyDoc_STR("float: the value; it may be NaN or infinite.")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef sample_getset[] = {
    {"labels", sample_labels, NULL, PyDoc_STR("dict[str, str]: a new dict, in page order."), NULL},
    {"timestamp", sample_timestamp, NULL,
     PyDoc_STR("float | None: seconds since 1970; None where the page gives none."), NULL},
    {"exemplar", sample_exemplar, NULL, PyDoc_STR("Exemplar | None: OpenMetrics only."), NULL},
    {"family", sample_family, NULL, PyDoc_STR("Family: the family it belongs to."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sample_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("One line of a page. Compares by name, labels, value and timestamp.")},
    {Py_tp_dealloc, sample_dealloc},
    {Py_tp_repr, sample_repr},
    {Py_tp_hash, sample_hash},
    {Py_tp_richcompare, sample_compare},
    {Py_tp_methods, core_view_methods},
    {Py_tp_members, sample_members},
    {Py_tp_getset, sample_getset},
    {0, NULL},
};

PyType_Spec core_sample_spec = {
    .name = "sglang_collect._core.Sample",
    .basicsize = sizeof(SampleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sample_slots,
};

/* ------------------------------------------------------------------ Samples */

PyObject *core_samples_new(PageObject *page, PyObject *order, Py_ssize_t start, Py_ssize_t step,
                           Py_ssize_t len)
{
    PyTypeObject *type = core_state_of((PyObject *)page)->samples;
    SamplesObject *self = (SamplesObject *)type->tp_alloc(type, 0);
    if (self) {
        self->page = (PageObject *)Py_NewRef(page);
        self->order = Py_XNewRef(order);
        self->start = start;
        self->step = step;
        self->len = len;
    }
    return (PyObject *)self;
}

static void samples_dealloc(PyObject *object)
{
    SamplesObject *self = (SamplesObject *)object;
    Py_XDECREF(self->page);
    Py_XDECREF(self->order);
    core_free(object);
}

static Py_ssize_t samples_len(PyObject *object)
{
    return ((SamplesObject *)object)->len;
}

static PyObject *samples_item(PyObject *object, Py_ssize_t i)
{
    SamplesObject *self = (SamplesObject *)object;
    if (i < 0 || i >= self->len) {
        PyErr_SetString(PyExc_IndexError, "sample index out of range");
        return NULL;
    }
    size_t at = (size_t)(self->start + i * self->step);
    if (self->order)
        at = ((size_t *)(void *)PyBytes_AS_STRING(self->order))[at];
    return sample_new(core_state_of(object)->sample, self->page, at);
}

static PyObject *samples_slice(SamplesObject *self, PyObject *slice)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0)
        return NULL;
    Py_ssize_t len = PySlice_AdjustIndices(self->len, &start, &stop, step);
    if (len < 2) /* a step that is never taken may be of any size */
        step = 1;
    return core_samples_new(self->page, self->order, self->start + (len ? start * self->step : 0),
                            step * self->step, len);
}

static PyObject *samples_subscript(PyObject *object, PyObject *key)
{
    if (PySlice_Check(key))
        return samples_slice((SamplesObject *)object, key);
    if (!PyIndex_Check(key))
        return PyErr_Format(PyExc_TypeError, "a sample index must be an int or a slice, not %.100s",
                            Py_TYPE(key)->tp_name);
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred())
        return NULL;
    return samples_item(object, i < 0 ? i + samples_len(object) : i);
}

static PyObject *samples_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, Py_TYPE(a)) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    int equal = samples_len(a) == samples_len(b);
    for (Py_ssize_t i = 0; equal == 1 && i < samples_len(a); i++) {
        PyObject *left = samples_item(a, i);
        PyObject *right = left ? samples_item(b, i) : NULL;
        equal = right ? PyObject_RichCompareBool(left, right, Py_EQ) : -1;
        Py_XDECREF(left);
        Py_XDECREF(right);
    }
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *samples_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Samples: %zd>", samples_len(object));
}

static PyType_Slot samples_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("A sequence of Sample, each made when asked for. A slice is a view as well.")},
    {Py_tp_dealloc, samples_dealloc},
    {Py_tp_repr, samples_repr},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_richcompare, samples_compare},
    {Py_tp_iter, PySeqIter_New},
    {Py_tp_methods, core_view_methods},
    {Py_sq_length, samples_len},
    {Py_sq_item, samples_item},
    {Py_mp_length, samples_len},
    {Py_mp_subscript, samples_subscript},
    {0, NULL},
};

PyType_Spec core_samples_spec = {
    .name = "sglang_collect._core.Samples",
    .basicsize = sizeof(SamplesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = samples_slots,
};
