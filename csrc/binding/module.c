/*
 * module.c - sglang_collect._core: the C core as Python sees it. The stub
 * _core.pyi says what is here; the types have a file each.
 *
 * Multi-phase initialisation, all state in the module: any number of
 * interpreters may import it, each with a GIL of its own or with none.
 */
#include "binding.h"

/* ---------------------------------------------------------- for every type */

void core_free(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

PyObject *core_kept(PyObject *object, PyObject **attribute)
{
    PyObject *kept;
    (void)object;
    Py_BEGIN_CRITICAL_SECTION(object);
    kept = Py_XNewRef(*attribute);
    Py_END_CRITICAL_SECTION();
    return kept;
}

PyObject *core_keep(PyObject *object, PyObject **attribute, PyObject *made)
{
    PyObject *kept;
    (void)object;
    if (!made)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(object);
    if (!*attribute)
        *attribute = Py_NewRef(made);
    kept = Py_NewRef(*attribute);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(made);
    return kept;
}

PyObject *core_no_pickle(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "cannot pickle or copy '%.100s': it belongs to this process",
                        Py_TYPE(object)->tp_name);
}

PyObject *core_itself(PyObject *object, PyObject *memo)
{
    (void)memo;
    return Py_NewRef(object);
}

PyMethodDef core_view_methods[] = {
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

/* What Python 3.12 gives every type with a buffer. */
#if PY_VERSION_HEX < 0x030c0000
static PyObject *buffer(PyObject *object, PyObject *flags)
{
    (void)flags;
    return PyMemoryView_FromObject(object);
}
#endif

PyMethodDef core_buffer_methods[] = {
#if PY_VERSION_HEX < 0x030c0000
    {"__buffer__", buffer, METH_O, PyDoc_STR("__buffer__($self, flags, /)\n--\n\nA memoryview.")},
#endif
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

/* ------------------------------------------------------------------- parse */

PyDoc_STRVAR(parse_doc,
             "parse($module, data, /, *, format='text', strict=False, limits=None)\n--\n\n"
             "Reads one exposition whole, or refuses it whole.\n\n"
             "data: bytes (held, not copied), str (as UTF-8) or any contiguous buffer (copied).\n"
             "format: 'text' (Prometheus text 0.0.4), 'openmetrics', or 'auto' (OpenMetrics where the\n"
             "    last line is '# EOF').\n"
             "strict: every MUST of the OpenMetrics specification; nothing more for text.\n"
             "limits: object with the attributes of LIMITS; None for the defaults.\n\n"
             "Returns a Page. Raises ExpositionError for a page that is malformed, LimitExceeded for\n"
             "one that is larger than allowed, TypeError, BufferError and ValueError for arguments.");

static PyObject *core_parse(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "format", "strict", "limits", NULL};
    core_state *state = PyModule_GetState(module);
    PyObject *data, *format = NULL, *limits = NULL;
    core_input input;
    int strict = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OpO:parse", names, &data, &format, &strict, &limits) ||
        core_input_init(state, &input, data, format, strict, limits) < 0)
        return NULL;
    return core_page_new(state, &input, NULL, 0.0);
}

PyDoc_STRVAR(process_doc,
             "process($module, /)\n--\n\n"
             "A number of this process that none has that it was forked from. Its id may be the same, in\n"
             "a PID namespace of its own.");

static PyObject *process(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong(sgc_process());
}

PyDoc_STRVAR(pick_doc,
             "pick($module, fields, fold, /)\n--\n\n"
             "A dict of many values of a fold, as the numbers that a model has.\n\n"
             "fields: tuple of (name, slot, whole). A float becomes the nearest int where whole is\n"
             "    True; None stands for what no 64-bit integer holds, and for what is not finite.\n"
             "    Likewise the floats of a dict, where nothing stands for it, nor for what has no key;\n"
             "    None stands for a dict without keys. Other values stay. Where the slot is None, so\n"
             "    is the value.");

PyDoc_STRVAR(fallen_doc,
             "fallen($module, later, earlier, names, /)\n--\n\n"
             "Those of the names (tuple[str, ...]) of which the later fold has less than the earlier one: a\n"
             "smaller number, count or sum, other bounds, an entry that is gone, no series any more.");

PyDoc_STRVAR(build_doc,
             "build($module, mould, values, private, /)\n--\n\n"
             "An object of a pydantic model, of values that are what its fields want.\n\n"
             "mould: what it has in common with others: its class, a dict of its fields, a tuple of\n"
             "    the names of those that are set, and what the class keeps of others, None or a dict.\n"
             "values: tuple of the values of the fields that are set.\n"
             "private: dict of its private attributes; None where it has none.");

PyDoc_STRVAR(build_groups_doc,
             "build_groups($module, groups, fold, /)\n--\n\n"
             "A dict of objects of pydantic models by name, and `absent`: the list of the slots\n"
             "of which pick() gives None, whose fields are not set.\n\n"
             "groups: tuple of (name, model, defaults, fields): a dict of all fields, and those of\n"
             "    them to be set, as for pick().");

PyDoc_STRVAR(add_fields_doc,
             "add_fields($module, object, values, /)\n--\n\n"
             "Gives an object of a pydantic model the fields of a dict that it has not yet; all of\n"
             "them then count as set.");

