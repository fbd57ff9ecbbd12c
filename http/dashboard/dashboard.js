// The operator's page: reads the stream of pictures and shows the newest.
// All text is set as text (never as markup): names of models come from clients.
"use strict";

const RETRY_MS = 3000;
// A picture comes every second: silence means that the connection is dead.
const SILENCE_MS = 15000;
const STATES = ["leased", "parked", "idle", "spare", "starting", "ending", "stuck"];
const SVG = "http://www.w3.org/2000/svg";
const STEP_SECONDS = 10;
const POINTS = 90;

const at = (id) => document.getElementById(id);
let apiKey = null;
let reading = null;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
const count = (number) => number.toLocaleString("en");
const megabytes = (bytes) => (bytes === null ? "–" : `${Math.round(bytes / 2 ** 20)} MB`);

function facts(list, rows) {
  list.replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function rectangles(parts, total) {
  const drawing = shape("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  let left = 0;
  for (const [name, value] of parts) {
    const width = total > 0 ? (100 * value) / total : 0;
    drawing.append(shape("rect", { x: left, y: 0, width, height: 1, class: `fill-${name}` }));
    left += width;
  }
  return drawing;
}

function showPool(pool) {
  const counts = STATES.map((state) => [state, state === "spare" ? pool.spares : pool[state]]);
  at("pool-bar").replaceChildren(rectangles(counts, Math.max(pool.limit, pool.size)));
  const there = counts.filter(([, number]) => number > 0);
  at("pool-bar").setAttribute(
    "aria-label",
    `${pool.size} of at most ${pool.limit} workers: ${there.map(([state, n]) => `${n} ${state}`).join(", ") || "none"}`,
  );
  at("pool-legend").replaceChildren(...there.map(([state, number]) => {
    const item = element("li");
    item.append(element("i", null, { class: `swatch ${state}` }), `${number} ${state}`);
    return item;
  }));
  const age = pool.queue_age === null ? "" : `, oldest ${span(pool.queue_age)}`;
  facts(at("pool-facts"), [
    ["workers", `${pool.size} of ${pool.limit}`],
    ["queue", `${pool.queued} of ${pool.queue_limit}${age}`],
    ["most ever", `${pool.most.workers} workers, ${pool.most.turns} turns, ${pool.most.queued} queued`],
  ]);
}

function showLimits(limits, now) {
  if (limits === null || limits.length === 0) {
    at("limits").replaceChildren(element("p", "The service has not told any yet.", { class: "quiet" }));
    return;
  }
  at("limits").replaceChildren(...limits.map((limit) => {
    const block = element("div", null, { class: "limit" });
    const used = limit.utilization === null ? null : Math.round(100 * limit.utilization);
    const title = element("p");
    title.append(element("span", limit.window), element("span", used === null ? limit.status : `${used} % · ${limit.status}`));
    block.append(title);
    if (used !== null) {
      const colour = limit.status === "rejected" ? "bad" : used >= 80 ? "warm" : "good";
      const bar = element("div", null, {
        class: "bar", role: "meter", "aria-label": `${limit.window} used`,
        "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.min(100, used),
      });
      bar.append(rectangles([[colour, Math.min(1, limit.utilization)]], 1));
      block.append(bar);
    }
    if (limit.resets_at !== null) {
      const when = new Date(limit.resets_at * 1000);
      const words = `resets in ${span(Math.max(0, limit.resets_at - now))}, ${when.toLocaleString([], { hour12: false })}`;
      block.append(element("p", words, { class: "quiet" }));
    }
    return block;
  }));
}

function sum(decisions, answer) {
  return Object.values(decisions).reduce((total, tool) => total + tool[answer], 0);
}

function showTotals(status) {
  const totals = status.totals;
  const killed = Object.entries(totals.kills_by_reason).map(([reason, n]) => `${n} × ${reason}`);
  facts(at("totals"), [
    ["turns", `${count(totals.finished)} finished, ${count(totals.failed)} failed, ${count(totals.cancelled)} cancelled`],
    ["running", `${count(status.running)} now, ${count(status.conversations)} conversations known`],
    ["tokens", `${count(totals.input_tokens + totals.cache_creation_tokens + totals.cache_read_tokens)} in, ${count(totals.output_tokens)} out`],
    ["cost", `${totals.cost_usd.toFixed(2)} $ by the CLI's prices`],
    ["processes", `${count(totals.workers_started)} started, ${count(totals.workers_died)} died`],
    ["tools", `${count(sum(status.decisions, "allowed"))} allowed, ${count(sum(status.decisions, "denied"))} denied`],
    ["killed", killed.join("; ") || "none"],
  ]);
}

function showCli(status) {
  const cli = status.cli;
  const probes = cli.probes.map((probe) => {
    const verdict = probe.passed === null ? "not known yet" : probe.passed ? "passed" : `failed: ${probe.reason} (this switches off ${probe.switches_off})`;
    return `${probe.name}: ${verdict}`;
  });
  const rows = [
    ["version", cli.version ?? "–"],
    ["login", [cli.login, cli.method].filter(Boolean).join(", ") || "–"],
    ["path", cli.path ?? "–"],
    ["probes", probes.join("; ") || "–"],
    ...Object.entries(status.unsaved).map(([what, reason]) => [`${what} not saved`, reason]),
    ...status.reload.problems.map((problem) => ["not reloaded", problem]),
    ...(status.reload.needs_restart.length ? [["needs a restart", status.reload.needs_restart.join(", ")]] : []),
  ];
  if (cli.problem !== null) rows.push(["problem", cli.problem]);
  if (status.notifications !== null) {
    const told = status.notifications;
    rows.push(["notices", `${told.channels.join(", ") || "no channel"}; ${told.sent} sent, ${told.failed} failed`]);
  }
  facts(at("cli"), rows);
}

function showWorkers(workers) {
  at("no-workers").hidden = workers.length > 0;
  at("workers").replaceChildren(...workers.map((worker) => {
    const row = element("tr");
    const cells = [
      ["id", worker.id], ["pid", worker.pid ?? "–"], ["state", worker.state],
      ["model", `${worker.model}:${worker.profile}`, "long"],
      ["conversation", worker.conversation ?? "–", "long"],
      ["turn", span(worker.turn_age)], ["active", worker.last_activity === null ? "–" : `${span(worker.last_activity)} ago`],
      ["CPU", worker.cpu === null ? "–" : `${worker.cpu} %`], ["memory", megabytes(worker.memory)],
      ["turns", worker.turns],
    ];
    row.append(...cells.map(([label, value, kind]) => {
      const cell = element("td", value, { "data-label": label });
      if (kind) cell.className = kind;
      return cell;
    }));
    return row;
  }));
}

function showLines(list, entries, words) {
  if (entries.length === 0) {
    list.replaceChildren(element("li", "none", { class: "quiet" }));
    return;
  }
  list.replaceChildren(...entries.map((entry) => {
    const line = element("li");
    line.append(element("time", clock(entry.at), { datetime: new Date(entry.at * 1000).toISOString() }), words(entry));
    return line;
  }));
}

const eventWords = (event) => [
  event.what, event.worker, event.model, event.detail, event.seconds === null ? null : span(event.seconds),
].filter((word) => word !== null).join(" · ");

const errorWords = (error) => [error.what, error.code, error.reason, error.worker, error.request]
  .filter(Boolean).join(" · ");

// The plots: 90 steps of 10 seconds, the newest at the right.

const HEIGHT = 136;
const LEFT = 44;
const BOTTOM = 20;
const TOP = 10;

function frame(width, most, unit, label) {
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    const y = TOP + (1 - part) * (HEIGHT - TOP - BOTTOM);
    drawing.append(
      shape("line", { x1: LEFT, x2: width, y1: y, y2: y, class: "axis" }),
      shape("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, `${Number((part * most).toPrecision(2))}${unit}`),
    );
  }
  for (const [minutes, x, anchor] of [[15, LEFT, "start"], [10, LEFT + (width - LEFT) / 3, "middle"], [5, LEFT + (2 * (width - LEFT)) / 3, "middle"], [0, width, "end"]]) {
    drawing.append(shape("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, minutes ? `−${minutes} min` : "now"));
  }
  return drawing;
}

const across = (width, point, now) => LEFT + (width - LEFT) * Math.max(0, 1 - (now - point.at) / (STEP_SECONDS * POINTS));
const up = (value, most) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);

const room = (id) => Math.max(200, at(id).clientWidth);

function roundUp(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * size).find((n) => n >= value);
}

function showRequests(history, now) {
  const width = room("requests-plot");
  const turns = history.reduce((sum, point) => sum + point.turns, 0);
  const failed = history.reduce((sum, point) => sum + point.failed, 0);
  const most = roundUp(Math.max(2, ...history.map((point) => point.turns)));
  const drawing = frame(width, most, "", `${turns} turns in 15 minutes, ${failed} of them failed`);
  const step = (width - LEFT) / POINTS;
  for (const point of history) {
    const x = Math.min(width - step, across(width, point, now));
    const bad = up(point.failed, most);
    const top = up(point.turns, most);
    drawing.append(
      shape("rect", { x, y: top, width: step - 1, height: bad - top, class: "fill-finished" }),
      shape("rect", { x, y: bad, width: step - 1, height: HEIGHT - BOTTOM - bad, class: "fill-failed" }),
    );
  }
  at("requests-plot").replaceChildren(drawing);
}

function showLatency(history, now) {
  const width = room("latency-plot");
  const values = history.flatMap((point) => [point.first_text, point.total]).filter((value) => value !== null);
  const most = roundUp(Math.max(0.1, ...values));
  const last = history.at(-1);
  const words = last === undefined ? "no turns" : `last: first token ${span(last.first_text)}, whole turn ${span(last.total)}`;
  const drawing = frame(width, most, " s", `Median latency; ${words}`);
  for (const [key, name] of [["total", "total"], ["first_text", "first"]]) {
    const known = history.filter((point) => point[key] !== null).map((point) => [across(width, point, now), up(point[key], most)]);
    drawing.append(shape("polyline", { points: known.map((pair) => pair.join(",")).join(" "), class: `line-${name}` }));
    for (const [x, y] of known) drawing.append(shape("circle", { cx: x, cy: y, r: 2.2, class: `dot-${name}` }));
  }
  at("latency-plot").replaceChildren(drawing);
}

function show(status) {
  at("main").hidden = false;
  at("key").hidden = true;
  if (at("state").textContent !== status.state) {
    at("state").textContent = status.state;
    at("state").className = `badge ${status.state}`;
  }
  at("about").textContent = `version ${status.version} · up ${span(status.uptime)} · pid ${status.pid}`;
  at("problem").hidden = status.problem === null;
  if (at("problem").textContent !== (status.problem ?? "")) at("problem").textContent = status.problem ?? "";
  showPool(status.pool);
  showLimits(status.limits, status.now);
  showTotals(status);
  showCli(status);
  showRequests(status.history, status.now);
  showLatency(status.history, status.now);
  showWorkers(status.workers);
  showLines(at("events"), status.events, eventWords);
  showLines(at("errors"), status.errors, errorWords);
  facts(at("config"), Object.entries(status.config).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]));
}

