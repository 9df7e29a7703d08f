/* Writing JSON: see sandbar_json.h. */
#include "sandbar_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbar_internal.h"

static void put(sandbar_json_writer_t *to, const char *text, size_t len)
{
    if (to->capacity - to->len < len) {
        to->capacity = 2 * (to->len + len) + 256;
        char *more = sandbar_arena(to->capacity);
        to->text = to->len ? memcpy(more, to->text, to->len) : more;
    }
    memcpy(to->text + to->len, text, len);
    to->len += len;
}

static void put_string(sandbar_json_writer_t *to, const char *text)
{
    static const char from[] = "\"\\\b\f\n\r\t", into[] = "\"\\bfnrt";
    const char *end = text + strlen(text);
    put(to, "\"", 1);
    while (text < end) {
        size_t len = sandbar_utf8(text, end);
        const char *simple = strchr(from, *text);
        if (simple) {
            char escape[] = {'\\', into[simple - from]};
            put(to, escape, 2);
        } else if (len == 0) {
            put(to, "?", 1);
        } else if ((unsigned char)*text < 0x20) {
            char escape[7];
            put(to, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*text));
        } else {
            put(to, text, len);
        }
        text += len ? len : 1;
    }
    put(to, "\"", 1);
}

/* What comes before a value. */
static void lead(sandbar_json_writer_t *to, const char *name)
{
    if (to->separate)
        put(to, ",", 1);
    to->separate = true;
    if (name) {
        put_string(to, name);
        put(to, ":", 1);
    }
}

static void put_word(sandbar_json_writer_t *to, const char *name, const char *word)
{
    lead(to, name);
    put(to, word, strlen(word));
}

void sandbar_json_begin_object(sandbar_json_writer_t *to, const char *name)
{
    put_word(to, name, "{");
    to->separate = false;
}

void sandbar_json_end_object(sandbar_json_writer_t *to)
{
    put(to, "}", 1);
    to->separate = true;
}

void sandbar_json_begin_array(sandbar_json_writer_t *to, const char *name)
{
    put_word(to, name, "[");
    to->separate = false;
}

void sandbar_json_end_array(sandbar_json_writer_t *to)
{
    put(to, "]", 1);
    to->separate = true;
}

void sandbar_json_put_text(sandbar_json_writer_t *to, const char *name, const char *value)
{
    if (!value) {
        sandbar_json_put_null(to, name);
        return;
    }
    lead(to, name);
    put_string(to, value);
}

void sandbar_json_put_u64(sandbar_json_writer_t *to, const char *name, uint64_t value)
{
    put_word(to, name, sandbar_format("%llu", (unsigned long long)value));
}

void sandbar_json_put_i64(sandbar_json_writer_t *to, const char *name, int64_t value)
{
    put_word(to, name, sandbar_format("%lld", (long long)value));
}

void sandbar_json_put_double(sandbar_json_writer_t *to, const char *name, double value)
{
    if (!isfinite(value)) {
        sandbar_json_put_null(to, name);
        return;
    }
    /* the shortest that reads back as the same */
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    put_word(to, name, text);
}

void sandbar_json_put_bool(sandbar_json_writer_t *to, const char *name, bool value)
{
    put_word(to, name, value ? "true" : "false");
}

void sandbar_json_put_null(sandbar_json_writer_t *to, const char *name)
{
    put_word(to, name, "null");
}

sandbar_bytes_t sandbar_json_written(const sandbar_json_writer_t *from)
{
    return (sandbar_bytes_t){.data = from->text ? from->text : "", .len = from->len};
}
