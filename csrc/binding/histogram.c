/*
 * histogram.c - a distribution as Prometheus tells it:
 *
 *     class Histogram:
 *         def __init__(bounds, counts, *, sum=None)
 *         bounds, counts: tuple[float, ...]
 *         count: float;  sum, mean: float | None
 *         def quantile(q, /) -> float | None
 *         def resolution(q, /) -> tuple[float, float] | None
 *         def summary(quantiles, /) -> dict | None
 *         def since(earlier, /) -> tuple[Histogram, bool]
 *         a + b, a - b
 *
 * The mathematics are the core's (hist.c).
 */
#include "binding.h"

#include <math.h>

typedef struct HistogramObject {
    PyObject ob_base;
    sgc_hist hist;
} HistogramObject;

static const sgc_hist *hist_of(PyObject *object)
{
    return &((HistogramObject *)object)->hist;
}

/* Takes over the arrays of `hist`. */
static PyObject *histogram_wrap(PyTypeObject *type, sgc_hist *hist)
{
    HistogramObject *self = (HistogramObject *)type->tp_alloc(type, 0);
    if (self)
        self->hist = *hist;
    else
        sgc_hist_free(hist);
    return (PyObject *)self;
}

/* The end of every function that makes one: wraps it, or raises what the core says. */
static PyObject *histogram_answer(PyTypeObject *type, sgc_status status, sgc_hist *hist, const sgc_error *err)
{
    return status == SGC_OK ? histogram_wrap(type, hist) : core_raise(PyType_GetModuleState(type), err);
}

PyObject *core_histogram_new(core_state *state, const sgc_hist *from)
{
    sgc_hist hist;
    sgc_error err;
    sgc_status status = sgc_hist_init(&hist, from->bounds, from->counts, from->n, from->sum, &err);
    return histogram_answer(state->histogram, status, &hist, &err);
}

static void histogram_dealloc(PyObject *object)
{
    sgc_hist_free(&((HistogramObject *)object)->hist);
    core_free(object);
}

/* ------------------------------------------------------------- construction */

/* The numbers of an iterable, in memory for PyMem_Free. */
static double *numbers_read(PyObject *iterable, size_t *n)
{
    PyObject *tuple = PySequence_Tuple(iterable);
    if (!tuple)
        return NULL;
    *n = (size_t)PyTuple_GET_SIZE(tuple);
    double *numbers = PyMem_New(double, *n + 1);
    if (!numbers)
        PyErr_NoMemory();
    for (size_t i = 0; numbers && i < *n; i++) {
        numbers[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(tuple, (Py_ssize_t)i));
        if (numbers[i] == -1.0 && PyErr_Occurred()) {
            PyMem_Free(numbers);
            numbers = NULL;
        }
    }
    Py_DECREF(tuple);
    return numbers;
}

static PyObject *histogram_make(PyTypeObject *type, PyObject *bounds, PyObject *counts, double sum)
{
    size_t n_bounds = 0, n_counts = 0;
    double *upper = numbers_read(bounds, &n_bounds);
    double *below = upper ? numbers_read(counts, &n_counts) : NULL;
    PyObject *made = NULL;
    sgc_hist hist;
    sgc_error err;

    if (!below)
        goto done;
    if (n_bounds != n_counts || n_bounds == 0) {
        PyErr_Format(PyExc_ValueError,
                     "%zu bounds and %zu counts: as many of both are needed, +Inf the last bound", n_bounds,
                     n_counts);
        goto done;
    }
    sgc_status status = sgc_hist_init(&hist, upper, below, n_bounds, sum, &err);
    made = histogram_answer(type, status, &hist, &err);
done:
    PyMem_Free(upper);
    PyMem_Free(below);
    return made;
}

static PyObject *histogram_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bounds", "counts", "sum", NULL};
    PyObject *bounds, *counts, *sum_given = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O:Histogram", names, &bounds, &counts, &sum_given))
        return NULL;
    double sum = sum_given == Py_None ? NAN : PyFloat_AsDouble(sum_given);
    if (sum == -1.0 && PyErr_Occurred())
        return NULL;
    return histogram_make(type, bounds, counts, sum);
}

/* --------------------------------------------------------------- attributes */

static PyObject *float_or_none(double number)
{
    return isnan(number) ? Py_NewRef(Py_None) : PyFloat_FromDouble(number);
}