function link(words) {
  if (at("link").textContent !== words) at("link").textContent = words;
}

// fetch rather than EventSource: that cannot send a key.
async function read(signal) {
  const headers = { accept: "text/event-stream" };
  if (apiKey !== null) headers.authorization = `Bearer ${apiKey}`;
  const response = await fetch("status/stream", { headers, signal, cache: "no-store" });
  if (response.status === 401) {
    at("key").hidden = false;
    at("main").hidden = true;
    link(apiKey === null ? "" : "that key was refused");
    return false;
  }
  if (!response.ok) throw new Error(`status ${response.status}`);
  link("live");
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let pending = "";
  for (;;) {
    const silence = setTimeout(() => reading?.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return true;
    pending += decoder.decode(value, { stream: true });
    const events = pending.split("\n\n");
    pending = events.pop();
    const newest = events.filter((event) => event.startsWith("data: ")).at(-1);
    if (newest !== undefined) show(JSON.parse(newest.slice("data: ".length)));
  }
}

async function follow() {
  for (;;) {
    if (document.hidden) return;
    reading = new AbortController();
    try {
      if (!(await read(reading.signal))) return;
    } catch (error) {
      if (document.hidden) return;
      if (!(error instanceof DOMException || error instanceof TypeError || error instanceof Error)) throw error;
    }
    link("connection lost; trying again");
    at("state").textContent = "unreachable";
    at("state").className = "badge unavailable";
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) reading?.abort();
  else if (at("key").hidden) follow();
});
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey = at("key-text").value.trim();
  at("key-text").value = "";
  follow();
});
follow();
