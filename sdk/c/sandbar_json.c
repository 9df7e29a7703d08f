/* Reading JSON as RFC 8259 has it: strict, in UTF-8, 128 levels deep at most. */
#include "sandbar_json.h"

#include <stdlib.h>
#include <string.h>

#include "sandbar_internal.h"

#define DEEPEST 128

typedef struct {
    const char *start, *at, *end;
    const char *wrong; /* NULL: nothing yet */
} parser_t;

static void *fail(parser_t *p, const char *what)
{
    if (!p->wrong)
        p->wrong = p->at >= p->end ? "the text ends too early" : what;
    return NULL;
}

static void place(const char *start, const char *at, size_t *line, size_t *column)
{
    *line = 1;
    *column = 0;
    for (const char *c = start; c < at; c++) {
        *column += 1;
        if (*c == '\n') {
            *line += 1;
            *column = 0;
        }
    }
}

static void skip_space(parser_t *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
        p->at++;
}

static bool take(parser_t *p, char c)
{
    if (p->at >= p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static bool is_digit(const parser_t *p)
{
    return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

/* Four hexadecimal digits. */
static int32_t unit(parser_t *p)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p->at < p->end ? *p->at : 0;
        int digit = c >= '0' && c <= '9' ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) {
            fail(p, "four hexadecimal digits must follow \\u");
            return -1;
        }
        value = value * 16 + digit;
        p->at++;
    }
    return value;
}

/* What follows a backslash; writes UTF-8 and returns its end. */
static char *escape(parser_t *p, char *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    char c = p->at < p->end ? *p->at : 0;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        p->at++;
        *to++ = into[simple - from];
        return to;
    }
    if (c != 'u')
        return fail(p, "no such escape");
    p->at++;
    int32_t code = unit(p);
    if (code >= 0xdc00 && code <= 0xdfff)
        return fail(p, "half of a surrogate pair");
    if (code >= 0xd800 && code <= 0xdbff) {
        int32_t low = take(p, '\\') && take(p, 'u') ? unit(p) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(p, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code < 0)
        return NULL;
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    int tails = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *to++ = (char)((0xff << (7 - tails)) | code >> (6 * tails));
    while (tails-- > 0)
        *to++ = (char)(0x80 | (code >> (6 * tails) & 0x3f));
    return to;
}

static bool string(parser_t *p, sandbar_bytes_t *text)
{
    if (!take(p, '"'))
        return fail(p, "a string was expected");
    const char *from = p->at;
    const char *close = from;
    while (close < p->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= p->end) {
        p->at = p->end;
        return fail(p, "");
    }
    /* no escape is shorter than what it stands for */
    char *start = sandbar_arena((size_t)(close - from)), *to = start;
    while (*p->at != '"') {
        if (take(p, '\\')) {
            to = escape(p, to);
            if (!to)
                return false;
            continue;
        }
        size_t len = sandbar_utf8(p->at, p->end);
        if (len == 0)
            return fail(p, "no UTF-8");
        if ((unsigned char)*p->at < 0x20)
            return fail(p, "a control character in a string must be escaped");
        memcpy(to, p->at, len);
        to += len;
        p->at += len;
    }
    p->at++;
    *to = 0;
    *text = (sandbar_bytes_t){start, (size_t)(to - start)};
    return true;
}

static bool digits(parser_t *p)
{
    if (!is_digit(p))
        return fail(p, "a digit was expected");
    while (is_digit(p))
        p->at++;
    return true;
}

static bool number(parser_t *p, sandbar_bytes_t *text)
{
    const char *from = p->at;
    take(p, '-');
    if (!take(p, '0') && !digits(p))
        return false;
    if (take(p, '.') && !digits(p))
        return false;
    if (take(p, 'e') || take(p, 'E')) {
        if (!take(p, '+'))
            take(p, '-');
        if (!digits(p))
            return false;
    }
    size_t len = (size_t)(p->at - from);
    *text = (sandbar_bytes_t){memcpy(sandbar_arena(len), from, len), len};
    return true;
}

static bool word(parser_t *p, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0)
        return false;
    p->at += len;
    return true;
}

static sandbar_json_t *value(parser_t *p, const sandbar_json_t *parent, int depth);

