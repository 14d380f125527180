/*
 * steady.c - folding the pages of one target, each with what the last one taught:
 *
 *     class Steady:
 *         def __init__(plan)
 *         hit: bool
 *         def fold(data, /, *, format="text", limits=None) -> Fold
 *
 * A Scraper does this by itself for each of its endpoints.
 */
#include "binding.h"

typedef struct SteadyObject {
    PyObject ob_base;
    PlanObject *plan;
    sgc_steady *steady;
    bool busy; /* a thread folds, and the core's object is that thread's alone */
    bool hit;
} SteadyObject;

static PyObject *steady_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"plan", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *plan;
    sgc_error err;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Steady", names, state->plan, &plan))
        return NULL;
    SteadyObject *self = (SteadyObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->plan = (PlanObject *)Py_NewRef(plan);
    if (sgc_steady_new(self->plan->plan, &self->steady, &err) != SGC_OK) {
        core_raise(state, &err);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void steady_dealloc(PyObject *object)
{
    SteadyObject *self = (SteadyObject *)object;
    sgc_steady_free(self->steady);
    Py_XDECREF(self->plan);
    core_free(object);
}

static PyObject *steady_repr(PyObject *object)
{
    PyObject *plan = (PyObject *)((SteadyObject *)object)->plan;
    return PyUnicode_FromFormat("<Steady: %R>", plan);
}

static PyObject *steady_hit(PyObject *object, void *unused)
{
    bool hit;
    (void)unused;
    Py_BEGIN_CRITICAL_SECTION(object);
    hit = ((SteadyObject *)object)->hit;
    Py_END_CRITICAL_SECTION();
    return PyBool_FromLong(hit);
}

/* Folds without the GIL; NULL with an exception. */
static sgc_fold *fold_locked(core_state *state, SteadyObject *self, const core_input *input)
{
    sgc_fold *fold = NULL;
    sgc_error err;

    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "steady is in use by another thread");
        return NULL;
    }
    self->busy = true;
    PyThreadState *gil = PyEval_SaveThread();
    sgc_status status = sgc_steady_fold(self->steady, input->data, input->len, &input->options, &fold, &err);
    PyEval_RestoreThread(gil);
    self->hit = sgc_steady_hit(self->steady);
    self->busy = false;
    if (status != SGC_OK)
        core_raise(state, &err);
    return fold;
}

PyDoc_STRVAR(steady_fold_doc, "fold($self, data, /, *, format='text', limits=None)\n--\n\n"
                              "What Plan.fold() gives for this page, errors included, and faster where the\n"
                              "page has the lines of the one before.\n\n"
                              "Raises RuntimeError while another thread folds.");

static PyObject *steady_fold(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "format", "limits", NULL};
    core_state *state = core_state_of(object);
    SteadyObject *self = (SteadyObject *)object;
    PyObject *data, *format = NULL, *limits = NULL;
    core_input input;
    sgc_fold *fold;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OO:fold", names, &data, &format, &limits) ||
        core_input_init(state, &input, data, format, 0, limits) < 0)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(object);
    fold = fold_locked(state, self, &input); /* last: to read the arguments may run any code */
    Py_END_CRITICAL_SECTION();
    core_input_clear(&input);
    return fold ? core_fold_new(self->plan, fold) : NULL;
}

PyDoc_STRVAR(steady_doc, "Steady(plan)\n--\n\n"
                         "Folds the pages of one target: of a page that has the lines of the one before,\n"
                         "only the values are read.\n\n"
                         "Holds a copy of one page. Used by one thread at a time.");

static PyMethodDef steady_methods[] = {
    {"fold", (PyCFunction)(void (*)(void))steady_fold, METH_VARARGS | METH_KEYWORDS, steady_fold_doc},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef steady_getset[] = {
    {"hit", steady_hit, NULL,
     PyDoc_STR("bool: the last page had the lines of the one before; False where none was read."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot steady_slots[] = {
    {Py_tp_doc, (void *)steady_doc},
    {Py_tp_new, steady_new},
    {Py_tp_dealloc, steady_dealloc},
    {Py_tp_repr, steady_repr},
    {Py_tp_methods, steady_methods},
    {Py_tp_getset, steady_getset},
    {0, NULL},
};

PyType_Spec core_steady_spec = {
    .name = "sglang_collect._core.Steady",
    .basicsize = sizeof(SteadyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = steady_slots,
};
