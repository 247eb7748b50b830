"use strict";
// The page of one or more evaluated runs.
{
  const page = document.getElementById("page");
  page.append(make("h1", data.title));
  const about = data.runs.map((run) => make("li", [make("b", run.name), `: ${run.about}`]));
  page.append(make("ul", about));
  page.append(remarks(data.remarks));
}

for (const group of data.groups) {
  const heads = ["measure", ...group.names.map((name) => make("th", name, { style: "white-space: normal; overflow-wrap: anywhere; min-width: 6rem" })), "unit", "what it is"];
  const rows = group.rows.map(([name, cells, unit, meaning]) => [name, ...cells.map((text) => make("td", text)), unit, make("td", meaning, { class: "text wrap soft" })]);
  section(data.groups.length > 1 ? `Numbers: ${group.title}` : "Numbers", make("div", table(heads, rows), { class: "scroll whole", tabindex: 0 }));
}

for (const run of data.latents) {
  const order = run.rates.map((_, i) => i).sort((a, b) => run.rates[b] - run.rates[a]), box = make("div", undefined, { class: "latents" });
  section(`Rate of each latent${data.runs.length > 1 ? `, ${run.name}` : ""}`, make("p", "KL(q(z_d|x)‖p(z_d)), a mean over the images, the largest first; they add up to the rate. A latent of rate 0 is asleep."), box);
  bars(box, { names: order.map((i) => run.names[i]), values: order.map((i) => run.rates[i]), label: "rate, nats" });
}
document.body.dataset.ready = "true";
