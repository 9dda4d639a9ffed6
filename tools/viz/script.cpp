#include "page.hpp"

namespace tinyphys::viz {

const char* const kScript = R"js("use strict";
const stages = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const byId = stages.map(s => new Map((s.nodes || []).map(n => [n.id, n])));
let current = 0, side = "after", box = null, whole = null, hits = [], hit = -1, chosen = null;

// All text goes in as text: nothing of a dump is read as HTML.
function make(tag, text, cls) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (cls) e.className = cls;
  return e;
}

const shownIndex = () => side === "before" && stages[current].before !== undefined ? stages[current].before : current;
const label = s => s.name.replaceAll("-", " ");

function listSteps() {
  let realize = 0;
  stages.forEach((s, i) => {
    if (s.realize !== realize) {
      realize = s.realize;
      at("steps").append(make("h2", "Plan " + realize));
    }
    const b = make("button", label(s));
    b.type = "button";
    b.dataset.step = i;
    b.addEventListener("click", () => go(i));
    at("steps").append(b);
  });
}

// The drawing that is shown, its nodes by what dot calls them.
function drawn() {
  const found = new Map();
  for (const g of at("picture").querySelectorAll("g.node")) {
    const t = g.querySelector("title");
    if (t) found.set(t.textContent, g);
  }
  return found;
}

function changeOf(n) {
  if (stages[current].before === undefined) return "";
  if (side === "before") return n.removed && gone().has(n.id) ? "removed" : "";
  return n.change || "";
}
// Of the graph before: what the current pass took away.
const gone = () => new Set(stages[stages[current].before].nodes.filter(n => n.removed).map(n => n.id));

function go(i) {
  current = Math.max(0, Math.min(stages.length - 1, i));
  for (const b of at("steps").querySelectorAll("button")) {
    if (Number(b.dataset.step) === current) {
      b.setAttribute("aria-current", "step");
      b.scrollIntoView({block: "nearest"});
    } else b.removeAttribute("aria-current");
  }
  show();
}

function show() {
  const s = stages[current], compared = s.before !== undefined;
  at("name").textContent = label(s);
  at("sides").hidden = !compared;
  at("before").setAttribute("aria-pressed", String(compared && side === "before"));
  at("after").setAttribute("aria-pressed", String(!compared || side === "after"));
  at("previous-step").disabled = current === 0;
  at("next-step").disabled = current === stages.length - 1;
  const g = stages[shownIndex()];
  const note = at("note");
  note.replaceChildren();
  if (g.no_svg) note.append(g.no_svg + ". ");
  if (compared) {
    const count = c => (s.nodes || []).filter(n => n.change === c).length;
    note.append(make("span", count("added") + " added", "key key-added"), " ",
                make("span", stages[s.before].nodes.filter(n => n.removed).length + " removed", "key key-removed"), " ",
                make("span", count("rebuilt") + " the same over other sources", "key key-rebuilt"));
  } else if (s.nodes) note.append(s.nodes.length + " nodes");
  at("picture").replaceChildren();
  at("picture").hidden = !g.svg;
  if (g.svg) {
    const xml = new DOMParser().parseFromString(
        g.svg, "image/svg+xml");
    const svg = document.importNode(xml.documentElement, true);
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    at("picture").append(svg);
    whole = (svg.getAttribute("viewBox") || "0 0 100 100").split(/[\s,]+/).map(Number);
    setBox(whole.slice());
    for (const [id, e] of drawn()) {
      const n = byId[shownIndex()].get(id), change = n ? changeOf(n) : "";
      if (change) e.classList.add(change);
    }
  }
  showTexts(s, g);
  chosen = null;
  at("details").replaceChildren(make("p", "Click a node to see what it is."));
  search(false);
}

function part(title, text, open) {
  const d = make("details"), sum = make("summary", title);
  d.open = open;
  d.append(sum, make("pre", text));
  return d;
}

