/* Turns GitHub webhooks into small typed events, in order per repository. */
#include <sandbar.h>

/* Where the typed events go. */
#define OUTPUT "github.events"

/* What an event is about. */
static const sandbar_json_t *subject(const sandbar_json_t *body, sandbar_result_t *result)
{
    static const char *const names[] = {"pull_request", "issue", "discussion"};
    const sandbar_json_t *found = NULL;
    for (int i = 0; i < 3; i++) {
        const sandbar_json_t *one = sandbar_json_object(body, names[i], SANDBAR_OPTIONAL, result);
        if (!found)
            found = one;
    }
    return found;
}

/* A text within an object, if both are there. */
static const char *inner(const sandbar_json_t *body, const char *object, const char *name,
                         sandbar_result_t *result)
{
    const sandbar_json_t *of = sandbar_json_object(body, object, SANDBAR_OPTIONAL, result);
    return sandbar_json_text(of, name, SANDBAR_OPTIONAL, result);
}

static sandbar_result_t route(const sandbar_event_t *event)
{
    /* a webhook as a relay writes it: GitHub's event name and the body it posted */
    sandbar_result_t result = SANDBAR_OK;
    const sandbar_json_t *webhook = sandbar_event_json(event, &result);
    const char *name = sandbar_json_text(webhook, "event", SANDBAR_REQUIRED, &result);
    const sandbar_json_t *body = sandbar_json_object(webhook, "payload", SANDBAR_REQUIRED, &result);

    const char *action = sandbar_json_text(body, "action", SANDBAR_OPTIONAL, &result);
    const char *repository = inner(body, "repository", "full_name", &result);
    const char *organization = inner(body, "organization", "login", &result);
    const char *sender = inner(body, "sender", "login", &result);
    const sandbar_json_t *about = subject(body, &result);
    const char *title = sandbar_json_text(about, "title", SANDBAR_OPTIONAL, &result);
    const char *at = sandbar_json_text(about, "updated_at", SANDBAR_OPTIONAL, &result);
    uint64_t number;
    bool numbered = sandbar_json_u64(about, "number", SANDBAR_OPTIONAL, &number, &result);
    if (sandbar_failed(result))
        return result;
    if (!*name)
        return sandbar_reject("no-event-name", "`event` is empty");

    const char *type = action ? sandbar_format("%s.%s", name, action) : name;
    sandbar_json_writer_t typed = {0};
    sandbar_json_begin_object(&typed, NULL);
    sandbar_json_put_text(&typed, "type", type);
    sandbar_json_put_text(&typed, "repository", repository);
    sandbar_json_put_text(&typed, "organization", organization);
    sandbar_json_put_text(&typed, "sender", sender);
    sandbar_json_put_text(&typed, "action", action);
    if (numbered)
        sandbar_json_put_u64(&typed, "number", number);
    else
        sandbar_json_put_null(&typed, "number");
    sandbar_json_put_text(&typed, "title", title);
    sandbar_json_put_text(&typed, "at", at);
    sandbar_json_end_object(&typed);

    sandbar_outgoing_t *output = sandbar_publish(OUTPUT);
    /* events of one repository, or else of one organisation, stay in order */
    output->key = sandbar_text(repository ? repository : organization ? organization : "none");
    output->payload = sandbar_json_written(&typed);
    /* an id that a redelivery repeats lets consumers find duplicates */
    sandbar_add_attribute(output, "id", sandbar_event_id(event));
    sandbar_add_attribute(output, "source", "/github-router");
    sandbar_add_attribute(output, "type", type);
    return SANDBAR_OK;
}

SANDBAR_PLUGIN(
    .name = "github-router-c",
    .version = "1.0.0",
    .description = "Turns GitHub webhooks into typed events keyed by repository",
    .topics = SANDBAR_LIST("github.webhooks"),
    .publishes = SANDBAR_LIST(OUTPUT),
    .options = SANDBAR_OPTIONS({"ordering", "key"}, {"retry.max-attempts", "5"},
                               {"retry.initial-delay", "200ms"}),
    .handle = route)
