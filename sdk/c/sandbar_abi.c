/* The boundary: imports and exports with the flat types and layouts that the canonical ABI
 * gives to wit/0.1.1, whose records are frozen. wit-component checks the functions against the
 * world when it makes the component. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbar_internal.h"

/* ---- layouts ---- */

typedef struct {
    optional_t connection;
    list_t topics, options;
} subscription_t;

typedef struct {
    list_t name, version, description, subscriptions, publishes;
    optional_t config_schema;
    list_t annotations;
} metadata_t;

typedef struct {
    uint32_t failed;
    list_t message;
} init_result_t;

typedef struct {
    _Alignas(8) uint32_t failed;
    union {
        list_t published;
        struct {
            uint32_t kind;
            union {
                struct {
                    _Alignas(8) list_t reason;
                    uint64_t has_delay, delay_ms;
                } retry;
                struct {
                    list_t code, message;
                } reject;
                list_t skip;
                uint64_t defer_ms;
            };
        } failure;
    };
} handle_result_t;

_Static_assert(sizeof(outgoing_t) == 60, "layout of `outgoing`");
_Static_assert(sizeof(subscription_t) == 28, "layout of `subscription`");
_Static_assert(sizeof(metadata_t) == 60, "layout of `metadata`");
_Static_assert(sizeof(handle_result_t) == 40, "layout of `handle`'s result");
_Static_assert(offsetof(handle_result_t, failure.retry.reason) == 16, "layout of `failure`");

/* ---- imports ---- */

IMPORT("wasi:logging/logging@0.1.0-draft", "log")
void import_log(uint32_t level, const char *context, size_t context_len, const char *message,
                size_t message_len);
IMPORT("wasi:config/store@0.2.0-rc.1", "get")
void import_config_get(const char *key, size_t key_len, uint32_t result[4]);
IMPORT(EVENTS("context"), "plugin-name") void import_plugin_name(list_t *result);
IMPORT(EVENTS("context"), "plugin-version") void import_plugin_version(list_t *result);
IMPORT(EVENTS("context"), "connection") void import_connection(list_t *result);
IMPORT(EVENTS("context"), "remaining-ms") uint64_t import_remaining_ms(void);

/* What the build adds beside preview 1. */
#define PREVIEW1 "wasi_snapshot_preview1"
IMPORT(PREVIEW1, "sandbar_lend") void preview1_lend(void *at, size_t len);
IMPORT(PREVIEW1, "sandbar_live") void preview1_live(void);
IMPORT(PREVIEW1, "sandbar_flush") void preview1_flush(void);
IMPORT(PREVIEW1, "sandbar_event_time") void preview1_event_time(uint64_t ms);
IMPORT(PREVIEW1, "sandbar_panic") _Noreturn void preview1_panic(const char *reason, size_t len);

/* ---- memory of one event ---- */

/* Blocks in the order they were made; the last one is in use. */
typedef struct sandbar_block {
    struct sandbar_block *before;
    size_t used, size;
    _Alignas(16) char memory[];
} block_t;

#define BLOCK_SIZE (64 * 1024)

static block_t *arena;
/* What `init` has made stays. */
static block_t *kept;
static size_t kept_used;

void *sandbar_arena(size_t size)
{
    if (size > SIZE_MAX / 2)
        sandbar_panic("out of memory");
    size_t whole = (size + 1 + 15) & ~(size_t)15;
    if (!arena || arena->size - arena->used < whole) {
        size_t room = whole > BLOCK_SIZE ? whole : BLOCK_SIZE;
        block_t *block = malloc(sizeof *block + room);
        if (!block)
            sandbar_panic("out of memory");
        *block = (block_t){.before = arena, .size = room};
        arena = block;
    }
    char *memory = arena->memory + arena->used;
    arena->used += whole;
    memory[size] = 0;
    return memory;
}

sandbar_mark_t sandbar_mark(void)
{
    return (sandbar_mark_t){arena, arena ? arena->used : 0};
}

