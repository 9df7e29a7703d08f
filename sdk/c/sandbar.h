/* Sandbar plugins in C: one function that takes an event and publishes others.
 *
 *     #include <sandbar.h>
 *
 *     static sandbar_result_t greet(const sandbar_event_t *event)
 *     {
 *         sandbar_result_t result = SANDBAR_OK;
 *         const sandbar_json_t *arrival = sandbar_event_json(event, &result);
 *         const char *name = sandbar_json_text(arrival, "name", SANDBAR_REQUIRED, &result);
 *         if (sandbar_failed(result))
 *             return result;
 *         sandbar_info("greeting %s", name);
 *         sandbar_outgoing_t *greeting = sandbar_publish("greetings");
 *         greeting->key = sandbar_text(name);
 *         greeting->payload = sandbar_textf("Hello, %s!", name);
 *         return SANDBAR_OK;
 *     }
 *
 *     SANDBAR_PLUGIN(
 *         .name = "greeter",
 *         .version = "1.0.0",
 *         .topics = SANDBAR_LIST("arrivals"),
 *         .publishes = SANDBAR_LIST("greetings"),
 *         .handle = greet)
 *
 * `sandbar plugin build` makes a component of it; README.md has the whole way.
 *
 * Memory: whatever this library hands out (the event, texts, JSON values, events to publish)
 * lives until the handler returns and is then freed all at once; nobody frees it by hand. What
 * is made during `init` stays. For anything else there is malloc. Pointers are never NULL
 * where nothing is said of it. Texts end with a NUL and are UTF-8; bytes that are none become
 * `?` where the host wants text.
 */
#ifndef SANDBAR_H
#define SANDBAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SANDBAR_FORMAT(text, first) __attribute__((__format__(__printf__, text, first)))

/* ---- bytes ---- */

/* Bytes; `data` is NULL where there are none at all. What this library makes has a NUL after
 * the last byte, which `len` does not count. */
typedef struct {
    const char *data;
    size_t len;
} sandbar_bytes_t;

/* The bytes of a text; none for NULL. Nothing is copied. */
sandbar_bytes_t sandbar_text(const char *text);
/* As printf. */
sandbar_bytes_t sandbar_textf(const char *format, ...) SANDBAR_FORMAT(1, 2);
/* As sandbar_textf, as text. */
const char *sandbar_format(const char *format, ...) SANDBAR_FORMAT(1, 2);
/* Zeroed memory that lives as long as the event. */
void *sandbar_alloc(size_t size);

/* ---- events ---- */

/* A broker header. Names may repeat; a broker's null value arrives as an empty one. */
typedef struct {
    const char *name;
    sandbar_bytes_t value;
} sandbar_header_t;

/* A CloudEvents attribute by bare name ("id", "type", "source"), or a host extra ("sandbar-..."). */
typedef struct {
    const char *name;
    const char *value;
} sandbar_attribute_t;

/* One event as it was delivered. */
typedef struct {
    const char *topic;
    uint32_t partition; /* 0 where the broker has none */
    uint64_t position;  /* offset or stream sequence; 0 where the broker has none */
    sandbar_bytes_t key;     /* .data is NULL where there is none */
    sandbar_bytes_t payload; /* .data is NULL for a tombstone (a delete marker) */
    const sandbar_header_t *headers;
    size_t header_count;
    uint64_t timestamp_ms; /* since the Unix epoch, from the broker */
    uint32_t attempt;      /* 1 on first delivery, +1 on each retry */
    const sandbar_attribute_t *attributes;
    size_t attribute_count;
} sandbar_event_t;

/* An identity that is stable across redeliveries and replays, fit for an idempotency key: the
 * CloudEvents "source#id" or "id", else "topic/partition/position". */
const char *sandbar_event_id(const sandbar_event_t *event);
/* The CloudEvents attribute or host extra of that name, or NULL. */
const char *sandbar_event_attribute(const sandbar_event_t *event, const char *name);
/* The first header of that name, or NULL; letter case counts. */
const sandbar_header_t *sandbar_event_header(const sandbar_event_t *event, const char *name);

