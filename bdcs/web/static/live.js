// SPDX-License-Identifier: GPL-2.0-or-later
// Pages that change while one looks at them. Without this script they are the same, and are loaded again by hand.
//
// Elements with an id and `data-live` are renewed from the page as it is now; one that has the focus, or that is
// pointed at, is left alone until it has not. A log (`#log-part` with `data-events`) grows by server-sent events;
// a line's `html` was escaped by the server. What is said to screen readers is the text of `data-say`.

const EVERY = 5000; // ms between two looks
const SOONEST = 1000; // … where events ask for one
const KEPT = 5000; // lines of a growing log that stay on the page

let fetching = false;
let asked = 0;

async function renew() {
  if (fetching) return;
  fetching = true;
  asked = Date.now();
  try {
    const answer = await fetch(location.pathname + location.search, { cache: "no-cache" });
    if (answer.ok) patch(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // the collector is away for a moment
  } finally {
    fetching = false;
  }
}

const sources = new WeakMap(); // what the server last sent of an element

function patch(fresh) {
  say(fresh);
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (!now || (sources.get(old) ?? old.innerHTML) === now.innerHTML) continue;
    if (old.matches(":hover") || (old !== document.activeElement && old.contains(document.activeElement))) continue;
    const places = [...old.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
    sources.set(old, now.innerHTML);
    old.replaceChildren(...now.childNodes);
    old.querySelectorAll(".scroll").forEach((part, index) => (part.scrollLeft = places[index] ?? 0));
  }
  const old = document.getElementById("log-part");
  const now = fresh.getElementById("log-part");
  if (old && now && old.dataset.attempt !== now.dataset.attempt) {
    old.replaceWith(now);
    follow(now);
  }
}

function say(fresh) {
  const place = document.getElementById("said");
  const text = fresh.querySelector("[data-say]")?.dataset.say;
  const known = document.querySelector("[data-say]");
  if (!place || !text || known.dataset.say === text) return;
  known.dataset.say = text;
  place.textContent = text;
}

function soon() {
  setTimeout(renew, Math.max(0, asked + SOONEST - Date.now()));
}

// Logs.

let stream = null;
let follows = false;

function follow(part) {
  stream?.close();
  if (!part?.dataset.events) return;
  const log = part.querySelector("#log");
  if (log) offerFollowing(part, log);
  stream = new EventSource(part.dataset.events);
  stream.addEventListener("state", soon);
  stream.addEventListener("log", (event) => grow(part, log, JSON.parse(event.data).lines));
  stream.addEventListener("end", () => {
    stream.close();
    clearInterval(timer);
    soon();
  });
}

function grow(part, log, lines) {
  if (!log) return;
  if (!log.querySelector("ol")) log.replaceChildren();
  for (const line of lines) {
    let list = log.querySelector("details:last-of-type > ol");
    if (!list || line.phase) list = begin(log, line.phase ?? "begin");
    list.append(row(line));
    const counted = list.previousElementSibling.querySelector(".t");
    counted.textContent = `${list.children.length} line${list.children.length > 1 ? "s" : ""}`;
  }
  const count = part.querySelector("[data-lines]");
  const last = lines.at(-1)?.n;
  if (count && last) count.textContent = last.toLocaleString("en");
  shorten(log);
  if (follows) log.scrollIntoView({ block: "end" });
}

function begin(log, name) {
  const running = log.querySelector("details:last-of-type");
  if (running && !running.querySelector(".err")) running.open = false;
  const part = document.createElement("details");
  const head = document.createElement("summary");
  const count = document.createElement("span");
  const list = document.createElement("ol");
  part.open = true;
  count.className = "t";
  head.append(`${name} `, count);
  part.append(head, list);
  log.append(part);
  return list;
}

function row(line) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const text = document.createElement("span");
  item.id = `L${line.n}`;
  if (line.kind) item.className = line.kind;
  link.href = `#L${line.n}`;
  link.textContent = line.n;
  const word = { err: "error", wrn: "warning" }[line.kind];
  text.innerHTML = (word ? `<span class="vh">${word}: </span>` : "") + line.html;
  item.append(link, text);
  return item;
}

function shorten(log) {
  const items = log.getElementsByTagName("li");
  const surplus = items.length - KEPT;
  if (surplus < 500) return;
  for (const item of [...items].slice(0, surplus)) item.remove();
  for (const part of log.querySelectorAll("details")) if (!part.querySelector("li")) part.remove();
  if (!log.querySelector(".gap")) {
    const note = document.createElement("p");
    note.className = "gap";
    log.prepend(note);
  }
  log.querySelector(".gap").textContent = "Earlier lines are in the whole log.";
}

function offerFollowing(part, log) {
  const button = document.createElement("button");
  const set = (value) => {
    follows = value;
    button.setAttribute("aria-pressed", String(value));
    if (value) log.scrollIntoView({ block: "end" });
  };
  button.type = "button";
  button.className = "btn";
  button.textContent = "Follow";
  button.addEventListener("click", () => set(!follows));
  addEventListener("wheel", (event) => event.deltaY < 0 && follows && set(false), { passive: true });
  addEventListener("keydown", (event) => follows && ["ArrowUp", "PageUp", "Home"].includes(event.key) && set(false));
  addEventListener("touchmove", () => follows && set(false), { passive: true });
  set(follows);
  part.querySelector(".formats")?.prepend(button);
}

addEventListener("click", (event) => {
  if (!event.target.closest?.("[data-refresh]")) return;
  event.preventDefault();
  renew();
});

const timer = setInterval(() => document.hidden || renew(), EVERY);
follow(document.getElementById("log-part"));