void sandbar_rewind(sandbar_mark_t mark)
{
    while (arena && arena != mark.block) {
        block_t *before = arena->before;
        free(arena);
        arena = before;
    }
    if (arena)
        arena->used = mark.used;
}

void sandbar_forget(void)
{
    /* one block stays, for the next event */
    while (arena && arena != kept && arena->before) {
        block_t *before = arena->before;
        free(arena);
        arena = before;
    }
    if (arena)
        arena->used = arena == kept ? kept_used : 0;
}

EXPORT("cabi_realloc")
void *cabi_realloc(const void *old, size_t old_size, size_t align, size_t new_size)
{
    (void)align;
    void *memory = sandbar_arena(new_size);
    return old ? memcpy(memory, old, old_size < new_size ? old_size : new_size) : memory;
}

/* ---- from the host ---- */

static sandbar_bytes_t bytes(uint32_t there, const char *at, size_t len)
{
    if (!there)
        return (sandbar_bytes_t){NULL, 0};
    return (sandbar_bytes_t){.data = len ? at : "", .len = len};
}

static const char *text(list_t list)
{
    return list.len ? list.at : "";
}

/* ---- to the host ---- */

list_t sandbar_put_text(sandbar_bytes_t bytes)
{
    const char *end = bytes.data + bytes.len;
    char *mended = NULL;
    for (const char *at = bytes.data; at < end;) {
        size_t len = sandbar_utf8(at, end);
        if (len == 0) {
            if (!mended)
                mended = memcpy(sandbar_arena(bytes.len), bytes.data, bytes.len);
            mended[at - bytes.data] = '?';
            len = 1;
        }
        at += len;
    }
    return (list_t){mended ? mended : bytes.data, bytes.len};
}

list_t sandbar_put(const char *text)
{
    return sandbar_put_text(sandbar_text(text));
}

static optional_t put_optional(const char *text)
{
    return (optional_t){.there = text != NULL, .list = sandbar_put(text)};
}

static optional_t put_bytes(sandbar_bytes_t bytes)
{
    return (optional_t){.there = bytes.data != NULL, .list = {bytes.data, bytes.len}};
}

static list_t put_texts(const char *const *texts)
{
    size_t count = 0;
    while (texts && texts[count])
        count++;
    list_t *list = sandbar_arena(count * sizeof *list);
    for (size_t i = 0; i < count; i++)
        list[i] = sandbar_put(texts[i]);
    return (list_t){list, count};
}

/* ---- describe and init ---- */

EXPORT("sandbar:events/plugin@0.1.1#describe")
metadata_t *export_describe(void)
{
    static metadata_t metadata;
    static subscription_t subscription;
    const sandbar_plugin_t *p = &sandbar_plugin;
    size_t count = 0;
    while (p->options && p->options[count].name)
        count++;
    pair_t *options = sandbar_arena(count * sizeof *options);
    for (size_t i = 0; i < count; i++)
        options[i] = (pair_t){sandbar_put(p->options[i].name), sandbar_put(p->options[i].value)};
    subscription = (subscription_t){
        .connection = put_optional(p->connection),
        .topics = put_texts(p->topics),
        .options = {options, count},
    };
    metadata = (metadata_t){
        .name = sandbar_put(p->name),
        .version = sandbar_put(p->version),
        .description = sandbar_put(p->description),
        .subscriptions = {&subscription, 1},
        .publishes = put_texts(p->publishes),
        .config_schema = put_optional(p->config_schema),
    };
    return &metadata;
}

sandbar_log_level_t sandbar_log_level = SANDBAR_LOG_INFO;

static void read_log_level(void)
{
    static const char *const names[] = {"trace", "debug", "info", "warn", "error", "off"};
    const char *name = sandbar_config("log-level");
    if (!name)
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            sandbar_log_level = (sandbar_log_level_t)i;
            return;
        }
    sandbar_warn("config `log-level` is \"%s\": it must be one of off, error, warn, info, debug, trace",
                 name);
}

/* Holds what is printed until it is a line, or the reason of a crash. */
static _Alignas(16) char lent[32 * 1024];

