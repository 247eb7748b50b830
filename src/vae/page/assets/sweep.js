"use strict";
// The report of a sweep: a filter, a table, and charts of the jobs that the filter leaves.
const MAIN = ["test/elbo", "test/nll", "test/bits_per_dim", "test/distortion", "test/rate", "test/mse", "test/psnr",
  "test/ssim", "test/fid", "test/active_units", "evaluation/elbo", "evaluation/nll", "evaluation/bits_per_dim", data.metric, "seconds"];
const keys = data.axes.length ? data.axes : ["job"];
const groups = [...new Set(data.rows.map((row) => row.compares).filter(Boolean))];
const listeners = [];
const sorting = { column: null, descending: false };
const values = (key, rows) => [...new Set(rows.map((row) => row[key]))].sort(compare);
const wordy = (row, names) => names.map((key) => `${key}=${show(row[key])}`).join(", ");
const numeric = (list) => list.every((value) => typeof value === "number");

// What the bound is in depends on the likelihood: nats of a density of reals and of a probability of bytes do not
// compare. Within a group all measures do; over all groups, those that are not about the likelihood.
let group = groups.length > 1 ? groups[0] : null;
const measured = () => data.measures.filter((name) => data.rows.some((row) => isNumber(row[name])) && (group !== "" || !data.by_likelihood.includes(name)));
const best = (name) => MAIN.find((one) => measured().includes(one)) ?? measured()[0];

// The filter

const operators = {
  "=": (a, b) => b.split("|").some((one) => String(a) === one || a === Number(one)), "!=": (a, b) => !operators["="](a, b),
  "<": (a, b) => a < Number(b), "<=": (a, b) => a <= Number(b), ">": (a, b) => a > Number(b), ">=": (a, b) => a >= Number(b),
};

function matches(row, term) {
  const parts = term.match(/^([\w./]+)(!=|<=|>=|=|<|>)(.+)$/);
  if (parts && (data.axes.includes(parts[1]) || data.measures.includes(parts[1]) || ["status", "job"].includes(parts[1]))) {
    return row[parts[1]] !== undefined && operators[parts[2]](row[parts[1]], parts[3]);
  }
  return `${row.job} ${row.status} ${row.reason ?? ""}`.toLowerCase().includes(term.toLowerCase());
}

const filter = make("input", undefined, { id: "filter", size: 44, placeholder: "such as: done latent_size<=8 val/elbo>-120", "aria-label": "filter", oninput: changed });
const visible = () => { const terms = filter.value.split(/\s+/).filter(Boolean); return data.rows.filter((row) => terms.every((term) => matches(row, term))); };
const compared = () => visible().filter((row) => row.status === "done" && (!group || row.compares === group));

// Make the filter ask for some values of a column, in place of what it asked for there; for any if there are none.
function require(name, wanted) {
  const others = filter.value.split(/\s+/).filter((term) => term && !/^(!=|[<>]=?|=)/.test(term.startsWith(name) ? term.slice(name.length) : ""));
  const terms = wanted.length > 1 && numeric(wanted) ? [`${name}>=${Math.min(...wanted)}`, `${name}<=${Math.max(...wanted)}`] : wanted.length ? [`${name}=${wanted.join("|")}`] : [];
  filter.value = [...others, ...terms].join(" ");
  changed();
}

function changed() {
  drawTable();
  for (const redraw of listeners) redraw();
}

// The head, and the table of jobs

{
  const counts = {};
  for (const row of data.rows) counts[row.status] = (counts[row.status] ?? 0) + 1;
  const page = document.getElementById("page");
  page.append(make("h1", data.title), make("p", `${data.rows.length} jobs: ${Object.entries(counts).map(([kind, n]) => `${n} ${kind}`).join(", ")}${data.sampled ? `; curves and pictures of ${data.sampled} of them, the best among these` : ""}`, { class: "soft" }));
  page.append(remarks(data.best.map((one) => ({ kind: "good", text: `Best ${data.metric}${one.group ? ` of ${one.group}` : ""}, ${show(one.value, 5)}:`, command: one.command }))));
  if (groups.length > 1) {
    const words = "These jobs have likelihoods of different kinds, whose bounds do not compare: each kind has a best of its own.";
    const controls = make("div", undefined, { class: "controls" });
    const select = choice(controls, "compare", [...groups, ...(data.one_set ? ["all, by what compares"] : [])], group, () => { group = select.selectedIndex < groups.length ? groups[select.selectedIndex] : ""; changed(); });
    page.append(make("p", words), controls);
  }
}