/* What is between the brackets. */
static bool members(parser_t *p, sandbar_json_t *of, int depth)
{
    char close = of->kind == SANDBAR_JSON_OBJECT ? '}' : ']';
    const sandbar_json_t **last = &of->first;
    skip_space(p);
    if (take(p, close))
        return true;
    do {
        sandbar_bytes_t name = {NULL, 0};
        skip_space(p);
        if (of->kind == SANDBAR_JSON_OBJECT) {
            if (!string(p, &name))
                return false;
            skip_space(p);
            if (!take(p, ':'))
                return fail(p, "`:` was expected");
        }
        sandbar_json_t *member = value(p, of, depth - 1);
        if (!member)
            return false;
        member->name = name.data;
        *last = member;
        last = &member->next;
        of->count++;
        skip_space(p);
    } while (take(p, ','));
    return take(p, close) || fail(p, "`,` or the end of what is open was expected");
}

static sandbar_json_t *value(parser_t *p, const sandbar_json_t *parent, int depth)
{
    if (depth == 0)
        return fail(p, "more than 128 levels deep");
    sandbar_json_t *v = sandbar_alloc(sizeof *v);
    v->parent = parent;
    skip_space(p);
    char c = p->at < p->end ? *p->at : 0;
    bool good = true;
    if (c == '{' || c == '[') {
        p->at++;
        v->kind = c == '{' ? SANDBAR_JSON_OBJECT : SANDBAR_JSON_ARRAY;
        good = members(p, v, depth);
    } else if (c == '"') {
        v->kind = SANDBAR_JSON_STRING;
        good = string(p, &v->text);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        v->kind = SANDBAR_JSON_NUMBER;
        good = number(p, &v->text);
    } else if (word(p, "true")) {
        v->kind = SANDBAR_JSON_TRUE;
    } else if (word(p, "false")) {
        v->kind = SANDBAR_JSON_FALSE;
    } else if (!word(p, "null")) {
        return fail(p, "a value was expected");
    }
    v->at = p->at;
    return good ? v : NULL;
}

const sandbar_json_t *sandbar_json_parse(sandbar_bytes_t text, sandbar_result_t *result)
{
    if (sandbar_failed(*result))
        return NULL;
    parser_t p = {.start = text.data, .at = text.data, .end = text.data + text.len};
    sandbar_json_t *whole = value(&p, NULL, DEEPEST);
    skip_space(&p);
    if (whole && p.at < p.end)
        fail(&p, "something follows the value");
    if (p.wrong) {
        size_t line, column;
        place(p.start, p.at, &line, &column);
        *result = sandbar_reject("invalid-json", "%s at line %zu column %zu", p.wrong, line, column);
        return NULL;
    }
    whole->start = p.start;
    return whole;
}

const sandbar_json_t *sandbar_event_json(const sandbar_event_t *event, sandbar_result_t *result)
{
    if (!event->payload.data && !sandbar_failed(*result))
        *result = sandbar_reject("no-payload", "the event is a tombstone");
    return sandbar_json_parse(event->payload, result);
}

/* ---- looking ---- */

static const char *kind_name(const sandbar_json_t *value)
{
    static const char *const names[] = {"null", "false", "true", "a number", "a string", "an array",
                                        "an object"};
    return names[value->kind];
}

/* `lines[0].amount`: empty for the whole. */
static const char *path(const sandbar_json_t *value)
{
    if (!value->parent)
        return "";
    const char *before = path(value->parent);
    if (value->name)
        return sandbar_format("%s%s%s", before, *before ? "." : "", value->name);
    size_t index = 0;
    for (const sandbar_json_t *v = value->parent->first; v != value; v = v->next)
        index++;
    return sandbar_format("%s[%zu]", before, index);
}

static void misfit(const sandbar_json_t *value, const char *what, sandbar_result_t *result)
{
    const sandbar_json_t *whole = value;
    while (whole->parent)
        whole = whole->parent;
    size_t line, column;
    place(whole->start, value->at, &line, &column);
    const char *where = path(value);
    *result = sandbar_reject("invalid-json", "%s%s%s%s at line %zu column %zu", *where ? "at " : "",
                             where, *where ? ": " : "", what, line, column);
}