function showTexts(s, g) {
  const t = at("texts");
  t.replaceChildren();
  if (s.rules) {
    t.append(make("h3", "Rules, each with its place in the source of tinyphys"));
    t.append(make("pre", s.rules.join("\n")));
  }
  if (s.kind === "kernel") {
    const number = s.name.replace(/^(kernel|host)-/, "");
    const run = stages.find(o => o.realize === s.realize && o.kind === "times");
    const line = run && run.text.split("\n").find(l => l.startsWith(number + "  "));
    for (const f of s.forms || []) if (f.extension === "time") t.append(make("p", f.text.trim()));
    if (line) t.append(make("p", "run: " + line));
  }
  const names = {ll: "LLVM IR", "opt.ll": "LLVM IR after its passes", asm: "Machine code", cl: "OpenCL C"};
  for (const f of s.forms || []) if (names[f.extension]) t.append(part(names[f.extension], f.text, f.extension === "ll" || f.extension === "cl"));
  if (g.text) t.append(part(s.kind === "times" || s.kind === "explain" ? label(s) : "As text", g.text, !g.svg));
}

// Of a node of a plan there is what its drawing says.
function info(id) {
  const n = byId[shownIndex()].get(id);
  if (n) return n;
  const e = drawn().get(id);
  return {id, text: e ? [...e.querySelectorAll("text")].map(x => x.textContent).join(" ") : id};
}

function choose(id, move) {
  chosen = id;
  const n = info(id), d = at("details");
  d.replaceChildren(make("h3", n.text));
  const list = make("dl");
  const say = (k, v) => { if (v) list.append(make("dt", k), make("dd", v)); };
  say("op", n.op);
  say("dtype", n.dtype);
  say("shape", n.shape);
  say("line", n.where);
  say("against the graph before", n.op ? changeOf(n) : "");
  d.append(list);
  const links = (title, ids) => {
    if (!ids.length) return;
    d.append(make("h3", title));
    for (const i of ids.slice(0, 200)) {
      const b = make("button", info(i).text);
      b.type = "button";
      b.addEventListener("click", () => choose(i, true));
      d.append(b);
    }
    if (ids.length > 200) d.append(make("p", "and " + (ids.length - 200) + " more"));
  };
  links("sources", n.sources || []);
  links("users", (stages[shownIndex()].nodes || []).filter(u => (u.sources || []).includes(id)).map(u => u.id));
  for (const [i, e] of drawn()) e.classList.toggle("chosen", i === id);
  if (move) center(id);
}

function setBox(b) {
  box = b;
  const svg = at("picture").querySelector("svg");
  if (svg) svg.setAttribute("viewBox", b.join(" "));
}
function zoom(by, x, y) {
  if (!box) return;
  const fx = x === undefined ? 0.5 : x, fy = y === undefined ? 0.5 : y;
  const w = box[2] * by, h = box[3] * by;
  setBox([box[0] + (box[2] - w) * fx, box[1] + (box[3] - h) * fy, w, h]);
}
// A node into the middle, large enough to be read.
function center(id) {
  const e = drawn().get(id), svg = at("picture").querySelector("svg");
  if (!e || !svg || !svg.getScreenCTM()) return;
  const r = e.getBoundingClientRect(), m = svg.getScreenCTM().inverse();
  const p = new DOMPoint(r.x + r.width / 2, r.y + r.height / 2).matrixTransform(m);
  const w = Math.min(whole[2], 700), h = Math.min(whole[3], 500);
  setBox([p.x - w / 2, p.y - h / 2, w, h]);
}