const every = make("input", undefined, { type: "checkbox", id: "every", onchange: drawTable }), count = make("span", undefined, { class: "soft" });
const jobs = make("div", undefined, { class: "scroll", id: "jobs", tabindex: 0 });
section("Jobs", make("div", [filter, make("label", [every, "all numbers"]), count], { class: "controls" }), jobs);

const columns = () => ["job", ...(groups.length > 1 ? ["compares"] : []), ...data.axes, "status", ...data.measures.filter((name) => every.checked || MAIN.includes(name)), ...(data.rows.some((row) => row.reason) ? ["reason"] : [])];

function drawTable() {
  const names = columns(), rows = visible(), words = new Set(["job", "status", "reason", "compares"]), winners = new Set(data.best.map((one) => one.job));
  if (sorting.column) rows.sort((a, b) => compare(a[sorting.column], b[sorting.column], sorting.descending));
  const order = (name) => (name !== sorting.column ? undefined : sorting.descending ? "descending" : "ascending");
  const head = names.map((name) => make("th", make("button", name + (order(name) ? { ascending: " ▲", descending: " ▼" }[order(name)] : ""), { type: "button", onclick: () => sortBy(name) }), { class: words.has(name) ? "text" : undefined, "data-column": name, "aria-sort": order(name) }));
  const cell = (row) => (name) => make("td", show(row[name], 5), { class: words.has(name) ? `text ${name} ${name === "status" ? row.status : ""}` : undefined, title: name === "reason" ? row.reason : undefined });
  const body = rows.map((row) => make("tr", names.map(cell(row)), { class: winners.has(row.job) ? "best" : undefined }));
  jobs.replaceChildren(make("table", [make("thead", make("tr", head)), make("tbody", body)]));
  count.textContent = `${rows.length} of ${data.rows.length} jobs`;
}

// Measures first with the largest value on top; keys and words first with the smallest.
function sortBy(name) {
  sorting.descending = sorting.column === name ? !sorting.descending : data.measures.includes(name) && name !== "seconds";
  sorting.column = name;
  drawTable();
  [...jobs.querySelectorAll("th")].find((head) => head.dataset.column === name)?.firstChild.focus();
}

if (data.seeds.length) {
  const others = data.axes.filter((axis) => axis !== "seed"), names = data.measures.filter((name) => MAIN.includes(name));
  const spread = (found) => (found ? `${show(found[0])} ± ${show(found[1], 2)}` : "");
  const rows = data.seeds.map((row) => [...others.map((key) => row[key]), row.n, ...names.map((name) => make("td", spread(row[name])))]);
  section("Mean ± standard deviation over seeds", make("div", table([...others, "n", ...names], rows), { class: "scroll" }));
}

// Charts

// Menus whose options may change with the group; `pick` gives what is chosen.
function menus(box, wanted, redraw) {
  const controls = make("div", undefined, { class: "controls" }), picked = {};
  const pick = (label, options, first) => {
    const chosen = options.includes(picked[label]) ? picked[label] : options.includes(first) ? first : options[0];
    const select = choice(controls, label, options, chosen, () => { picked[label] = select.value; redraw(); });
    return chosen;
  };
  box.append(controls);
  return { pick, clear: () => controls.replaceChildren() };
}

// Few values get distinct colours, many numbers a scale.
function colours(key) {
  const all = values(key, data.rows);
  if (all.length <= COLOURS || !numeric(all)) return (value) => colour(Math.max(all.indexOf(value), 0));
  return (value) => `hsl(${260 - (220 * all.indexOf(value)) / (all.length - 1)}, 65%, 55%)`;
}

// Numbers that grow by factors are read on a logarithmic axis; words stand side by side.
function scale(key, rows) {
  const all = values(key, rows);
  if (!numeric(all)) return { label: key, categories: all };
  return { label: key, log: all[0] > 0 && all.at(-1) / all[0] >= 8, values: all.length <= 12 ? all : undefined };
}

function average(rows, name) {
  const numbers = rows.map((row) => row[name]).filter(isNumber), mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: numbers.length > 1 ? Math.sqrt(squares / (numbers.length - 1)) : 0, n: numbers.length };
}

