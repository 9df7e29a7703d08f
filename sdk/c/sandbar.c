/* What a plugin calls. The boundary itself is in sandbar_abi.c. */
#include <stdio.h>
#include <string.h>

#include "sandbar_internal.h"

sandbar_bytes_t sandbar_text(const char *text)
{
    return (sandbar_bytes_t){.data = text, .len = text ? strlen(text) : 0};
}

sandbar_bytes_t sandbar_vformat(const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    if (len < 0)
        sandbar_panic("cannot format \"%s\"", format);
    char *text = sandbar_arena((size_t)len);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return (sandbar_bytes_t){.data = text, .len = (size_t)len};
}

/* The text of `format` and what follows it, in a function that takes them last. */
#define FORMATTED(into, format) \
    va_list arguments; \
    va_start(arguments, format); \
    sandbar_bytes_t into = sandbar_vformat(format, arguments); \
    va_end(arguments)

sandbar_bytes_t sandbar_textf(const char *format, ...)
{
    FORMATTED(text, format);
    return text;
}

const char *sandbar_format(const char *format, ...)
{
    FORMATTED(text, format);
    return text.data;
}

void *sandbar_alloc(size_t size)
{
    return memset(sandbar_arena(size), 0, size);
}

/* ---- events ---- */

const char *sandbar_event_id(const sandbar_event_t *event)
{
    const char *id = sandbar_event_attribute(event, "id");
    const char *source = sandbar_event_attribute(event, "source");
    if (!id)
        return sandbar_format("%s/%u/%llu", event->topic, (unsigned)event->partition,
                              (unsigned long long)event->position);
    return source ? sandbar_format("%s#%s", source, id) : id;
}

const char *sandbar_event_attribute(const sandbar_event_t *event, const char *name)
{
    for (size_t i = 0; i < event->attribute_count; i++)
        if (strcmp(event->attributes[i].name, name) == 0)
            return event->attributes[i].value;
    return NULL;
}

const sandbar_header_t *sandbar_event_header(const sandbar_event_t *event, const char *name)
{
    for (size_t i = 0; i < event->header_count; i++)
        if (strcmp(event->headers[i].name, name) == 0)
            return &event->headers[i];
    return NULL;
}

/* Room for one more: lists grow at each power of two. */
static void *grown(void *list, size_t count, size_t size)
{
    if (count & (count - 1))
        return list;
    void *more = sandbar_arena((count ? 2 * count : 1) * size);
    return count ? memcpy(more, list, count * size) : more;
}

void sandbar_add_header(sandbar_outgoing_t *event, const char *name, sandbar_bytes_t value)
{
    event->headers = grown(event->headers, event->header_count, sizeof *event->headers);
    event->headers[event->header_count++] = (sandbar_header_t){name, value};
}

void sandbar_add_attribute(sandbar_outgoing_t *event, const char *name, const char *value)
{
    event->attributes = grown(event->attributes, event->attribute_count, sizeof *event->attributes);
    event->attributes[event->attribute_count++] = (sandbar_attribute_t){name, value};
}

/* ---- what becomes of an event ---- */

sandbar_result_t sandbar_retry(const char *format, ...)
{
    FORMATTED(text, format);
    return (sandbar_result_t){.verdict = SANDBAR_RETRY, .message = text.data};
}

sandbar_result_t sandbar_retry_after(uint64_t ms, const char *format, ...)
{
    FORMATTED(text, format);
    return (sandbar_result_t){.verdict = SANDBAR_RETRY, .message = text.data, .delay_ms = ms};
}

sandbar_result_t sandbar_reject(const char *code, const char *format, ...)
{
    FORMATTED(text, format);
    return (sandbar_result_t){.verdict = SANDBAR_REJECT, .code = code, .message = text.data};
}

sandbar_result_t sandbar_skip(const char *format, ...)
{
    FORMATTED(text, format);
    return (sandbar_result_t){.verdict = SANDBAR_SKIP, .message = text.data};
}

sandbar_result_t sandbar_defer(uint64_t ms)
{
    return (sandbar_result_t){.verdict = SANDBAR_DEFER, .delay_ms = ms};
}

/* ---- text ---- */

static bool in(char byte, unsigned from, unsigned to)
{
    return (unsigned char)byte >= from && (unsigned char)byte <= to;
}

size_t sandbar_utf8(const char *at, const char *end)
{
    unsigned lead = (unsigned char)*at;
    if (lead < 0x80)
        return 1;
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || (size_t)(end - at) < len)
        return 0;
    /* no overlong forms, no surrogates, nothing beyond U+10FFFF */
    unsigned least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (!in(at[1], least, most))
        return 0;
    for (size_t i = 2; i < len; i++)
        if (!in(at[i], 0x80, 0xbf))
            return 0;
    return len;
}

bool sandbar_whole(const char *text, uint64_t most, uint64_t *value)
{
    *value = 0;
    for (const char *at = text; *at; at++) {
        unsigned digit = (unsigned char)*at - '0';
        if (digit > 9 || *value > (most - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    return *text != 0;
}

bool sandbar_config_u64(const char *key, uint64_t *value, sandbar_result_t *result)
{
    const char *text = sandbar_failed(*result) ? NULL : sandbar_config(key);
    if (!text)
        return false;
    uint64_t read;
    if (!sandbar_whole(text, UINT64_MAX, &read)) {
        *result = sandbar_retry("config `%s` is \"%s\": a whole number was expected", key, text);
        return false;
    }
    *value = read;
    return true;
}
