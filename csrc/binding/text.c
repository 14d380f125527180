/*
 * text.c - between str and the core's views, and closed lists of words.
 */
#include "binding.h"

#include <string.h>

PyObject *core_text(sgc_str text)
{
    return PyUnicode_DecodeUTF8(text.ptr, (Py_ssize_t)text.len, "replace");
}

PyObject *core_text_z(const char *text)
{
    return core_text((sgc_str){text, strlen(text)});
}

int core_view(PyObject *text, const char *what, sgc_str *view)
{
    Py_ssize_t len;
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", what, Py_TYPE(text)->tp_name);
        return -1;
    }
    view->ptr = PyUnicode_AsUTF8AndSize(text, &len);
    if (!view->ptr) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s holds a lone surrogate", what);
        }
        return -1;
    }
    view->len = (size_t)len;
    return 0;
}

PyObject *core_exact(PyObject *text, const char *what)
{
    sgc_str view;
    if (core_view(text, what, &view) < 0)
        return NULL;
    return PyUnicode_FromObject(text);
}

PyObject *core_strings(PyObject *iterable, const char *what)
{
    if (PyUnicode_Check(iterable)) {
        PyErr_Format(PyExc_TypeError, "%s must be several str, not one", what);
        return NULL;
    }
    PyObject *given = PySequence_Tuple(iterable);
    PyObject *strings = given ? PyTuple_New(PyTuple_GET_SIZE(given)) : NULL;
    for (Py_ssize_t i = 0; strings && i < PyTuple_GET_SIZE(given); i++) {
        PyObject *text = core_exact(PyTuple_GET_ITEM(given, i), what);
        if (text)
            PyTuple_SET_ITEM(strings, i, text);
        else
            Py_CLEAR(strings);
    }
    Py_XDECREF(given);
    return strings;
}

sgc_str *core_views(PyObject *strings, const char *what)
{
    Py_ssize_t n = PyTuple_GET_SIZE(strings);
    sgc_str *views = PyMem_New(sgc_str, (size_t)n + 1);
    if (!views) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (core_view(PyTuple_GET_ITEM(strings, i), what, &views[i]) < 0) {
            PyMem_Free(views);
            return NULL;
        }
    }
    return views;
}

PyObject *core_items(PyObject *mapping, const char *what)
{
    PyObject *items = PyMapping_Items(mapping);
    if (!items && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s must be a mapping, not %.100s", what, Py_TYPE(mapping)->tp_name);
    }
    return items;
}

/* The ValueError of core_word: kind must be 'value', 'histogram' or 'label', not 'x'. */
static void refuse_word(PyObject *text, const char *const *words, const char *what)
{
    PyObject *known = PyUnicode_FromFormat("'%s'", words[0]);
    for (size_t i = 1; known && words[i]; i++) {
        const char *joint = words[i + 1] ? ", " : " or ";
        Py_SETREF(known, PyUnicode_FromFormat("%U%s'%s'", known, joint, words[i]));
    }
    if (known)
        PyErr_Format(PyExc_ValueError, "%s must be %U, not %.100R", what, known, text);
    Py_XDECREF(known);
}

int core_word(PyObject *text, const char *const *words, const char *what)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", what, Py_TYPE(text)->tp_name);
        return -1;
    }
    for (int i = 0; words[i]; i++) {
        if (PyUnicode_CompareWithASCIIString(text, words[i]) == 0)
            return i;
    }
    refuse_word(text, words, what);
    return -1;
}
