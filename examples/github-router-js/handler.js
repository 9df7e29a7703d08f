// Turns GitHub webhooks into small typed events, in order per repository.

import { defineHandler, Outgoing, Reject } from "sandbar-sdk";

export default defineHandler({
  topics: ["github.webhooks"],
  publishes: ["github.events"],
  ordering: "key",
  retry: { maxAttempts: 5, initialDelay: "200ms" },

  handle(event) {
    const { name, body } = event.json(webhook);
    if (name === "") throw new Reject("no-event-name", "`event` is empty");

    const type = body.action === null ? name : `${name}.${body.action}`;
    const { repository, organization, sender, action, number, title, at } = body;
    return new Outgoing("github.events", {
      // events of one repository, or else of one organisation, stay in order
      key: repository ?? organization ?? "none",
      // the same webhook always gives the same bytes
      json: { type, repository, organization, sender, action, number, title, at },
      // an id that a redelivery repeats lets consumers find duplicates
      attributes: { id: event.id, source: "/github-router", type },
    });
  },
});

/** A webhook as a relay writes it: GitHub's event name and the body it posted. */
function webhook(value) {
  const { event, payload } = object(value, "the webhook");
  const body = object(payload, "payload");
  const name = text(event, "event");
  if (name === null) throw new TypeError("event is missing");
  const subject = part(body.pull_request ?? body.issue ?? body.discussion, "the subject");
  return {
    name,
    body: {
      action: text(body.action, "payload.action"),
      repository: text(part(body.repository, "repository").full_name, "repository.full_name"),
      organization: text(part(body.organization, "organization").login, "organization.login"),
      sender: text(part(body.sender, "sender").login, "sender.login"),
      number: whole(subject.number, "number"),
      title: text(subject.title, "title"),
      at: text(subject.updated_at, "updated_at"),
    },
  };
}

function part(value, what) {
  return value === undefined || value === null ? {} : object(value, what);
}

function object(value, what) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${what} is no object`);
  }
  return value;
}

function text(value, what) {
  if (value === undefined || value === null) return null;
  if (typeof value !== "string") throw new TypeError(`${what} is no text`);
  return value;
}

function whole(value, what) {
  if (value === undefined || value === null) return null;
  if (!Number.isSafeInteger(value) || value < 0) throw new TypeError(`${what} is no whole number`);
  return value;
}
