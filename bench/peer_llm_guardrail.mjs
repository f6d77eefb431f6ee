// llm_guardrail (npm), whose package carries its models: word pairs weighed by logistic regression; run by Node.
// Reads one JSON string a line, writes [blocked, µs of CPU, µs] for each; first what loading took and weighs.
import { createInterface } from "node:readline";

const began = performance.now();
const before = process.memoryUsage.rss();
const { checkInjection, checkJailbreak } = await import(process.argv[2]);

async function screened(text) {
  const cpu = process.cpuUsage();
  const wall = performance.now();
  const blocked = !(await checkInjection(text)).allowed || !(await checkJailbreak(text)).allowed;
  const spent = process.cpuUsage(cpu);
  return [Number(blocked), spent.user + spent.system, (performance.now() - wall) * 1000];
}

function write(told) {
  process.stdout.write(JSON.stringify(told) + "\n");
}

await screened("Hello, where is my order?");
const loaded = performance.now() - began;
const after = process.memoryUsage.rss();
write({ load_s: loaded / 1000, before_mb: before / 2 ** 20, after_mb: after / 2 ** 20 });
for (let n = 0; n < 200; n += 1) {
  await screened("Hello, where is my order?"); // until it is compiled
}
for await (const line of createInterface({ input: process.stdin })) {
  write(await screened(JSON.parse(line)));
}