const sandbar_json_t *sandbar_json_get(const sandbar_json_t *parent, const char *name,
                                       sandbar_need_t need, sandbar_result_t *result)
{
    if (!parent || sandbar_failed(*result))
        return NULL;
    if (parent->kind != SANDBAR_JSON_OBJECT) {
        misfit(parent, sandbar_format("an object was expected, not %s", kind_name(parent)), result);
        return NULL;
    }
    const sandbar_json_t *v = parent->first;
    while (v && strcmp(v->name, name) != 0)
        v = v->next;
    if (v && v->kind != SANDBAR_JSON_NULL)
        return v;
    if (need == SANDBAR_REQUIRED)
        misfit(v ? v : parent, sandbar_format(v ? "`%s` is null" : "missing field `%s`", name), result);
    return NULL;
}

/* As sandbar_json_get, and of this kind; `what` names the kind. */
static const sandbar_json_t *of_kind(const sandbar_json_t *parent, const char *name,
                                     sandbar_need_t need, sandbar_json_kind_t kind,
                                     const char *what, sandbar_result_t *result)
{
    const sandbar_json_t *v = sandbar_json_get(parent, name, need, result);
    if (!v || v->kind == kind)
        return v;
    misfit(v, sandbar_format("%s was expected, not %s", what, kind_name(v)), result);
    return NULL;
}

const sandbar_json_t *sandbar_json_object(const sandbar_json_t *parent, const char *name,
                                          sandbar_need_t need, sandbar_result_t *result)
{
    return of_kind(parent, name, need, SANDBAR_JSON_OBJECT, "an object", result);
}

const sandbar_json_t *sandbar_json_array(const sandbar_json_t *parent, const char *name,
                                         sandbar_need_t need, sandbar_result_t *result)
{
    return of_kind(parent, name, need, SANDBAR_JSON_ARRAY, "an array", result);
}

const char *sandbar_json_text(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                              sandbar_result_t *result)
{
    const sandbar_json_t *v = of_kind(parent, name, need, SANDBAR_JSON_STRING, "a string", result);
    return v ? v->text.data : NULL;
}

bool sandbar_json_u64(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                      uint64_t *value, sandbar_result_t *result)
{
    const sandbar_json_t *v = of_kind(parent, name, need, SANDBAR_JSON_NUMBER, "a number", result);
    uint64_t read;
    if (!v)
        return false;
    if (!sandbar_whole(v->text.data, UINT64_MAX, &read)) {
        misfit(v, sandbar_format("%s is no whole number from 0 to 2^64 - 1", v->text.data), result);
        return false;
    }
    *value = read;
    return true;
}

bool sandbar_json_i64(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                      int64_t *value, sandbar_result_t *result)
{
    const sandbar_json_t *v = of_kind(parent, name, need, SANDBAR_JSON_NUMBER, "a number", result);
    uint64_t read;
    if (!v)
        return false;
    bool negative = *v->text.data == '-';
    if (!sandbar_whole(v->text.data + negative, (uint64_t)INT64_MAX + negative, &read)) {
        misfit(v, sandbar_format("%s is no whole number of 64 bits", v->text.data), result);
        return false;
    }
    *value = negative ? (int64_t)(0 - read) : (int64_t)read;
    return true;
}

bool sandbar_json_double(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                         double *value, sandbar_result_t *result)
{
    const sandbar_json_t *v = of_kind(parent, name, need, SANDBAR_JSON_NUMBER, "a number", result);
    if (v)
        *value = strtod(v->text.data, NULL);
    return v != NULL;
}

bool sandbar_json_bool(const sandbar_json_t *parent, const char *name, sandbar_need_t need,
                       bool *value, sandbar_result_t *result)
{
    const sandbar_json_t *v = sandbar_json_get(parent, name, need, result);
    if (!v)
        return false;
    if (v->kind != SANDBAR_JSON_TRUE && v->kind != SANDBAR_JSON_FALSE) {
        misfit(v, sandbar_format("true or false was expected, not %s", kind_name(v)), result);
        return false;
    }
    *value = v->kind == SANDBAR_JSON_TRUE;
    return true;
}
