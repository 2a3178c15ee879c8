// A spoken conversation by @openai/agents-realtime. Arguments: URL, TOKEN, folder with the questions.
//
// A line is written and four questions are spoken. The second answer calls the agent's tool; the fourth question is spoken
// into the third answer. One JSON object is printed for each fact. An exception of the library ends the program, as it
// does at its users'.

import { readFileSync } from 'node:fs';
import { RealtimeAgent, RealtimeSession, tool } from '@openai/agents-realtime';
import { z } from 'zod';

const [url, token, folder] = process.argv.slice(2);
const questions = ['count', 'weather', 'long', 'sum'].map((name) => readFileSync(`${folder}/${name}.pcm`));
const tell = (fact) => console.log(JSON.stringify(fact));

const weather = tool({
  name: 'get_weather',
  description: 'The weather in a city',
  parameters: z.object({ city: z.string() }),
  execute: ({ city }) => {
    tell({ called: { city } });
    return 'sunny';
  },
});

const agent = new RealtimeAgent({ name: 'demo', instructions: 'Be brief.', tools: [weather] });
const session = new RealtimeSession(agent, {
  transport: 'websocket',
  config: { audio: { input: { turnDetection: { type: 'server_vad', interruptResponse: true } } } },
});

let text = '';
let audioBytes = 0;
let beganAt = 0;

function ask() {
  const pcm = questions.shift();
  session.sendAudio(pcm.buffer.slice(pcm.byteOffset, pcm.byteOffset + pcm.byteLength));
}

function afterPlaying(next) {
  // The library takes it that audio sounds in real time from when it began to arrive.
  setTimeout(next, Math.max(0, beganAt + audioBytes / 48 - Date.now()) + 1);
}

session.on('audio', ({ data }) => {
  if (audioBytes === 0) {
    beganAt = Date.now();
    if (questions.length === 1) ask(); // the user does not wait for the end of this answer
  }
  audioBytes += data.byteLength;
});
session.on('audio_interrupted', () => {
  if (text === '') return; // an answer that was heard to its end
  tell({ interrupted: text });
  text = '';
});
session.on('agent_end', () => {
  if (text === '') return; // a tool call, or an answer that was interrupted
  tell({ answered: text, audio_ms: audioBytes / 48 });
  text = '';
  afterPlaying(() => (questions.length > 0 ? ask() : end()));
});
session.on('transport_event', (event) => {
  if (event.type === 'error') tell({ error: event.error.message });
  if (event.type === 'response.created') [text, audioBytes] = ['', 0];
  if (event.type === 'response.output_audio_transcript.delta') text += event.delta;
  if (event.type === 'conversation.item.input_audio_transcription.completed') tell({ heard: event.transcript });
  if (event.type === 'conversation.item.truncated') tell({ truncated_ms: event.audio_end_ms });
});
session.on('error', ({ error }) => tell({ error: JSON.stringify(error) }));

function end() {
  tell({ history: session.history.map(({ type, role }) => role ?? type) });
  session.close();
}

await session.connect({ url, apiKey: token });
session.sendMessage('Say hello.');
