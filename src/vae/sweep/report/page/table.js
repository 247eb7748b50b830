"use strict";
// The data, the filter, and the table of jobs. charts.js draws what `visible()` returns.
const data = JSON.parse(document.getElementById("data").textContent);
const MAIN = ["test/elbo", "test/nll", "test/bits_per_dim", "test/distortion", "test/rate", "test/mse", "test/psnr",
  "test/ssim", "test/fid", "test/active_units", data.metric, "seconds"];
const element = (id) => document.getElementById(id);
const sorting = { column: null, descending: false };
const listeners = [];

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function show(value) {
  if (value === undefined || value === null) return "";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(5))) : String(value);
}

// Numbers by size and before words; what is missing comes last, whichever way one sorts.
function compare(a, b, descending = false) {
  const missing = (value) => value === undefined || value === null;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const numbers = typeof a === "number" && typeof b === "number";
  const mixed = (typeof b === "number") - (typeof a === "number");
  const order = numbers ? a - b : mixed || String(a).localeCompare(String(b));
  return descending ? -order : order;
}

const operators = {
  "=": (a, b) => b.split("|").some((one) => String(a) === one || a === Number(one)), "!=": (a, b) => !operators["="](a, b),
  "<": (a, b) => a < Number(b), "<=": (a, b) => a <= Number(b),
  ">": (a, b) => a > Number(b), ">=": (a, b) => a >= Number(b),
};

function matches(row, term) {
  const parts = term.match(/^([\w./]+)(!=|<=|>=|=|<|>)(.+)$/);
  if (parts && (data.axes.includes(parts[1]) || data.measures.includes(parts[1]) || ["status", "job"].includes(parts[1]))) {
    return row[parts[1]] !== undefined && operators[parts[2]](row[parts[1]], parts[3]);
  }
  return `${row.job} ${row.status} ${row.reason ?? ""}`.toLowerCase().includes(term.toLowerCase());
}

// Make the filter ask for some values of a column, in place of what it asked for there; for any if there are none.
function require(name, values) {
  const others = element("filter").value.split(/\s+/).filter((term) => term && !/^(!=|[<>]=?|=)/.test(term.startsWith(name) ? term.slice(name.length) : ""));
  const numbers = values.length > 1 && values.every((value) => typeof value === "number");
  const terms = numbers ? [`${name}>=${Math.min(...values)}`, `${name}<=${Math.max(...values)}`] : values.length ? [`${name}=${values.join("|")}`] : [];
  element("filter").value = [...others, ...terms].join(" ");
  element("filter").dispatchEvent(new Event("input"));
}

function visible() {
  const terms = element("filter").value.split(/\s+/).filter(Boolean);
  return data.rows.filter((row) => terms.every((term) => matches(row, term)));
}

function columns() {
  const measures = data.measures.filter((name) => element("every").checked || MAIN.includes(name));
  return ["job", ...data.axes, "status", ...measures, ...(data.rows.some((row) => row.reason) ? ["reason"] : [])];
}

function drawTable() {
  const names = columns(), rows = visible();
  if (sorting.column) rows.sort((a, b) => compare(a[sorting.column], b[sorting.column], sorting.descending));
  const words = new Set(["job", "status", "reason"]);
  const head = make("tr");
  for (const name of names) {
    const arrow = name === sorting.column ? (sorting.descending ? " ▼" : " ▲") : "";
    const cell = make("th", name + arrow, words.has(name) ? "text" : "");
    cell.dataset.column = name;
    cell.addEventListener("click", () => sortBy(name));
    head.append(cell);
  }
  const body = rows.map((row) => {
    const line = make("tr", undefined, data.best && row.job === data.best.job ? "best" : "");
    for (const name of names) {
      const cell = make("td", show(row[name]), words.has(name) ? `text ${name}` : "");
      if (name === "status") cell.classList.add(row.status);
      if (name === "reason") cell.title = row.reason ?? "";
      line.append(cell);
    }
    return line;
  });
  document.querySelector("#jobs thead").replaceChildren(head);
  document.querySelector("#jobs tbody").replaceChildren(...body);
  element("shown").textContent = `${rows.length} of ${data.rows.length} jobs`;
}

// Measures first with the largest value on top; keys and words first with the smallest.
function sortBy(name) {
  const first = data.measures.includes(name) && name !== "seconds";
  sorting.descending = sorting.column === name ? !sorting.descending : first;
  sorting.column = name;
  drawTable();
}

function drawSeeds() {
  if (!data.seeds.length) return;
  const keys = data.axes.filter((axis) => axis !== "seed");
  const names = data.measures.filter((name) => MAIN.includes(name));
  const table = make("table"), head = make("tr");
  for (const name of [...keys, "n", ...names]) head.append(make("th", name));
  table.append(head);
  for (const row of data.seeds) {
    const line = make("tr");
    for (const key of [...keys, "n"]) line.append(make("td", show(row[key])));
    for (const name of names) line.append(make("td", row[name] ? `${show(row[name][0])} ± ${show(Number(row[name][1].toPrecision(2)))}` : ""));
    table.append(line);
  }
  const box = make("div", undefined, "scroll");
  box.append(table);
  element("seeds").append(make("h2", "Mean ± standard deviation over seeds"), box);
}

function drawHeader() {
  document.querySelector("h1").textContent = data.title;
  const counts = {};
  for (const row of data.rows) counts[row.status] = (counts[row.status] ?? 0) + 1;
  element("counts").textContent = `${data.rows.length} jobs: ` + Object.entries(counts).map(([k, n]) => `${n} ${k}`).join(", ");
  if (!data.best) return;
  const value = data.rows.find((row) => row.job === data.best.job)[data.metric];
  element("best").append(`Best ${data.metric}, ${show(value)}: `, make("code", data.best.command));
}

drawHeader();
drawSeeds();
drawTable();
element("filter").addEventListener("input", () => { drawTable(); listeners.forEach((draw) => draw()); });
element("every").addEventListener("change", drawTable);
