// aimock with the fixtures given as JSON. Says its URL in a line on stdout, and ends when its stdin does.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, chunkSize: 5 });
mock.addFixturesFromJSON(process.argv.at(-1));
await mock.start();
console.log(mock.url);
process.stdin.resume();
process.stdin.on("end", () => process.exit());
