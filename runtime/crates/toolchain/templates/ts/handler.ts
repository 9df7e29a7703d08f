// Greets everyone who arrives.

import { defineHandler, Outgoing, Reject } from "sandbar-sdk";

interface Arrival {
  name: string;
}

export default defineHandler({
  topics: ["arrivals"],
  publishes: ["greetings"],

  handle(event) {
    const { name } = event.json<Arrival>();
    if (!name) throw new Reject("no-name", "`name` is empty");
    console.info(`greeting ${name}`);
    return new Outgoing("greetings", { key: name, text: `Hello, ${name}!` });
  },
});
