// Reads server messages, one JSON object a line, from the file named by the argument, and prints those that
// @openai/agents-realtime does not take as what they say they are. Its schemas tell null from absent.

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { OpenAIRealtimeBase } from '@openai/agents-realtime';

const folder = pathToFileURL('node_modules/@openai/agents-realtime/dist/'); // what the package itself uses, not exported
const { realtimeServerEventSchema } = await import(new URL('openaiRealtimeEvents.mjs', folder));
const known = new Set(realtimeServerEventSchema.options.map((option) => option.shape.type.value));

class Transport extends OpenAIRealtimeBase {
  sendEvent() {} // what it asks in return
  take(line) {
    this._onMessage({ data: line }); // throws where a message makes an item of the history that does not fit
  }
}

const transport = new Transport();
transport.on('error', () => {}); // the server's own errors
let taken = 0;
for (const line of readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  const message = JSON.parse(line);
  if (!known.has(message.type)) {
    console.log(JSON.stringify({ unknown: message.type }));
    continue;
  }
  taken += 1;
  const { error } = realtimeServerEventSchema.safeParse(message);
  if (error) {
    console.log(JSON.stringify({ refused: message, why: error.issues }));
    continue;
  }
  try {
    transport.take(line);
  } catch (thrown) {
    console.log(JSON.stringify({ refused: message, why: String(thrown) }));
  }
}
console.log(JSON.stringify({ taken }));