function grouped(rows, label) {
  const found = new Map();
  for (const row of rows) found.set(label(row), [...(found.get(label(row)) ?? []), row]);
  return found;
}

function charted(title, words, id, draw) {
  const box = make("div", undefined, { id }), part = section(title, words ? make("p", words, { class: "soft" }) : undefined);
  const menu = menus(part, [], redraw);
  part.append(box);
  function redraw() {
    menu.clear();
    const any = compared().length > 0 && measured().length > 0;
    if (any) draw(box, menu.pick); else box.replaceChildren(make("p", "No job is done that the filter leaves.", { class: "soft" }));
  }
  listeners.push(redraw);
  redraw();
}

charted("A measure against a key", "Means over seeds, with their standard deviation; a line for each combination of the other keys.", "against", (box, pick) => {
  const x = pick("key", keys, keys.find((key) => key !== "seed")), y = pick("measure", measured(), best()), rows = compared();
  const others = keys.filter((key) => key !== x && key !== "seed");
  // Without a line between two words, and never between jobs of different groups.
  const lines = grouped(rows, (row) => wordy(row, others) + (groups.length > 1 && !group && !others.length ? row.compares : ""));
  const series = [...lines].map(([name, members], i) => {
    const xs = values(x, members), stats = xs.map((value) => average(members.filter((row) => row[x] === value), y));
    return { name: name || y, x: xs, y: stats.map((s) => s.mean), error: stats.map((s) => s.deviation), mode: "both", dash: ["", "7 4", "2 4"][Math.floor(i / COLOURS) % 3], colour: colour(i) };
  });
  chart(box, { series, x: scale(x, rows), y: { label: y }, legend: others.length > 0, height: 400 });
});

if (data.measures.some((name) => name.endsWith("/rate"))) charted("Rate and distortion", "Along a line of slope −1 the bound is the same; the dotted one goes through the best job.", "plane", (box, pick) => {
  if (group === "") return box.replaceChildren(make("p", "The distortions of different kinds of likelihood do not compare: choose one above.", { class: "soft" }));
  const splits = ["test", "val", "train"].filter((s) => measured().includes(`${s}/rate`) && measured().includes(`${s}/distortion`));
  const split = pick("images", splits, "test"), by = pick("colour", keys, keys.find((key) => key !== "seed"));
  const [rate, distortion] = [`${split}/rate`, `${split}/distortion`], tint = colours(by), rows = compared().filter((row) => isNumber(row[rate]) && isNumber(row[distortion]));
  const series = values(by, rows).map((value) => {
    const members = rows.filter((row) => row[by] === value);
    return { name: `${by}=${show(value)}`, mode: "points", colour: tint(value), x: members.map((row) => row[rate]), y: members.map((row) => row[distortion]), text: members.map((row) => `${row.job}\nelbo ${show(-row[rate] - row[distortion], 5)}\nrate ${show(row[rate])}, distortion ${show(row[distortion], 5)}`) };
  });
  if (rows.length) {
    const least = Math.min(...rows.map((row) => row[rate] + row[distortion])), [low, high] = extent(rows.map((row) => row[rate]));
    series.push({ name: `elbo ${show(-least, 5)}`, x: [low, high], y: [least - low, least - high], dash: "2 4", width: 1.5, colour: "var(--soft)" });
  }
  chart(box, { series, x: { label: `${rate}, nats` }, y: { label: `${distortion}, nats` }, height: 420 });
});

if (keys.length > 1) charted("Two keys at once", "Means over seeds; every other key has one value.", "heat", (box, pick) => {
  const x = pick("across", keys, keys[0]), y = pick("down", keys.filter((key) => key !== x), keys.find((key) => key !== x)), z = pick("measure", measured(), best());
  let rows = compared();
  for (const key of keys.filter((key) => ![x, y, "seed"].includes(key))) {
    const all = values(key, rows), chosen = pick(key, all.map((value) => show(value)), show(all[0]));
    rows = rows.filter((row) => show(row[key]) === chosen);
  }
  const xs = values(x, rows), ys = values(y, rows), at = (a, b) => average(rows.filter((row) => row[x] === a && row[y] === b), z);
  const cells = ys.map((b) => xs.map((a) => at(a, b))), [low, high] = extent(cells.flat().filter((cell) => cell.n).map((cell) => cell.mean));
  const shade = (cell) => `background: color-mix(in srgb, var(--accent) ${Math.round(60 * (high > low ? (cell.mean - low) / (high - low) : 1))}%, var(--ground))`;
  const body = ys.map((b, i) => [make("th", `${y}=${show(b)}`), ...xs.map((a, j) => (cells[i][j].n ? make("td", show(cells[i][j].mean), { style: shade(cells[i][j]), title: `${wordy({ [x]: a, [y]: b }, [x, y])}: ${show(cells[i][j].mean, 6)}${cells[i][j].n > 1 ? `, mean of ${cells[i][j].n}` : ""}` }) : make("td", "")))]);
  box.replaceChildren(make("div", table(["", ...xs.map((a) => make("th", `${x}=${show(a)}`))], body, { class: "heat" }), { class: "scroll" }));
});