__attribute__((constructor(101))) static void lend(void)
{
    preview1_lend(lent, sizeof lent);
}

EXPORT("sandbar:events/lifecycle@0.1.1#init")
init_result_t *export_init(void)
{
    static init_result_t result;
    preview1_live();
    read_log_level();
    sandbar_result_t said = sandbar_plugin.init ? sandbar_plugin.init() : SANDBAR_OK;
    preview1_flush();
    result = (init_result_t){.failed = sandbar_failed(said), .message = sandbar_put(said.message)};
    kept = arena;
    kept_used = arena ? arena->used : 0;
    return &result;
}

/* ---- handle ---- */

/* Events to publish, as they were added. */
static sandbar_outgoing_t **outputs;
static size_t output_count;

sandbar_outgoing_t *sandbar_publish(const char *topic)
{
    if ((output_count & (output_count - 1)) == 0) {
        void *more = sandbar_arena((output_count ? 2 * output_count : 1) * sizeof *outputs);
        outputs = output_count ? memcpy(more, outputs, output_count * sizeof *outputs) : more;
    }
    sandbar_outgoing_t *event = sandbar_alloc(sizeof *event);
    event->topic = topic;
    return outputs[output_count++] = event;
}

outgoing_t sandbar_put_outgoing(const sandbar_outgoing_t *event)
{
    pair_t *headers = sandbar_arena(event->header_count * sizeof *headers);
    for (size_t i = 0; i < event->header_count; i++) {
        sandbar_header_t h = event->headers[i];
        headers[i] = (pair_t){sandbar_put(h.name), {h.value.data, h.value.len}};
    }
    pair_t *attributes = sandbar_arena(event->attribute_count * sizeof *attributes);
    for (size_t i = 0; i < event->attribute_count; i++)
        attributes[i] = (pair_t){sandbar_put(event->attributes[i].name), sandbar_put(event->attributes[i].value)};
    return (outgoing_t){
        .connection = put_optional(event->connection),
        .topic = sandbar_put(event->topic),
        .key = put_bytes(event->key),
        .payload = put_bytes(event->payload),
        .headers = {headers, event->header_count},
        .attributes = {attributes, event->attribute_count},
    };
}

sandbar_outgoing_t *const *sandbar_outputs(size_t *count)
{
    *count = output_count;
    return outputs;
}

_Noreturn void sandbar_not_a_result(sandbar_result_t result)
{
    sandbar_panic("the handler returned no sandbar_result_t: its verdict is %d", (int)result.verdict);
}

sandbar_result_t sandbar_call(const sandbar_event_t *event)
{
    output_count = 0;
    preview1_event_time(event->timestamp_ms);
    sandbar_result_t said = sandbar_plugin.handle(event);
    preview1_flush();
    return said;
}

static void put_result(handle_result_t *to, sandbar_result_t result)
{
    to->failed = sandbar_failed(result);
    switch (result.verdict) {
    case SANDBAR_DONE: {
        outgoing_t *list = sandbar_arena(output_count * sizeof *list);
        for (size_t i = 0; i < output_count; i++)
            list[i] = sandbar_put_outgoing(outputs[i]);
        to->published = (list_t){list, output_count};
        return;
    }
    case SANDBAR_RETRY:
        to->failure.kind = 0;
        to->failure.retry.reason = sandbar_put(result.message);
        to->failure.retry.has_delay = result.delay_ms > 0;
        to->failure.retry.delay_ms = result.delay_ms;
        return;
    case SANDBAR_REJECT:
        to->failure.kind = 1;
        to->failure.reject.code = sandbar_put(result.code);
        to->failure.reject.message = sandbar_put(result.message);
        return;
    case SANDBAR_SKIP:
        to->failure.kind = 2;
        to->failure.skip = sandbar_put(result.message);
        return;
    case SANDBAR_DEFER:
        to->failure.kind = 3;
        to->failure.defer_ms = result.delay_ms;
        return;
    }
    sandbar_not_a_result(result);
}