/* ---- events to publish ---- */

/* An event to be published, if the handler returns SANDBAR_OK. */
typedef struct {
    const char *connection; /* a configured one; NULL: the plugin's default output */
    const char *topic;      /* one that the plugin may publish to */
    sandbar_bytes_t key;
    sandbar_bytes_t payload; /* until it is set the event is a tombstone */
    /* Filled by the functions below. */
    sandbar_header_t *headers;
    size_t header_count;
    sandbar_attribute_t *attributes;
    size_t attribute_count;
} sandbar_outgoing_t;

/* Adds an event to those that are published when the handler returns SANDBAR_OK. */
sandbar_outgoing_t *sandbar_publish(const char *topic);
void sandbar_add_header(sandbar_outgoing_t *event, const char *name, sandbar_bytes_t value);
/* A CloudEvents attribute by bare name; the host writes it as the broker spells it. */
void sandbar_add_attribute(sandbar_outgoing_t *event, const char *name, const char *value);

/* ---- what becomes of an event ---- */

typedef enum {
    SANDBAR_DONE,     /* what was published goes out, and the event is acknowledged */
    SANDBAR_RETRY,    /* deliver again; uses up one attempt, then to the dead-letter queue */
    SANDBAR_REJECT,   /* straight to the dead-letter queue */
    SANDBAR_SKIP,     /* not for this plugin: acknowledge, count as skipped */
    SANDBAR_DEFER,    /* something is down: pause the plugin, use up no attempt */
} sandbar_verdict_t;

/* Made by the functions below. */
typedef struct {
    sandbar_verdict_t verdict;
    const char *code;    /* of a rejection: stable, dead letters are grouped by it */
    const char *message; /* for people */
    uint64_t delay_ms;   /* of a retry (0: the policy's) or a pause */
} sandbar_result_t;

#define SANDBAR_OK ((sandbar_result_t){.verdict = SANDBAR_DONE})

static inline bool sandbar_failed(sandbar_result_t result)
{
    return result.verdict != SANDBAR_DONE;
}

/* A transient failure: try again under the retry policy. */
sandbar_result_t sandbar_retry(const char *format, ...) SANDBAR_FORMAT(1, 2);
/* As sandbar_retry, after this delay (the host clamps it to the policy's maximum). */
sandbar_result_t sandbar_retry_after(uint64_t ms, const char *format, ...) SANDBAR_FORMAT(2, 3);
/* A permanent failure. */
sandbar_result_t sandbar_reject(const char *code, const char *format, ...) SANDBAR_FORMAT(2, 3);
/* The event is not for this plugin. */
sandbar_result_t sandbar_skip(const char *format, ...) SANDBAR_FORMAT(1, 2);
/* Something that the plugin depends on is down: pause the whole plugin. */
sandbar_result_t sandbar_defer(uint64_t ms);

/* ---- the plugin ---- */

typedef struct {
    const char *name;
    const char *value;
} sandbar_option_t;

/* What the program says of itself. */
typedef struct {
    const char *name;    /* lower-case letters, digits and `-` */
    const char *version; /* such as "1.0.0" */
    const char *description;
    const char *const *topics;    /* SANDBAR_LIST: exact or with `*` */
    const char *const *publishes; /* SANDBAR_LIST: what it may publish to */
    const char *connection;       /* the configured one; NULL: the default one */
    /* Settings that it suggests, by the names that they have in NAME.toml. */
    const sandbar_option_t *options; /* SANDBAR_OPTIONS */
    const char *config_schema;       /* JSON Schema of the configuration, or NULL */
    /* Called for each event. */
    sandbar_result_t (*handle)(const sandbar_event_t *event);
    /* Called on each new instance before its first event; may be NULL. Anything but SANDBAR_OK
     * keeps the previous version of the plugin running. */
    sandbar_result_t (*init)(void);
} sandbar_plugin_t;