static PyObject *numbers_tuple(const double *numbers, size_t n)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; tuple && i < n; i++) {
        PyObject *number = PyFloat_FromDouble(numbers[i]);
        if (number)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, number);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *histogram_bounds(PyObject *object, void *unused)
{
    (void)unused;
    return numbers_tuple(hist_of(object)->bounds, hist_of(object)->n);
}

static PyObject *histogram_counts(PyObject *object, void *unused)
{
    (void)unused;
    return numbers_tuple(hist_of(object)->counts, hist_of(object)->n);
}

static PyObject *histogram_count(PyObject *object, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(hist_of(object)->count);
}

static PyObject *histogram_sum(PyObject *object, void *unused)
{
    (void)unused;
    return float_or_none(hist_of(object)->sum);
}

static PyObject *histogram_mean(PyObject *object, void *unused)
{
    (void)unused;
    return float_or_none(sgc_hist_mean(hist_of(object)));
}

static PyObject *histogram_repr(PyObject *object)
{
    PyObject *count = histogram_count(object, NULL);
    PyObject *sum = count ? histogram_sum(object, NULL) : NULL;
    PyObject *text = sum ? PyUnicode_FromFormat("<Histogram: count %R, sum %R, %zu buckets>", count, sum,
                                                hist_of(object)->n)
                         : NULL;
    Py_XDECREF(count);
    Py_XDECREF(sum);
    return text;
}

/* ---------------------------------------------------------------- quantiles */

/* Reads q, and where the quantile lies; NaN where there is none. */
static int quantile_read(PyObject *object, PyObject *arg, double *quantile, size_t *bucket)
{
    double q = PyFloat_AsDouble(arg);
    if (q == -1.0 && PyErr_Occurred())
        return -1;
    if (!(q >= 0.0 && q <= 1.0)) {
        PyErr_Format(PyExc_ValueError, "a quantile is from 0 to 1, not %R", arg);
        return -1;
    }
    *quantile = sgc_hist_quantile(hist_of(object), q, bucket);
    return 0;
}

PyDoc_STRVAR(quantile_doc, "quantile($self, q, /)\n--\n\n"
                           "PromQL's histogram_quantile, for q from 0 to 1: linear inside a bucket.\n\n"
                           "Where it falls into the +Inf bucket it is the last finite bound, so a value\n"
                           "may be larger: see resolution(). None where the histogram is empty or has\n"
                           "the +Inf bucket alone. Raises ValueError for any other q.");

static PyObject *histogram_quantile(PyObject *object, PyObject *arg)
{
    double quantile;
    size_t bucket;
    if (quantile_read(object, arg, &quantile, &bucket) < 0)
        return NULL;
    return float_or_none(quantile);
}

double core_bucket_start(const sgc_hist *hist, size_t bucket)
{
    if (bucket)
        return hist->bounds[bucket - 1];
    return hist->bounds[0] > 0.0 ? 0.0 : -INFINITY;
}

PyDoc_STRVAR(resolution_doc,
             "resolution($self, q, /)\n--\n\n"
             "Bounds (lower, upper) of the bucket that quantile(q) fell into: all that is known.\n\n"
             "The first bucket begins at 0 where its bound is positive, at -inf elsewhere;\n"
             "the last ends at inf. None where quantile(q) is None.");

static PyObject *histogram_resolution(PyObject *object, PyObject *arg)
{
    const sgc_hist *hist = hist_of(object);
    double quantile;
    size_t bucket = 0;
    if (quantile_read(object, arg, &quantile, &bucket) < 0)
        return NULL;
    if (isnan(quantile))
        Py_RETURN_NONE;
    return Py_BuildValue("(dd)", core_bucket_start(hist, bucket), hist->bounds[bucket]);
}

/* ------------------------------------------------------------------ summary */

static PyObject *finite_or_none(double value)
{
    return isfinite(value) ? PyFloat_FromDouble(value) : Py_NewRef(Py_None);
}

/* Adds a value, which is consumed. */
static int add_value(PyObject *dict, PyObject *key, PyObject *value)
{
    int done = value ? PyDict_SetItem(dict, key, value) : -1;
    Py_XDECREF(value);
    return done;
}

static int add_number(PyObject *dict, const char *name, PyObject *value)
{
    int done = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return done;
}

