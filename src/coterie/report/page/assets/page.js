"use strict";

// Copying: what stands in the code beside the button.
const said = document.getElementById("said");
async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    said.textContent = "Copied.";
  } catch {
    // No clipboard here: the words are selected, for the reader to copy.
    getSelection().selectAllChildren(code);
    said.textContent = "Selected: copy it by hand.";
  }
  const before = button.dataset.told ?? button.textContent;
  button.dataset.told = before;
  button.textContent = said.textContent.replace(/[.:].*/, "");
  setTimeout(() => { button.textContent = before; }, 1500);
}
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => copy(button));
}

// Tables: a click on a column's name sorts by it, a second one the other way round.
function keyOf(row, column) {
  const cell = row.children[column];
  const data = cell.querySelector("data");
  if (data) return data.hasAttribute("value") ? Number(data.value) : Infinity;
  const text = cell.textContent.trim();
  const number = Number.parseFloat(text.replace("−", "-").replaceAll(",", "").replace(/^×/, ""));
  return Number.isNaN(number) ? text : number;
}
function compare(one, other) {
  if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
  return typeof one === "number" ? -1 : 1;
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const one of heads) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row, column), row]);
      rows.sort((one, other) => compare(one[0], other[0]) * (down ? -1 : 1));
      table.tBodies[0].append(...rows.map((pair) => pair[1]));
    });
  });
}