/* Exactly once per program, at file scope. */
extern const sandbar_plugin_t sandbar_plugin;
#define SANDBAR_PLUGIN(...) const sandbar_plugin_t sandbar_plugin = {__VA_ARGS__};
#define SANDBAR_LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SANDBAR_OPTIONS(...) ((const sandbar_option_t[]){__VA_ARGS__, {NULL, NULL}})

/* ---- configuration and facts ---- */

/* The plugin's own setting of that name (the `config` table of NAME.toml), or NULL. */
const char *sandbar_config(const char *key);
/* Whether it is set; if it is, `value` is. Where it is no whole number `result` becomes a failure
 * that says so. */
bool sandbar_config_u64(const char *key, uint64_t *value, sandbar_result_t *result);
/* The name under which the plugin runs: the file's name without `.wasm`. */
const char *sandbar_plugin_name(void);
/* The version that the plugin states of itself. */
const char *sandbar_plugin_version(void);
/* Name of the configured connection that the events come from. */
const char *sandbar_connection(void);
/* Milliseconds until the host interrupts this call. */
uint64_t sandbar_remaining_ms(void);

/* ---- log ---- */

typedef enum {
    SANDBAR_LOG_TRACE,
    SANDBAR_LOG_DEBUG,
    SANDBAR_LOG_INFO,
    SANDBAR_LOG_WARN,
    SANDBAR_LOG_ERROR,
    SANDBAR_LOG_OFF,
} sandbar_log_level_t;

/* Least severe level that is logged: the setting `log-level`, else info. */
extern sandbar_log_level_t sandbar_log_level;
void sandbar_log(sandbar_log_level_t level, const char *format, ...) SANDBAR_FORMAT(2, 3);

/* As printf; the arguments of what is not logged are not looked at. */
#define SANDBAR_LOG(level, ...) \
    do { \
        if ((level) >= sandbar_log_level) \
            sandbar_log((level), __VA_ARGS__); \
    } while (0)
#define sandbar_trace(...) SANDBAR_LOG(SANDBAR_LOG_TRACE, __VA_ARGS__)
#define sandbar_debug(...) SANDBAR_LOG(SANDBAR_LOG_DEBUG, __VA_ARGS__)
#define sandbar_info(...) SANDBAR_LOG(SANDBAR_LOG_INFO, __VA_ARGS__)
#define sandbar_warn(...) SANDBAR_LOG(SANDBAR_LOG_WARN, __VA_ARGS__)
#define sandbar_error(...) SANDBAR_LOG(SANDBAR_LOG_ERROR, __VA_ARGS__)

/* ---- the end ---- */

/* Fails the attempt and ends the instance. Message, file and line are in the dead letter, as
 * they are for assert() and abort(). */
#define sandbar_panic(...) sandbar_panic_at(__FILE__, __LINE__, __VA_ARGS__)
#ifndef __cplusplus
#define abort() sandbar_panic("abort() was called")
#endif
_Noreturn void sandbar_panic_at(const char *file, int line, const char *format, ...)
    SANDBAR_FORMAT(3, 4);

/* ---- what needs a grant ---- */

/* At file scope: time() and the like ask the host, for which the plugin needs the grant
 * `clocks`. Without it they give the timestamp of the event in hand. */
#define SANDBAR_USES_CLOCKS \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("sandbar_host_clocks"))) void \
    sandbar_host_clocks(void); \
    __attribute__((constructor)) static void sandbar_use_clocks(void) { sandbar_host_clocks(); }
/* At file scope: getentropy() and the like ask the host, for which the plugin needs the grant
 * `random`. Without it they fail. */
#define SANDBAR_USES_RANDOM \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("sandbar_host_random"))) void \
    sandbar_host_random(void); \
    __attribute__((constructor)) static void sandbar_use_random(void) { sandbar_host_random(); }

#ifdef __cplusplus
}
#endif

#include "sandbar_json.h"
#include "sandbar_reach.h"

#endif