EXPORT("sandbar:events/handler@0.1.1#handle")
handle_result_t *export_handle(const char *topic, uint32_t topic_len, uint32_t partition,
                               uint64_t position, uint32_t has_key, const char *key,
                               uint32_t key_len, uint32_t has_payload, const char *payload,
                               uint32_t payload_len, const pair_t *headers, uint32_t header_count,
                               uint64_t timestamp_ms, uint32_t attempt, const pair_t *attributes,
                               uint32_t attribute_count)
{
    static handle_result_t result;
    sandbar_header_t *named = sandbar_arena(header_count * sizeof *named);
    for (uint32_t i = 0; i < header_count; i++)
        named[i] = (sandbar_header_t){text(headers[i].name),
                                      bytes(true, headers[i].value.at, headers[i].value.len)};
    sandbar_attribute_t *facts = sandbar_arena(attribute_count * sizeof *facts);
    for (uint32_t i = 0; i < attribute_count; i++)
        facts[i] = (sandbar_attribute_t){text(attributes[i].name), text(attributes[i].value)};
    sandbar_event_t event = {
        .topic = topic_len ? topic : "",
        .partition = partition,
        .position = position,
        .key = bytes(has_key, key, key_len),
        .payload = bytes(has_payload, payload, payload_len),
        .headers = named,
        .header_count = header_count,
        .timestamp_ms = timestamp_ms,
        .attempt = attempt,
        .attributes = facts,
        .attribute_count = attribute_count,
    };
    put_result(&result, sandbar_call(&event));
    return &result;
}

/* The host has read the result. */
EXPORT("cabi_post_sandbar:events/handler@0.1.1#handle")
void export_handled(handle_result_t *result)
{
    (void)result;
    sandbar_forget();
}

/* ---- configuration, facts, log ---- */

const char *sandbar_config(const char *key)
{
    uint32_t result[4];
    list_t name = sandbar_put(key);
    import_config_get(name.at, name.len, result);
    list_t said = {(const void *)(uintptr_t)result[2], result[3]};
    if ((result[0] & 0xff) != 0) {
        sandbar_error("config `%s`: %s", key, text(said));
        return NULL;
    }
    return (result[1] & 0xff) != 0 ? text(said) : NULL;
}

static const char *ask(void (*import)(list_t *))
{
    list_t answer;
    import(&answer);
    return text(answer);
}

const char *sandbar_plugin_name(void)
{
    return ask(import_plugin_name);
}

const char *sandbar_plugin_version(void)
{
    return ask(import_plugin_version);
}

const char *sandbar_connection(void)
{
    return ask(import_connection);
}

uint64_t sandbar_remaining_ms(void)
{
    return import_remaining_ms();
}

void sandbar_log(sandbar_log_level_t level, const char *format, ...)
{
    if (level < sandbar_log_level || level >= SANDBAR_LOG_OFF)
        return;
    va_list arguments;
    va_start(arguments, format);
    list_t message = sandbar_put_text(sandbar_vformat(format, arguments));
    va_end(arguments);
    import_log(level, "plugin", 6, message.at, message.len);
}

/* ---- the end ---- */

/* Not in the arena: there may be no memory left. */
static char reason[4096];

_Noreturn void sandbar_panic_at(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    /* the place always has room */
    const size_t room = sizeof reason - 256;
    int len = vsnprintf(reason, room, format, arguments);
    va_end(arguments);
    size_t at = len < 0 ? 0 : (size_t)len < room ? (size_t)len : room - 1;
    int more = snprintf(reason + at, sizeof reason - at, " (%s:%d)", file, line);
    size_t end = at + (more < 0 ? 0 : (size_t)more);
    end = end < sizeof reason ? end : sizeof reason - 1;
    for (size_t i = 0; i < end;) {
        size_t valid = sandbar_utf8(reason + i, reason + end);
        if (valid == 0)
            reason[i] = '?';
        i += valid ? valid : 1;
    }
    preview1_panic(reason, end);
}