// The stack: what is cut on screen, what that costs, and the command that does it.
function runs(labels) {
  const found = [];
  for (const label of labels) {
    const number = Number(label), last = found.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([one, other]) => (one === other ? `${one}` : `${one}-${other}`)).join(",");
}
function predict(part, cut) {
  const n = part.single.length;
  let total = part.constant;
  cut.forEach((one, place) => {
    total += part.single[one];
    for (const other of cut.slice(place + 1)) {
      total += part.pairs[one * (2 * n - one - 1) / 2 + other - one - 1];
    }
  });
  const gone = new Set(cut);
  part.cuts.forEach((seen, place) => {
    const both = seen.filter((player) => gone.has(player)).length;
    total += part.weights[place] * Math.exp(-(seen.length + cut.length - 2 * both) / part.length);
  });
  return total;
}
function known(part, cut) {
  const place = part.cuts.findIndex((seen) => seen.join() === cut.join());
  if (place >= 0 && part.losses[place] !== null) {
    return { loss: part.losses[place], error: part.errors[place], measured: true };
  }
  const guessed = cut.length > part.deepest;
  return { loss: predict(part, cut), error: part.deviations[cut.length], guessed };
}
function signed(number) {
  return (number < 0 ? "−" : "+") + Math.abs(number).toFixed(4);
}
function grown(cost, after) {
  const share = cost.before ? ` (${((after / cost.before - 1) * 100).toFixed(1)} %)` : "";
  if (cost.kind === "milliseconds") return `${after < 100 ? Number(after.toPrecision(3)) : Math.round(after)} ms${share}`;
  const units = ["", " k", " M", " G", " T"];
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(after, 1)) / 3)));
  const unit = cost.kind !== "bytes" ? "" : power ? "B" : " B";
  return `${Number((after / 1000 ** power).toPrecision(3))}${units[power]}${unit}${share}`;
}
// Pictures: a ring where the cut on screen stands among the points, at the edge if it lies beyond.
function mark(picture, x, loss) {
  const [left, right, low, high, ...places] = JSON.parse(picture.dataset.frame);
  const share = (value, from, to) => Math.min(1, Math.max(0, (value - from) / (to - from)));
  const ring = picture.querySelector(".here");
  ring.setAttribute("cx", places[0] + share(x, left, right) * (places[1] - places[0]));
  ring.setAttribute("cy", places[2] + share(loss, low, high) * (places[3] - places[2]));
  ring.removeAttribute("display");
}
function stack(data, section) {
  const screen = section.querySelector(".screen");
  const players = [...section.querySelectorAll(".player")];
  const chosen = data.removed.join();
  const say = (kind, text) => { screen.querySelector(`output.${kind}`).textContent = text; };
  function tellLoss(cut) {
    const part = data.predictor, here = cut.join() === chosen && data.heldOut;
    delete screen.dataset.loss;
    if (!part) {
      say("loss", here ? data.heldOut : cut.length ? "not known" : "0");
      say("how", here ? "measured in this run" : "this record holds no predictor");
      return say("ratio", "–");
    }
    const found = known(part, cut);
    screen.dataset.loss = found.loss;
    const error = found.error === null || found.error === undefined ? "" : ` ± ${found.error.toFixed(4)}`;
    say("loss", `${signed(found.loss)}${error} ${part.unit}, calibration text`);
    let how = found.measured ? "measured in the search; ± standard error"
      : `predicted (${part.surrogate}); ± typical miss`;
    if (found.guessed) how += "; more is cut than was ever observed: a guess";
    if (here) how += `; ${data.heldOut}`;
    say("how", how);
    return say("ratio", `×${Math.exp(found.loss).toFixed(3)}`);
  }
  function tellCosts(cut) {
    for (const cost of data.costs) {
      const after = cut.reduce((left, player) => left - cost.players[player], cost.before);
      const about = cost.exact || !cut.length || cut.join() === chosen ? "" : "about ";
      screen.dataset[cost.kind] = after;
      say(cost.kind, about + grown(cost, after));
    }
  }
  function tellPictures(cut) {
    for (const picture of section.parentElement.querySelectorAll("svg[data-measure]")) {
      const measure = picture.dataset.measure;
      mark(picture, measure === "players" ? cut.length : screen.dataset[measure], screen.dataset.loss);
    }
  }
  function tell() {
    const cut = players.filter((one) => one.ariaPressed === "true").map((one) => Number(one.dataset.player));
    const labels = cut.map((player) => data.labels[player]);
    say("cut", labels.length ? `${labels.length}: ${data.before ? runs(labels) : labels.join(", ")}` : "nothing");
    tellLoss(cut);
    tellCosts(cut);
    tellPictures(cut);
    const line = screen.querySelector(".line"), button = screen.querySelector(".copy");
    button.disabled = !cut.length || !data.before;
    line.textContent = !data.before ? "single blocks are cut by coterie prune alone"
      : cut.length ? data.before + runs(labels) + data.after : "nothing to cut";
  }
  function set(cut) {
    players.forEach((one, player) => { one.ariaPressed = String(cut.includes(player)); });
    tell();
  }
  for (const one of players) {
    one.addEventListener("click", () => {
      one.ariaPressed = String(one.ariaPressed !== "true");
      tell();
    });
  }
  for (const one of section.querySelectorAll("button.set")) {
    one.addEventListener("click", () => set(one.dataset.to === "chosen" ? data.removed : []));
  }
  tell();
}
for (const script of document.querySelectorAll('script[type="application/json"]')) {
  stack(JSON.parse(script.textContent), script.parentElement);
}

// Pictures of which one is shown at a time: a button for each, the first pressed.
for (const group of document.querySelectorAll(".views")) {
  const shown = [...group.querySelectorAll(".view")];
  const bar = document.createElement("div");
  bar.className = "buttons";
  const buttons = shown.map((view) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = view.dataset.name;
    button.addEventListener("click", () => show(view));
    return button;
  });
  function show(view) {
    shown.forEach((one, place) => {
      one.hidden = one !== view;
      buttons[place].ariaPressed = String(one === view);
    });
  }
  bar.append(...buttons);
  group.prepend(bar);
  show(shown[0]);
}

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.open = true;
    one.dataset.folded = "";
  }
});
addEventListener("afterprint", () => {
  for (const one of document.querySelectorAll("details[data-folded]")) one.open = false;
});
