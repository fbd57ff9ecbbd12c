// The openai npm package: its tool runner, a schema, streaming.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.argv[2] + "/");
const OpenAI = require("openai");
const asked = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL: asked.base_url, apiKey: "not-needed", maxRetries: 0 });
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
const tool = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Tells the weather.",
    parameters,
    parse: JSON.parse,
    function: ({ city }) => `It rains in ${city}.`,
  },
};
const say = (content) => ({ model: asked.model, messages: [{ role: "user", content }] });
const told = {};
told.tools = await client.chat.completions
  .runTools({ ...say(asked.tools), tools: [tool] })
  .finalContent();
told.tools_streamed = await client.chat.completions
  .runTools({ ...say(asked.tools), tools: [tool], stream: true })
  .finalContent();
const schema = {
  type: "object",
  properties: { number: { type: "integer" }, words: { type: "array", items: { type: "string" } } },
  required: ["number", "words"],
  additionalProperties: false,
};
const reply = await client.chat.completions.parse({
  ...say(asked.schema),
  response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
});
told.structured_json_schema = JSON.parse(reply.choices[0].message.content);
told.text_streamed = "";
for await (const chunk of await client.chat.completions.create({ ...say(asked.words), stream: true }))
  told.text_streamed += chunk.choices[0]?.delta?.content ?? "";
process.stdout.write(JSON.stringify(told));