PyDoc_STRVAR(moment_doc,
             "moment($module, seconds, /)\n--\n\n"
             "The datetime, in UTC, of so many seconds since 1970, to the nearest microsecond.\n\n"
             "Raises ValueError for what is in no calendar: years 1 to 9999.");

static PyMethodDef module_methods[] = {
    {"build", (PyCFunction)(void (*)(void))core_build, METH_FASTCALL, build_doc},
    {"build_groups", (PyCFunction)(void (*)(void))core_build_groups, METH_FASTCALL, build_groups_doc},
    {"fallen", (PyCFunction)(void (*)(void))core_fallen, METH_FASTCALL, fallen_doc},
    {"add_fields", (PyCFunction)(void (*)(void))core_add_fields, METH_FASTCALL, add_fields_doc},
    {"pick", (PyCFunction)(void (*)(void))core_pick, METH_FASTCALL, pick_doc},
    {"moment", core_moment, METH_O, moment_doc},
    {"process", process, METH_NOARGS, process_doc},
    {"parse", (PyCFunction)(void (*)(void))core_parse, METH_VARARGS | METH_KEYWORDS, parse_doc},
    {NULL, NULL, 0, NULL},
};

/* -------------------------------------------------------------------- exec */

static int add_types(PyObject *module, core_state *state)
{
#define ADD_TYPE(member, spec)                                                     \
    state->member = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); \
    if (!state->member || PyModule_AddType(module, state->member) < 0)             \
        return -1;
    CORE_TYPE_LIST(ADD_TYPE)
#undef ADD_TYPE
    return 0;
}

/* Makes a type a Sequence or a Mapping: registered, and with the methods that the
 * abstract class builds on the few that every such type must have. */
static int adopt(PyObject *abc, PyTypeObject *type, const char *const *mixins)
{
    PyObject *registered = PyObject_CallMethod(abc, "register", "O", type);
    if (!registered)
        return -1;
    Py_DECREF(registered);
    for (; *mixins; mixins++) {
        PyObject *method = PyObject_GetAttrString(abc, *mixins);
        if (!method || PyObject_SetAttrString((PyObject *)type, *mixins, method) < 0) {
            Py_XDECREF(method);
            return -1;
        }
        Py_DECREF(method);
    }
    return 0;
}

static int adopt_types(core_state *state)
{
    static const char *const of_sequence[] = {"index", "count", NULL};
    static const char *const of_mapping[] = {"get", "keys", "values", "items", "__eq__", NULL};
    PyObject *module = PyImport_ImportModule("collections.abc");
    PyObject *sequence = module ? PyObject_GetAttrString(module, "Sequence") : NULL;
    PyObject *mapping = sequence ? PyObject_GetAttrString(module, "Mapping") : NULL;
    int done = -1;
    if (mapping && adopt(sequence, state->samples, of_sequence) == 0 &&
        adopt(mapping, state->families, of_mapping) == 0 && adopt(mapping, state->fold, of_mapping) == 0)
        done = 0;
    Py_XDECREF(module);
    Py_XDECREF(sequence);
    Py_XDECREF(mapping);
    return done;
}

/* Adds a value, which is consumed; NULL: it could not be made. */
static int add_constant(PyObject *module, const char *name, PyObject *value)
{
    int done = value ? PyModule_AddObjectRef(module, name, value) : -1;
    Py_XDECREF(value);
    return done;
}

static int set_number(PyObject *dict, const char *name, uint64_t number)
{
    PyObject *value = PyLong_FromUnsignedLongLong(number);
    int done = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return done;
}

static PyObject *default_limits(void)
{
    sgc_limits limits;
    sgc_limits_init(&limits);
    PyObject *dict = PyDict_New();
#define SET_LIMIT(name, dflt)                             \
    if (dict && set_number(dict, #name, limits.name) < 0) \
        Py_CLEAR(dict);
    SGC_LIMIT_LIST(SET_LIMIT)
#undef SET_LIMIT
    return dict;
}

static int module_exec(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
    if (core_errors_import(state) < 0 || core_model_init(state) < 0 || add_types(module, state) < 0 ||
        adopt_types(state) < 0 || add_constant(module, "LIMITS", default_limits()) < 0 ||
        add_constant(module, "REASONS", core_reasons()) < 0 ||
        add_constant(module, "CURL_VERSION", core_text_z(sgc_curl_version())) < 0)
        return -1;
    return 0;
}

/* ------------------------------------------------------------------ module */

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    core_state *state = PyModule_GetState(module);
#define VISIT_TYPE(member, spec) Py_VISIT(state->member);
    CORE_TYPE_LIST(VISIT_TYPE)
#undef VISIT_TYPE
    for (int i = 0; i < CORE_N_ERRORS; i++)
        Py_VISIT(state->errors[i]);
    return 0;
}

static int module_clear(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
#define CLEAR_TYPE(member, spec) Py_CLEAR(state->member);
    CORE_TYPE_LIST(CLEAR_TYPE)
#undef CLEAR_TYPE
    for (int i = 0; i < CORE_N_ERRORS; i++)
        Py_CLEAR(state->errors[i]);
    for (size_t i = 0; i < sizeof state->model_slots / sizeof *state->model_slots; i++)
        Py_CLEAR(state->model_slots[i]);
    Py_CLEAR(state->no_args);
    core_words_clear(state);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sglang_collect._core",
    .m_doc = PyDoc_STR("The C core as Python sees it: pages, histograms, plans and the scraper."),
    .m_size = sizeof(core_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&module_def);
}
