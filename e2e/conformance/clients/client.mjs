// An MCP client on the TypeScript SDK that takes the steps of a plan, given as
// JSON on standard input, and prints what came of each as a JSON array.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const plan = JSON.parse(readFileSync(0, "utf8"));
const resolve = createRequire(join(plan.tools, "package.json")).resolve;
const load = async (path) => import(pathToFileURL(resolve(`@modelcontextprotocol/sdk/${path}`)));
const { Client } = await load("client/index.js");
const { StdioClientTransport } = await load("client/stdio.js");
const { CreateMessageRequestSchema, ResultSchema } = await load("types.js");

const client = new Client({ name: "typescript", version: "1" }, { capabilities: { sampling: {} } });
client.setRequestHandler(CreateMessageRequestSchema, async () => ({
  model: "none", role: "assistant", content: { type: "text", text: "sampled by the client" },
}));
await client.connect(new StdioClientTransport({ command: plan.command, args: plan.args, stderr: "inherit" }));

const report = [];
for (const step of plan.steps) {
  try {
    const result = await client.request({ method: step.method, params: step.params ?? {} }, ResultSchema, { timeout: 20000 });
    report.push({ result });
  } catch (error) {
    report.push({ error: { code: error.code ?? 0, message: String(error.message) } });
  }
}
await client.close();
process.stdout.write(JSON.stringify(report));