/* Adds one quantile, and its bucket to the dict of resolutions. */
static int add_quantile(PyObject *dict, PyObject *resolution, PyObject *object, PyObject *name, PyObject *q)
{
    double quantile;
    size_t bucket = 0;
    if (quantile_read(object, q, &quantile, &bucket) < 0 ||
        add_value(dict, name, finite_or_none(quantile)) < 0)
        return -1;
    if (isnan(quantile))
        return 0;
    const sgc_hist *hist = hist_of(object);
    PyObject *lower = finite_or_none(core_bucket_start(hist, bucket));
    PyObject *upper = finite_or_none(hist->bounds[bucket]);
    PyObject *bounds = lower && upper ? PyTuple_Pack(2, lower, upper) : NULL;
    Py_XDECREF(lower);
    Py_XDECREF(upper);
    return add_value(resolution, name, bounds);
}

PyDoc_STRVAR(summary_doc, "summary($self, quantiles, /)\n--\n\n"
                          "All of it as a dict: count, sum, mean, a quantile for each name of the dict\n"
                          "quantiles, and resolution, a dict of the bounds of their buckets.\n\n"
                          "The count is the nearest int; what is not finite is None. None where no 64-bit\n"
                          "integer holds the count.");

static int add_quantiles(PyObject *dict, PyObject *resolution, PyObject *object, PyObject *quantiles)
{
    PyObject *name, *q;
    Py_ssize_t place = 0;
    int done = 0;

    Py_BEGIN_CRITICAL_SECTION(quantiles);
    while (done == 0 && PyDict_Next(quantiles, &place, &name, &q)) {
        Py_INCREF(name); /* what reads q may change the dict */
        Py_INCREF(q);
        done = add_quantile(dict, resolution, object, name, q);
        Py_DECREF(name);
        Py_DECREF(q);
    }
    Py_END_CRITICAL_SECTION();
    return done;
}

static PyObject *histogram_summary(PyObject *object, PyObject *quantiles)
{
    const sgc_hist *hist = hist_of(object);

    if (!PyDict_CheckExact(quantiles))
        return PyErr_Format(PyExc_TypeError, "quantiles must be a dict, not %.100s",
                            Py_TYPE(quantiles)->tp_name);
    PyObject *count = core_nearest(hist->count);
    if (!count || count == Py_None)
        return count;
    PyObject *resolution = PyDict_New();
    PyObject *dict = PyDict_New();
    if (!resolution || !dict || add_number(dict, "count", Py_NewRef(count)) < 0 ||
        add_number(dict, "sum", finite_or_none(hist->sum)) < 0 ||
        add_number(dict, "mean", finite_or_none(sgc_hist_mean(hist))) < 0 ||
        add_quantiles(dict, resolution, object, quantiles) < 0 ||
        PyDict_SetItemString(dict, "resolution", resolution) < 0)
        Py_CLEAR(dict);
    Py_DECREF(count);
    Py_XDECREF(resolution);
    return dict;
}

/* --------------------------------------------------------------- arithmetic */

/* One of the two is a Histogram, so equal types mean that both are. */
static PyObject *histogram_add(PyObject *a, PyObject *b)
{
    sgc_hist hist;
    sgc_error err;
    if (!Py_IS_TYPE(a, Py_TYPE(b)))
        Py_RETURN_NOTIMPLEMENTED;
    sgc_status status = sgc_hist_add(&hist, hist_of(a), hist_of(b), &err);
    return histogram_answer(Py_TYPE(a), status, &hist, &err);
}

static PyObject *subtract(PyObject *later, PyObject *earlier, bool *restarted)
{
    sgc_hist hist;
    sgc_error err;
    sgc_status status = sgc_hist_sub(&hist, hist_of(later), hist_of(earlier), restarted, &err);
    return histogram_answer(Py_TYPE(later), status, &hist, &err);
}

static PyObject *histogram_subtract(PyObject *a, PyObject *b)
{
    bool restarted;
    if (!Py_IS_TYPE(a, Py_TYPE(b)))
        Py_RETURN_NOTIMPLEMENTED;
    return subtract(a, b, &restarted);
}

PyDoc_STRVAR(since_doc, "since($self, earlier, /)\n--\n\n"
                        "(self - earlier, restarted): what came between two scrapes of one server.\n\n"
                        "Where any count fell the server began again from zero: restarted is True and\n"
                        "the difference is this histogram itself.");

