"use strict";
// The page of one run.
const page = document.getElementById("page");
const curve = (name) => data.curves[name];

function line(name, label, more = {}) {
  const found = curve(name);
  return found ? [{ name: label, x: found.epochs, y: found.values, text: found.values.map((v, i) => `${label} ${show(v, 5)}\nepoch ${found.epochs[i]}, step ${found.steps[i]}`), ...more }] : [];
}

const changing = (name, label) => (new Set(curve(name)?.values).size > 1 ? line(name, label) : []);

function titled(title, series, label, more = {}) {
  if (!series.length) return undefined;
  const box = make("div");
  const part = make("div", [make("h3", title), box]);
  queueMicrotask(() => chart(box, { series, x: { label: "epoch" }, y: { label, ...more }, legend: series.length > 1 || Boolean(more.focus), height: 270 }));
  return part;
}

function charts(...parts) {
  const found = parts.filter(Boolean);
  return found.length ? make("div", found, { class: "charts" }) : undefined;
}

const split = (name, label) => [...line(`train/${name}`, `train ${label}`, { colour: colour(0) }), ...line(`val/${name}`, `validation ${label}`, { colour: colour(1) })];

{
  const state = { training: "training", done: "finished", interrupted: "interrupted", failed: "failed" }[data.state];
  page.append(make("h1", data.title));
  const when = data.state === "training" ? `${state}, epoch ${data.epoch} of ${data.epochs}` : `${state} after ${data.epoch} epochs`;
  page.append(make("p", [make("b", when), `; written ${data.written}`, data.state === "training" ? "; this page shows anew what is there every few seconds" : ""], { class: "soft" }));
  page.append(make("p", make("code", data.command)));
  if (data.tiles.length) page.append(tiles(data.tiles));
  page.append(remarks(data.remarks));
}

{
  const bound = split("elbo", "elbo"), nll = curve("val/nll");
  if (nll) bound.push({ name: "−nll of validation images", x: nll.epochs, y: nll.values.map((v) => -v), dash: "6 4", colour: colour(2) });
  const distortion = split("distortion", "distortion"), rate = split("rate", "rate");
  const loss = bound.length ? [] : split("loss", "loss");
  section("The bound", data.bound ? make("p", data.bound) : undefined, charts(
    titled("elbo = −(distortion + rate), nats per image", bound, "elbo", { focus: true }),
    titled("rate: KL(q(z|x)‖p(z)), what a code costs", rate, "rate, nats"),
    titled("distortion: −E[log p(x|z)], what the code does not tell", distortion, "distortion, nats", { focus: true }),
    titled("loss", loss, "loss", { focus: true }),
  ));
}

if (data.pictures.length) {
  // All epochs at which something was drawn, and the final pictures, of the best checkpoint on test images.
  const epochs = [...new Set(data.pictures.flatMap((picture) => picture.frames.map((frame) => frame.epoch)))].sort((a, b) => (a ?? Infinity) - (b ?? Infinity));
  const label = make("output"), shown = make("div", undefined, { class: "sheets" });
  const kept = Number(new URLSearchParams(location.hash.slice(1)).get("frame") ?? NaN);
  const slider = make("input", undefined, { type: "range", min: 0, max: epochs.length - 1, value: Number.isInteger(kept) && location.hash ? Math.min(kept, epochs.length - 1) : epochs.length - 1, "aria-label": "epoch" });
  let timer;
  const play = make("button", "▶ play", { type: "button", onclick: () => { if (timer) return stop(); if (Number(slider.value) === epochs.length - 1) slider.value = 0; step(); timer = setInterval(step, 700); play.textContent = "❚❚ pause"; } });
  function stop() { clearInterval(timer); timer = undefined; play.textContent = "▶ play"; }
  function step() { if (Number(slider.value) >= epochs.length - 1) return stop(); slider.value = Number(slider.value) + 1; update(); }
  const elbo = curve("val/elbo");
  function update() {
    const epoch = epochs[slider.value], place = elbo?.epochs.indexOf(epoch) ?? -1;
    label.textContent = epoch === null ? "the best checkpoint, test images" : `epoch ${epoch}${place >= 0 ? `, validation elbo ${show(elbo.values[place])}` : ""}`;
    slider.setAttribute("aria-valuetext", label.textContent);
    // What was not drawn at this epoch stays as it was drawn last, or first.
    const at = (picture) => picture.frames.findLast((frame) => (frame.epoch ?? Infinity) <= (epoch ?? Infinity)) ?? picture.frames[0];
    shown.replaceChildren(...data.pictures.map((picture) => { const box = sheet(at(picture)); if (picture.word) box.append(make("p", picture.word, { class: "soft" })); return box; }));
    if (Number(slider.value) < epochs.length - 1) history.replaceState(null, "", `#frame=${slider.value}`);
    else history.replaceState(null, "", location.pathname + location.search);
  }
  slider.addEventListener("input", () => { stop(); update(); });
  section("Pictures", epochs.length > 1 ? make("div", [play, slider, label], { class: "controls" }) : undefined, shown);
  update();
}

{
  const names = Object.keys(data.curves).filter((name) => name.startsWith("latent/rate_")).sort();
  const last = names.map((name) => curve(name).values.at(-1));
  const order = names.map((_, i) => i).sort((a, b) => last[b] - last[a]);
  const named = (i) => data.latents[i];
  const box = make("div");
  if (names.length) {
    const lines = order.slice(0, 10).map((i, place) => ({ name: named(i), x: curve(names[i]).epochs, y: curve(names[i]).values, mode: "both", colour: colour(place) }));
    section("Latents", make("p", "The rate of each latent, of the validation images, the largest first: what that latent says about an image. A latent of rate 0 is asleep."),
      charts(make("div", [make("h3", `Rate of each latent after epoch ${curve(names[0]).epochs.at(-1)}, nats`), box]), titled(order.length > 10 ? "The ten largest rates" : "The rates over the epochs", lines, "rate, nats")));
    bars(box, { names: order.map(named), values: order.map((i) => last[i]), label: "rate, nats" });
  }
}

{
  const found = charts(titled("σ of the likelihood", changing("val/sigma", "σ"), "σ"), titled("Norm of the gradient, before clipping", line("train/grad_norm", "norm"), "norm", { log: true }), titled("β", changing("train/beta", "β"), "β"), titled("mse of reconstructions", line("val/mse", "validation mse"), "mse"), titled("Active units", line("val/active_units", "active units"), "latents", { zero: true }));
  if (found) section("Training", found);
}

if (data.numbers.length) {
  const rows = data.numbers.map(([name, value, unit, meaning]) => [name, value, unit, make("td", meaning, { class: "text wrap soft" })]);
  section("Final numbers", make("div", table(["number", "", "unit", "what it is"], rows), { class: "scroll whole" }));
}

section("What it was told, and what it cost",
  make("div", table(["", ""], [...data.told, ...data.cost].map(([name, value]) => [name, make("td", show(value, 6), { class: "text wrap" })])), { class: "scroll whole" }),
  make("details", [make("summary", "the whole config"), make("pre", data.config)]));

// A run that goes on writes this page anew: show what is there, unless somebody is reading with the keyboard or mouse.
if (data.state === "training") {
  let touched = 0;
  for (const kind of ["pointerdown", "keydown", "wheel", "input"]) addEventListener(kind, () => (touched = Date.now()), { passive: true });
  setInterval(() => { if (!document.hidden && Date.now() - touched > 15000) location.reload(); }, 1000 * Math.max(5, data.seconds_between));
}
document.body.dataset.ready = "true";
