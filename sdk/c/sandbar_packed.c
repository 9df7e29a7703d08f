/* The fast path: a frame of many events in, a frame of their outcomes out. docs/packed-frames.md of
 * Sandbar has the format. The host takes it where it can; no handler sees which way it was called. */
#include <stdlib.h>
#include <string.h>

#include "sandbar_internal.h"

#define VERSION 1
#define ABSENT UINT32_MAX

/* ---- reading ---- */

typedef struct {
    char *at, *end;
} reader_t;

static char *take(reader_t *frame, size_t len)
{
    if ((size_t)(frame->end - frame->at) < len)
        sandbar_panic("the frame of events ends too early");
    char *taken = frame->at;
    frame->at += len;
    return taken;
}

/* Little-endian, as WebAssembly is; not aligned. */
static uint32_t take_u32(reader_t *frame)
{
    uint32_t value;
    memcpy(&value, take(frame, sizeof value), sizeof value);
    return value;
}

static uint64_t take_u64(reader_t *frame)
{
    uint64_t value;
    memcpy(&value, take(frame, sizeof value), sizeof value);
    return value;
}

static sandbar_bytes_t take_bytes(reader_t *frame)
{
    uint32_t len = take_u32(frame);
    if (len == ABSENT)
        return (sandbar_bytes_t){NULL, 0};
    return (sandbar_bytes_t){.data = take(frame, len), .len = len};
}

/* An item of a list takes eight bytes at least: two lengths. */
static uint32_t take_count(reader_t *frame)
{
    uint32_t count = take_u32(frame);
    if (count > (size_t)(frame->end - frame->at) / 8)
        sandbar_panic("the frame of events ends too early");
    return count;
}

/* Puts the NUL behind bytes of the frame, where a number stands that has been read. */
static void finish(sandbar_bytes_t bytes)
{
    if (bytes.data)
        ((char *)bytes.data)[bytes.len] = 0;
}

static sandbar_event_t take_event(reader_t *frame)
{
    sandbar_event_t event = {0};
    event.position = take_u64(frame);
    event.timestamp_ms = take_u64(frame);
    event.partition = take_u32(frame);
    event.attempt = take_u32(frame);
    sandbar_bytes_t topic = take_bytes(frame);
    event.topic = topic.data;
    event.key = take_bytes(frame);
    event.payload = take_bytes(frame);
    event.header_count = take_count(frame);
    sandbar_header_t *headers = sandbar_arena(event.header_count * sizeof *headers);
    finish(topic);
    finish(event.key);
    finish(event.payload);
    sandbar_bytes_t last = {NULL, 0};
    for (size_t i = 0; i < event.header_count; i++) {
        sandbar_bytes_t name = take_bytes(frame);
        finish(last);
        last = take_bytes(frame);
        finish(name);
        headers[i] = (sandbar_header_t){name.data, last};
    }
    event.attribute_count = take_count(frame);
    finish(last);
    sandbar_attribute_t *attributes = sandbar_arena(event.attribute_count * sizeof *attributes);
    last = (sandbar_bytes_t){NULL, 0};
    for (size_t i = 0; i < event.attribute_count; i++) {
        sandbar_bytes_t name = take_bytes(frame);
        finish(last);
        last = take_bytes(frame);
        finish(name);
        attributes[i] = (sandbar_attribute_t){name.data, last.data};
    }
    /* behind it is the next event, which has not been read */
    if (last.data)
        attributes[event.attribute_count - 1].value =
            memcpy(sandbar_arena(last.len), last.data, last.len);
    event.headers = headers;
    event.attributes = attributes;
    return event;
}

/* ---- writing ---- */

/* Not in the arena: it outlives each event. Kept from call to call. */
static char *written;
static size_t written_len, written_size;

static void append(const void *bytes, size_t len)
{
    if (written_size - written_len < len) {
        size_t size = 2 * written_size + len + 4096;
        char *more = size < UINT32_MAX / 2 ? realloc(written, size) : NULL;
        if (!more)
            sandbar_panic("out of memory");
        written = more;
        written_size = size;
    }
    if (len)
        memcpy(written + written_len, bytes, len);
    written_len += len;
}

static void write_u8(uint8_t value)
{
    append(&value, sizeof value);
}

static void write_u32(uint32_t value)
{
    append(&value, sizeof value);
}

static void write_u64(uint64_t value)
{
    append(&value, sizeof value);
}

static void write_list(list_t list)
{
    write_u32(list.len);
    append(list.at, list.len);
}

static void write_text(const char *text)
{
    write_list(sandbar_put(text));
}

static void write_bytes(sandbar_bytes_t bytes)
{
    if (bytes.data)
        write_list((list_t){bytes.data, bytes.len});
    else
        write_u32(ABSENT);
}

static void write_outgoing(const sandbar_outgoing_t *event)
{
    if (event->connection)
        write_text(event->connection);
    else
        write_u32(ABSENT);
    write_text(event->topic);
    write_bytes(event->key);
    write_bytes(event->payload);
    write_u32(event->header_count);
    for (size_t i = 0; i < event->header_count; i++) {
        write_text(event->headers[i].name);
        write_list((list_t){event->headers[i].value.data, event->headers[i].value.len});
    }
    write_u32(event->attribute_count);
    for (size_t i = 0; i < event->attribute_count; i++) {
        write_text(event->attributes[i].name);
        write_text(event->attributes[i].value);
    }
}

static void write_outcome(sandbar_result_t result)
{
    switch (result.verdict) {
    case SANDBAR_DONE: {
        size_t count;
        sandbar_outgoing_t *const *outputs = sandbar_outputs(&count);
        write_u8(0);
        write_u32(count);
        for (size_t i = 0; i < count; i++)
            write_outgoing(outputs[i]);
        return;
    }
    case SANDBAR_RETRY:
        write_u8(1);
        write_text(result.message);
        write_u8(result.delay_ms > 0);
        write_u64(result.delay_ms);
        return;
    case SANDBAR_REJECT:
        write_u8(2);
        write_text(result.code);
        write_text(result.message);
        return;
    case SANDBAR_SKIP:
        write_u8(3);
        write_text(result.message);
        return;
    case SANDBAR_DEFER:
        write_u8(4);
        write_u64(result.delay_ms);
        return;
    }
    sandbar_not_a_result(result);
}

/* ---- the call ---- */

EXPORT(EVENTS("packed-handler") "#handle-packed")
list_t *export_handle_packed(char *events, uint32_t len)
{
    static list_t outcomes;
    reader_t frame = {events, events + len};
    if (*take(&frame, 1) != VERSION)
        sandbar_panic("the frame of events has a version that is not known here");
    uint32_t count = take_count(&frame);
    written_len = 0;
    write_u8(VERSION);
    write_u32(count);
    sandbar_mark_t before = sandbar_mark();
    for (uint32_t i = 0; i < count; i++) {
        sandbar_event_t event = take_event(&frame);
        write_outcome(sandbar_call(&event));
        sandbar_rewind(before);
    }
    if (frame.at != frame.end)
        sandbar_panic("there is something behind the frame of events");
    outcomes = (list_t){written, written_len};
    return &outcomes;
}

/* The host has read the outcomes. */
EXPORT("cabi_post_" EVENTS("packed-handler") "#handle-packed")
void export_handled_packed(list_t *outcomes)
{
    (void)outcomes;
    sandbar_forget();
}