function search(move) {
  const what = at("search").value.trim().toLowerCase();
  hits = [];
  const index = shownIndex(), nodes = stages[index].nodes;
  if (what) {
    if (nodes) hits = nodes.filter(n => (n.text + " " + (n.where || "")).toLowerCase().includes(what)).map(n => n.id);
    else for (const id of drawn().keys()) if (info(id).text.toLowerCase().includes(what)) hits.push(id);
  }
  const set = new Set(hits);
  for (const [id, e] of drawn()) e.classList.toggle("hit", set.has(id));
  at("hits").textContent = what ? hits.length + " found" : "";
  hit = -1;
  if (move && hits.length) nextHit();
}
function nextHit() {
  if (!hits.length) return;
  hit = (hit + 1) % hits.length;
  at("hits").textContent = (hit + 1) + " of " + hits.length;
  choose(hits[hit], true);
}

function setSide(s) {
  if (stages[current].before === undefined) return;
  side = s;
  show();
}

function dark() {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function tellTheme() { at("theme").setAttribute("aria-pressed", String(dark())); }

at("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  tellTheme();
});
at("previous-step").addEventListener("click", () => go(current - 1));
at("next-step").addEventListener("click", () => go(current + 1));
at("before").addEventListener("click", () => setSide("before"));
at("after").addEventListener("click", () => setSide("after"));
at("zoom-in").addEventListener("click", () => zoom(0.8));
at("zoom-out").addEventListener("click", () => zoom(1.25));
at("zoom-all").addEventListener("click", () => setBox(whole.slice()));
at("search").addEventListener("input", () => search(false));
at("search").addEventListener("keydown", e => {
  if (e.key === "Enter") hit < 0 ? search(true) : nextHit();
  if (e.key === "Escape") { at("search").value = ""; search(false); at("search").blur(); }
  e.stopPropagation();
});
at("next-hit").addEventListener("click", nextHit);

document.addEventListener("keydown", e => {
  if (e.ctrlKey || e.altKey || e.metaKey) return;
  const keys = {
    j: () => go(current + 1), ArrowDown: () => go(current + 1), k: () => go(current - 1), ArrowUp: () => go(current - 1),
    b: () => setSide(side === "before" ? "after" : "before"), "/": () => { at("search").focus(); at("search").select(); },
    "+": () => zoom(0.8), "-": () => zoom(1.25), "0": () => setBox(whole.slice()), n: nextHit,
  };
  if (!Object.hasOwn(keys, e.key)) return;
  // What is long is scrolled by its own arrows.
  if (e.key.startsWith("Arrow") && e.target.closest && e.target.closest("#texts, #details")) return;
  e.preventDefault();
  keys[e.key]();
});

const picture = at("picture");
picture.addEventListener("wheel", e => {
  e.preventDefault();
  const r = picture.getBoundingClientRect();
  zoom(e.deltaY > 0 ? 1.15 : 1 / 1.15, (e.clientX - r.x) / r.width, (e.clientY - r.y) / r.height);
}, {passive: false});
let grip = null, dragged = false;
picture.addEventListener("pointerdown", e => {
  if (box) grip = {x: e.clientX, y: e.clientY, box: box.slice()};
  dragged = false;
});
window.addEventListener("pointermove", e => {
  if (!grip) return;
  const dx = e.clientX - grip.x, dy = e.clientY - grip.y;
  if (Math.abs(dx) + Math.abs(dy) > 4) dragged = true;
  if (!dragged) return;
  const r = picture.getBoundingClientRect();
  const scale = Math.max(grip.box[2] / r.width, grip.box[3] / r.height);
  setBox([grip.box[0] - dx * scale, grip.box[1] - dy * scale, grip.box[2], grip.box[3]]);
});
window.addEventListener("pointerup", () => { grip = null; });
picture.addEventListener("click", e => {
  if (dragged) return;
  const g = e.target.closest("g.node");
  if (g && g.querySelector("title")) choose(g.querySelector("title").textContent, false);
});

listSteps();
tellTheme();
go(0);