static PyObject *histogram_since(PyObject *object, PyObject *earlier)
{
    bool restarted = false;
    if (!Py_IS_TYPE(earlier, Py_TYPE(object)))
        return PyErr_Format(PyExc_TypeError, "earlier must be a Histogram, not %.100s",
                            Py_TYPE(earlier)->tp_name);
    PyObject *between = subtract(object, earlier, &restarted);
    return between ? Py_BuildValue("(NN)", between, PyBool_FromLong(restarted)) : NULL;
}

/* ------------------------------------------------------- equality, pickling */

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static bool hist_equal(const sgc_hist *a, const sgc_hist *b)
{
    bool equal = a->n == b->n && same(a->sum, b->sum);
    for (size_t i = 0; equal && i < a->n; i++)
        equal = a->bounds[i] == b->bounds[i] && a->counts[i] == b->counts[i];
    return equal;
}

static PyObject *histogram_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, Py_TYPE(a)) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong(hist_equal(hist_of(a), hist_of(b)) == (op == Py_EQ));
}

static Py_hash_t histogram_hash(PyObject *object)
{
    PyObject *counts = histogram_counts(object, NULL);
    Py_hash_t hash = counts ? PyObject_Hash(counts) : -1;
    Py_XDECREF(counts);
    return hash;
}

/* (functools.partial(Histogram, sum=sum), (bounds, counts)): `sum` is a keyword. */
static PyObject *histogram_reduce(PyObject *object, PyObject *unused)
{
    (void)unused;
    PyObject *functools = PyImport_ImportModule("functools");
    PyObject *partial = functools ? PyObject_GetAttrString(functools, "partial") : NULL;
    PyObject *args = partial ? PyTuple_Pack(1, (PyObject *)Py_TYPE(object)) : NULL;
    PyObject *kwargs = args ? Py_BuildValue("{s:N}", "sum", histogram_sum(object, NULL)) : NULL;
    PyObject *make = kwargs ? PyObject_Call(partial, args, kwargs) : NULL;
    Py_XDECREF(functools);
    Py_XDECREF(partial);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    if (!make)
        return NULL;
    return Py_BuildValue("N(NN)", make, histogram_bounds(object, NULL), histogram_counts(object, NULL));
}

/* --------------------------------------------------------------------- type */

PyDoc_STRVAR(histogram_doc, "Histogram(bounds, counts, *, sum=None)\n--\n\n"
                            "Cumulative buckets: counts[i] observations were <= bounds[i].\n\n"
                            "Bounds rise strictly and end with inf; counts do not fall. sum is the sum of\n"
                            "all observations, None where it is not known. A summary is a histogram with\n"
                            "the inf bucket alone. Raises ValueError for anything else. Immutable;\n"
                            "compares by value; can be pickled.\n\n"
                            "a + b and a - b take the bounds that both have; a - b is since() without\n"
                            "the word whether a restart was seen.");

static PyMethodDef histogram_methods[] = {
    {"quantile", histogram_quantile, METH_O, quantile_doc},
    {"resolution", histogram_resolution, METH_O, resolution_doc},
    {"summary", histogram_summary, METH_O, summary_doc},
    {"since", histogram_since, METH_O, since_doc},
    {"__reduce__", histogram_reduce, METH_NOARGS, PyDoc_STR("For pickle and copy.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef histogram_getset[] = {
    {"bounds", histogram_bounds, NULL, PyDoc_STR("tuple[float, ...]: upper bounds, rising to inf."), NULL},
    {"counts", histogram_counts, NULL, PyDoc_STR("tuple[float, ...]: observations up to each bound."), NULL},
    {"count", histogram_count, NULL, PyDoc_STR("float: all observations."), NULL},
    {"sum", histogram_sum, NULL, PyDoc_STR("float | None: sum of all observations; None where not known."),
     NULL},
    {"mean", histogram_mean, NULL, PyDoc_STR("float | None: sum / count; None where empty or without sum."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot histogram_slots[] = {
    {Py_tp_doc, (void *)histogram_doc},
    {Py_tp_new, histogram_new},
    {Py_tp_dealloc, histogram_dealloc},
    {Py_tp_repr, histogram_repr},
    {Py_tp_hash, histogram_hash},
    {Py_tp_richcompare, histogram_compare},
    {Py_tp_methods, histogram_methods},
    {Py_tp_getset, histogram_getset},
    {Py_nb_add, histogram_add},
    {Py_nb_subtract, histogram_subtract},
    {0, NULL},
};

PyType_Spec core_histogram_spec = {
    .name = "sglang_collect._core.Histogram",
    .basicsize = sizeof(HistogramObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = histogram_slots,
};