// Parallel coordinates: every axis from its smallest (bottom) to its largest value (top). A box drawn over an axis
// becomes a condition of the filter.
charted("All keys at once", "A line for each job, the stronger the larger its last number. Draw over an axis to filter by it; a double click takes such conditions back.", "parallel", (box, pick) => {
  const by = pick("colour and last axis", measured(), best()), extra = ["test/rate", "test/mse"].filter((name) => measured().includes(name) && name !== by);
  const kept = new Set(compared()), dimensions = [...keys, ...extra, by];
  const rows = data.rows.filter((row) => row.status === "done" && isNumber(row[by]) && (!group || row.compares === group)).sort((a, b) => kept.has(a) - kept.has(b));
  box.classList.add("chart");
  box.style.overflowX = "auto";
  const render = () => {
    box.drawnWidth = box.clientWidth;
    // Names need their room: what is wider than the window is scrolled.
    const width = Math.max(box.clientWidth, 96 * dimensions.length), height = 380, [left, right, top, bottom] = [20, 90, 14, 34];
    if (!box.clientWidth) return;
    const across = (i) => left + (i * (width - left - right)) / Math.max(dimensions.length - 1, 1);
    const places = dimensions.map((name) => placing(name, rows, height - bottom, top)), [low, high] = extent(rows.map((row) => row[by]));
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, style: `width: ${width}px`, role: "img", "aria-label": `A line for each of ${rows.length} jobs over ${dimensions.join(", ")}` });
    for (const row of rows) {
      const share = high > low ? (row[by] - low) / (high - low) : 1, points = dimensions.map((name, i) => `${across(i).toFixed(1)},${places[i].at(row[name]).toFixed(1)}`).join(" ");
      svg.append(draw("polyline", { points, fill: "none", class: kept.has(row) ? "kept" : "left-out", stroke: kept.has(row) ? `hsl(${260 - 220 * share}, 70%, 55%)` : "var(--line)", "stroke-width": 1 + 2 * share }, draw("title", {}, `${row.job}: ${by} ${show(row[by], 5)}`)));
    }
    dimensions.forEach((name, i) => {
      svg.append(draw("line", { x1: across(i), x2: across(i), y1: top, y2: height - bottom, stroke: "var(--soft)" }), draw("text", { class: "axis", x: across(i), y: height - (i % 2 ? 4 : 18), "text-anchor": i ? (i === dimensions.length - 1 ? "start" : "middle") : "start", dx: i === dimensions.length - 1 ? -14 : 0 }, name));
      for (const [text, at] of places[i].ticks) svg.append(draw("text", { x: across(i) + 4, y: at + 4, stroke: "var(--ground)", "stroke-width": 4, "paint-order": "stroke" }, text));
    });
    brush(svg, (from, to) => {
      const [l, r] = [Math.min(from[0], to[0]), Math.max(from[0], to[0])], [t, b] = [Math.min(from[1], to[1]), Math.max(from[1], to[1])];
      const inside = dimensions.map((_, i) => i).filter((i) => l <= across(i) && across(i) <= r);
      const nearest = dimensions.map((_, i) => i).reduce((one, i) => (Math.abs(across(i) - (l + r) / 2) < Math.abs(across(one) - (l + r) / 2) ? i : one));
      for (const i of inside.length ? inside : [nearest]) {
        const chosen = values(dimensions[i], rows).filter((value) => t <= places[i].at(value) && places[i].at(value) <= b);
        if (chosen.length) require(dimensions[i], chosen);
      }
    });
    svg.addEventListener("dblclick", () => dimensions.forEach((name) => require(name, [])));
    box.replaceChildren(svg);
  };
  box.render = render;
  box.observer ??= new ResizeObserver(() => { if (box.clientWidth !== box.drawnWidth) box.render(); });
  box.observer.observe(box);
  render();
});