// The page drives itself by events as a user makes them, and writes down what it found: for its test.
function selfTest() {
  const failed = [];
  const check = (what, holds) => { if (!holds) failed.push(what); };
  const key = k => document.body.dispatchEvent(new KeyboardEvent("keydown", {key: k, bubbles: true, cancelable: true}));
  const click = e => e.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
  const marked = () => document.querySelector("#steps [aria-current]");
  check("a button for each step", document.querySelectorAll("#steps button").length === stages.length);
  check("opens at the first step", current === 0 && marked() && Number(marked().dataset.step) === 0);
  for (let i = 1; i < stages.length; ++i) {
    key(i % 2 ? "j" : "ArrowDown");
    check("step to " + i, current === i && Number(marked().dataset.step) === i);
    check("name of " + i, at("name").textContent === label(stages[i]));
    check("picture of " + i, !stages[i].svg === !picture.querySelector("svg"));
    if (stages[i].nodes && stages[i].svg)
      check("every node of " + i + " is drawn", stages[i].nodes.every(n => drawn().has(n.id)));
    if (stages[i].before !== undefined && stages[i].svg) {
      const added = stages[i].nodes.filter(n => n.change === "added").length;
      check("added in " + i, picture.querySelectorAll(".node.added").length === added);
      key("b");
      const g = stages[stages[i].before];
      check("before of " + i, side === "before" && at("before").getAttribute("aria-pressed") === "true");
      if (g.svg) check("removed in " + i, picture.querySelectorAll(".node.removed").length === g.nodes.filter(n => n.removed).length);
      click(at("after"));
      check("after of " + i, side === "after");
    }
  }
  key("j");
  check("stays at the last step", current === stages.length - 1);
  key("k");
  check("steps back", current === Math.max(0, stages.length - 2));
  const first = stages.findIndex(s => s.svg && s.nodes);
  check("a graph is drawn", first >= 0);
  if (first >= 0) {
    click(document.querySelector('#steps button[data-step="' + first + '"]'));
    check("a click on a step goes there", current === first);
    const n = stages[first].nodes[stages[first].nodes.length - 1];
    key("/");
    check("/ goes to the search", document.activeElement === at("search"));
    at("search").value = n.op.toLowerCase();
    at("search").dispatchEvent(new Event("input"));
    const same = stages[first].nodes.filter(m => (m.text + " " + (m.where || "")).toLowerCase().includes(n.op.toLowerCase())).length;
    check("search finds", hits.length === same && same > 0 && picture.querySelectorAll(".node.hit").length === same);
    at("search").dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true}));
    check("Enter shows a hit", chosen === hits[0] && at("details").textContent.includes(n.op));
    at("search").value = "";
    at("search").dispatchEvent(new Event("input"));
    check("no search, no hits", picture.querySelectorAll(".node.hit").length === 0);
    const g = drawn().get(n.id);
    if (g) click(g.querySelector("text") || g);
    check("a click on a node tells of it", chosen === n.id && at("details").querySelector("h3").textContent === n.text);
    check("with its line", !n.where || at("details").textContent.includes(n.where));
    check("with its sources", [...at("details").querySelectorAll("button")].length >= (n.sources || []).length);
    const before = box.slice();
    key("+");
    check("+ comes nearer", box[2] < before[2]);
    key("0");
    check("0 shows all", box.every((v, i) => v === whole[i]));
  }
  const was = dark();
  click(at("theme"));
  check("the theme turns", dark() !== was && at("theme").getAttribute("aria-pressed") === String(!was));
  click(at("theme"));
  check("buttons and fields are named", [...document.querySelectorAll("button")].every(b => b.textContent || b.ariaLabel) &&
        at("search").labels.length === 1);
  check("no element came from a dump", document.querySelectorAll("img, iframe, object, script:not(#data)").length === 1);
  return failed;
}
if (location.hash === "#selftest") {
  let failed;
  try { failed = selfTest(); } catch (e) { failed = ["threw " + e.stack]; }
  const result = make("pre", failed.length ? "FAILED " + failed.join("; ") : "PASSED " + stages.length + " steps");
  result.id = "selftest-result";
  document.body.append(result);
}
)js";

}  // namespace tinyphys::viz