// Keys with few values are spaced evenly, numbers by their size.
function placing(name, rows, low, high) {
  const all = values(name, rows), last = Math.max(all.length - 1, 1);
  if (keys.includes(name) && all.length <= 20) return { at: (v) => low + ((high - low) * all.indexOf(v)) / last, ticks: all.map((v, i) => [show(v), low + ((high - low) * i) / last]) };
  const numbers = all.filter(isNumber), span = numbers.at(-1) - numbers[0] || 1, at = (v) => low + ((high - low) * (v - numbers[0])) / span;
  return { at, ticks: numbers.length ? [[show(numbers[0]), low], [show(numbers.at(-1)), high]] : [] };
}

function brush(svg, done) {
  let start, frame;
  const where = (event) => { const rect = svg.getBoundingClientRect(); return [event.clientX - rect.left, event.clientY - rect.top]; };
  svg.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") { start = where(event); svg.setPointerCapture?.(event.pointerId); } });
  svg.addEventListener("pointermove", (event) => {
    if (!start) return;
    const now = where(event);
    frame ??= svg.appendChild(draw("rect", { class: "zoom" }));
    for (const [name, i] of [["x", 0], ["y", 1]]) { frame.setAttribute(name, Math.min(start[i], now[i])); frame.setAttribute(["width", "height"][i], Math.abs(now[i] - start[i])); }
  });
  svg.addEventListener("pointerup", (event) => {
    const [from, to] = [start, where(event)];
    start = undefined;
    frame?.remove();
    if (from && Math.abs(to[1] - from[1]) > 4) done(from, to);
  });
}

charted("Training curves", "", "curves", (box, pick) => {
  const all = [...new Set(Object.values(data.curves).flatMap(Object.keys))].sort(compare);
  const logged = all.filter((name) => group !== "" || !data.by_likelihood.includes(name));
  if (!logged.length) return;
  const y = pick("number", logged, data.metric), by = pick("colour", keys, keys[0]), tint = colours(by);
  const rows = visible().filter((row) => data.curves[row.job]?.[y] && (!group || row.compares === group));
  const series = rows.map((row) => {
    const [steps, numbers] = data.curves[row.job][y];
    return { name: `${by}=${show(row[by])}`, x: steps, y: numbers, colour: tint(row[by]), width: 1.5, opacity: 0.85, text: steps.map((step, i) => `${row.job}\nstep ${step}: ${y} ${show(numbers[i], 5)}`) };
  });
  chart(box, { series, x: { label: "step" }, y: { label: y, focus: true }, height: 400 });
});

{
  const kinds = [...new Set(Object.values(data.pictures).flatMap(Object.keys))], box = make("div", undefined, { id: "pictures", class: "scroll" });
  const part = section("Pictures"), menu = menus(part, [], redraw);
  part.append(box);
  function redraw() {
    menu.clear();
    const kind = menu.pick("picture", kinds, "samples"), across = menu.pick("across", keys, keys.at(-1));
    const rows = visible().filter((row) => data.pictures[row.job]?.[kind]), down = keys.filter((key) => key !== across), names = values(across, rows);
    const sorted = [...rows].sort((a, b) => down.reduce((order, key) => order || compare(a[key], b[key]), 0)), main = best();
    const image = (row) => { const { src, width, height } = data.pictures[row.job][kind], words = `${row.job}${main ? `: ${main} ${show(row[main])}` : ""}`; return make("td", make("img", undefined, { src, width, height, alt: words, title: words })); };
    const lines = [...grouped(sorted, (row) => wordy(row, down))].map(([name, members]) => [make("th", name, { class: "text" }), ...names.map((value) => { const row = members.find((member) => member[across] === value); return row ? image(row) : make("td", ""); })]);
    box.replaceChildren(table(["", ...names.map((value) => make("th", `${across}=${show(value)}`))], lines));
  }
  listeners.push(redraw);
  if (kinds.length) redraw(); else part.remove();
}

drawTable();
document.body.dataset.ready = "true";
