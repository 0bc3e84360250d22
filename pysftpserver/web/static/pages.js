// What pages do besides showing what the server sent: choosing rows, counting down, uploading with progress.
// Every page works without it, but for dropping files. Facts: pysftpserver/web/resuming.py, for uploads.
"use strict";

const root = document.body.dataset.root || "";
let csrf = document.body.dataset.csrf || "";
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

document.documentElement.classList.add("scripted");

// --- times, as they are at this place ---------------------------------------------------------------

const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

function showTimes(within) {
  for (const time of all("time", within)) {
    time.title = time.dateTime;
    time.textContent = (time.closest(".below") ? days : times).format(new Date(time.dateTime));
  }
}

// --- choosing rows ----------------------------------------------------------------------------------

function watchSelection() {
  const form = find("#selection");
  if (!form) return;
  const boxes = all("tbody input[type=checkbox]", form);
  const every = find("#all", form);
  const count = find(".count", form);
  let last = null;
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    count.textContent = chosen ? `${chosen} chosen` : "Nothing chosen";
    find(".chosen", form).classList.toggle("some", chosen > 0);
    every.checked = chosen === boxes.length;
    every.indeterminate = chosen > 0 && chosen < boxes.length;
    for (const button of all(".chosen button", form)) {
      button.disabled = !chosen || (button.value === "rename" && chosen > 1);
    }
  };
  every.addEventListener("change", () => {
    for (const box of boxes) box.checked = every.checked;
    show();
  });
  form.addEventListener("click", (event) => {
    const at = boxes.indexOf(event.target);
    if (at < 0) return;
    if (event.shiftKey && last !== null) {
      for (const box of boxes.slice(Math.min(at, last), Math.max(at, last))) box.checked = event.target.checked;
    }
    last = at;
    show();
  });
  form.addEventListener("change", show);
  show();
}

// --- what opens and closes --------------------------------------------------------------------------

for (const pop of all("details.pop")) {
  pop.addEventListener("toggle", () => {
    if (!pop.open) return;
    for (const other of all("details.pop[open]")) if (other !== pop) other.open = false;
    (find("[type=file]", pop) || find("input:not([type=hidden]), select, a", pop))?.focus();
  });
}
document.addEventListener("keydown", (event) => {
  const pop = find("details.pop[open]");
  if (event.key !== "Escape" || !pop) return;
  pop.open = false;
  find("summary", pop).focus();
});
document.addEventListener("click", (event) => {
  for (const pop of all("details.pop[open]")) if (!pop.contains(event.target)) pop.open = false;
});

const renamed = find("#new[autofocus]");
if (renamed) {
  const dot = renamed.value.lastIndexOf(".");
  renamed.focus();
  renamed.setSelectionRange(0, dot > 0 ? dot : renamed.value.length);
}

// --- deletes that can still be undone ---------------------------------------------------------------

function countDown() {
  for (const form of all(".undo:not([data-end])")) {
    form.dataset.end = Date.now() + 1000 * form.dataset.seconds;
    const timer = setInterval(() => {
      const left = Math.ceil((form.dataset.end - Date.now()) / 1000);
      if (left > 0) find(".left", form).textContent = left;
      else {
        clearInterval(timer);
        form.remove();
        if (!find("#selection :checked") && !document.activeElement?.closest("main")) setTimeout(refresh, 1500);
      }
    }, 250);
  }
}

// --- uploads ----------------------------------------------------------------------------------------

const PIECE = 16 * 1024 * 1024; // bytes of one request
const AT_ONCE = 2;
const MOST_SHOWN = 50; // uploads that wait or have failed
const sizes = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

function sizeText(size) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${sizes.format(unit ? size : Math.round(size))} ${units[unit]}`;
}

class Lost extends Error {} // the connection; it is worth another try
class Refused extends Error {} // by the server, in words for a person

function request(method, address, headers, body, onProgress, onStart) {
  return new Promise((resolve, reject) => {
    const asked = new XMLHttpRequest();
    asked.open(method, address);
    asked.setRequestHeader("X-CSRF", csrf);
    for (const [name, value] of Object.entries(headers)) asked.setRequestHeader(name, value);
    if (onProgress) asked.upload.onprogress = (event) => onProgress(event.loaded);
    asked.onload = () => {
      let said = {};
      try {
        said = JSON.parse(asked.responseText);
      } catch {
        said = { words: asked.responseText.slice(0, 200) };
      }
      resolve({ status: asked.status, said, offset: asked.getResponseHeader("Upload-Offset") });
    };
    asked.onerror = () => reject(new Lost("The connection was lost"));
    asked.onabort = () => reject(new DOMException("", "AbortError"));
    asked.send(body);
    if (onStart) onStart(asked);
  });
}

// A session that has ended, or a server that was started again: another page of the same person has the new token.
async function newToken() {
  let text = "";
  try {
    text = await (await fetch(`${root}/files/`, { credentials: "same-origin" })).text();
  } catch {
    throw new Lost("The connection was lost");
  }
  const token = new DOMParser().parseFromString(text, "text/html").body.dataset.csrf;
  if (!token) throw new Refused("Your session has ended. Log in again in another tab, then choose Resume.");
  const isNew = token !== csrf;
  csrf = token;
  return isNew;
}

async function ask(method, address, ...rest) {
  const reply = await request(method, address, ...rest);
  if (reply.status === 403 && (await newToken())) return request(method, address, ...rest);
  return reply;
}

const questions = { chain: Promise.resolve(), forAll: null };

// What becomes of a file whose name is taken. One question at a time.
function askExisting(name) {
  const question = async () => {
    if (questions.forAll) return questions.forAll;
    const forAll = make("input", { type: "checkbox" });
    const dialog = make(
      "dialog",
      { "aria-labelledby": "question" },
      make("h2", { id: "question" }, "This name is taken"),
      make("p", {}, `There is something called “${name}” already.`),
      make("label", {}, forAll, "Do the same for all others"),
      make(
        "form",
        { method: "dialog", class: "buttons" },
        make("button", { value: "keep", class: "primary" }, "Keep both"),
        make("button", { value: "replace" }, "Replace"),
        make("button", { value: "skip" }, "Skip"),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    const answer = dialog.returnValue || "skip";
    if (forAll.checked) questions.forAll = answer;
    dialog.remove();
    return answer;
  };
  questions.chain = questions.chain.then(question, question);
  return questions.chain;
}

class Transfer {
  // name: of the file, with the folders that it is in, from this directory on.
  constructor(panel, file, name, existing) {
    Object.assign(this, { panel, file, name, existing, offset: 0, sent: 0, id: "", state: "waiting", tries: 0 });
    const path = name.split("/").map(encodeURIComponent).join("/");
    this.path = location.pathname.slice(`${root}/files`.length) + path;
  }

  show(words) {
    if (!this.row) {
      this.bar = make("progress", { max: Math.max(1, this.file.size), value: 0, "aria-label": `Upload of ${this.name}` });
      this.words = make("span", { class: "hint" });
      this.toggle = make("button", { type: "button" });
      this.toggle.addEventListener("click", () => (this.state === "running" ? this.pause() : this.resume()));
      const cancel = make("button", { type: "button", "aria-label": `Cancel ${this.name}` }, "Cancel");
      cancel.addEventListener("click", () => this.cancel());
      const buttons = make("span", { class: "buttons" }, this.toggle, cancel);
      this.row = make("li", {}, make("span", {}, make("bdi", {}, this.name)), this.bar, this.words, buttons);
      this.panel.list.append(this.row);
    }
    this.bar.value = this.sent;
    this.words.textContent = words || `${sizeText(this.sent)} of ${sizeText(this.file.size)}`;
    const label = this.state === "running" ? "Pause" : "Resume";
    this.toggle.textContent = label;
    this.toggle.setAttribute("aria-label", `${label} ${this.name}`);
    this.row.classList.toggle("failed", this.state === "failed");
  }

  hide() {
    this.row?.remove();
    this.row = null;
  }

  // A pause ends it, and after that another one runs, maybe while this one still waits for a reply.
  async run() {
    const turn = (this.turn = (this.turn || 0) + 1);
    const goesOn = () => this.state === "running" && this.turn === turn;
    this.state = "running";
    this.show();
    await this.looking; // it would cut off what is sent
    while (goesOn()) {
      try {
        await this.step();
        this.tries = 0;
      } catch (error) {
        if (error.name === "AbortError" || !goesOn()) break;
        if (error instanceof Lost) await this.waitFor(error.message);
        else this.fail(error);
      }
    }
  }

  // Begin it, or send the next piece.
  async step() {
    if (!this.id) return this.begin();
    const piece = this.file.slice(this.offset, this.offset + PIECE);
    const start = this.offset;
    const headers = { "Upload-Offset": start, "Content-Type": "application/octet-stream" };
    const reply = await ask(
      "PATCH",
      `${root}/upload/${this.id}`,
      headers,
      piece,
      (loaded) => {
        this.sent = start + loaded;
        this.show();
      },
      (asked) => (this.asked = asked),
    );
    if (reply.status === 404) this.id = ""; // the server was started again
    else if (reply.status === 409 && reply.offset !== null && +reply.offset !== start) this.offset = +reply.offset;
    else if (reply.status >= 500 && reply.status !== 507) throw new Lost("The server is busy");
    else if (reply.status !== 200) throw new Refused(reply.said.words);
    else this.offset = +reply.offset;
    if (reply.status === 200 && this.offset >= this.file.size) this.finish();
  }

  async begin() {
    const wish = { path: this.path, size: this.file.size, existing: this.existing };
    wish.modified = Math.floor(this.file.lastModified / 1000);
    const reply = await ask("POST", `${root}/upload/`, { "Content-Type": "application/json" }, JSON.stringify(wish));
    if (reply.said.exists) {
      if (this.existing === "ask") this.existing = await askExisting(this.name);
      if (this.existing === "skip") this.finish();
    } else if (reply.status === 429 || (reply.status >= 500 && reply.status !== 507)) {
      throw new Lost("The server is busy");
    } else if (reply.status !== 201) throw new Refused(reply.said.words);
    else {
      this.id = reply.said.id;
      this.offset = this.sent = reply.said.offset;
      if (reply.said.name) this.finish();
    }
  }

  // The connection was lost: try again, later each time, or at once when the network is back.
  async waitFor(words) {
    const seconds = Math.min(30, 2 ** this.tries++);
    this.show(`${words}. Trying again in ${seconds} s`);
    await new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, 1000 * seconds);
      addEventListener("online", resolve, { once: true });
    });
    if (this.state === "running" && (await this.look())) this.show();
  }

  // How much has arrived; false if the server cannot be asked.
  async look() {
    if (!this.id) return false;
    try {
      const reply = await request("HEAD", `${root}/upload/${this.id}`, {});
      if (reply.status === 404) this.id = "";
      else if (reply.offset !== null) this.offset = this.sent = +reply.offset;
      return true;
    } catch {
      return false;
    }
  }

  fail(error) {
    this.state = "failed";
    this.id = "";
    this.show(error instanceof Refused ? error.message : "The file cannot be read");
  }

  finish() {
    this.state = "done";
    this.hide();
  }

  pause() {
    this.state = "paused";
    this.asked?.abort();
    this.wake?.();
    this.show("Paused");
    this.panel.next();
    this.looking = this.look().then((isKnown) => {
      if (isKnown && this.state === "paused") this.show(`Paused at ${sizeText(this.offset)} of ${sizeText(this.file.size)}`);
    });
  }

  resume() {
    this.state = "waiting";
    this.show("Waiting");
    this.panel.next();
  }

  cancel() {
    this.state = "cancelled";
    this.asked?.abort();
    this.wake?.();
    if (this.id) request("DELETE", `${root}/upload/${this.id}`, {}).catch(() => {});
    this.hide();
    this.panel.next();
  }
}

class Panel {
  constructor() {
    this.transfers = [];
    this.running = 0;
  }

  open() {
    if (this.section) return;
    this.title = make("h2", { "aria-live": "polite" });
    this.toggle = make("button", { type: "button" }, "Pause all");
    this.toggle.addEventListener("click", () => this.toggleAll());
    const cancel = make("button", { type: "button" }, "Cancel all");
    cancel.addEventListener("click", () => this.transfers.filter((one) => this.isOpen(one)).forEach((one) => one.cancel()));
    this.list = make("ul");
    const head = make("header", {}, this.title, this.toggle, cancel);
    this.section = make("section", { class: "transfers", "aria-label": "Uploads" }, head, this.list);
    find(".head").after(this.section);
  }

  isOpen(one) {
    return !["done", "cancelled"].includes(one.state);
  }

  add(files, existing) {
    if (!files.length) return;
    this.open();
    for (const { file, name } of files) this.transfers.push(new Transfer(this, file, name, existing));
    this.next();
  }

  toggleAll() {
    const isPaused = this.toggle.textContent === "Resume all";
    for (const one of this.transfers) {
      if (isPaused && one.state === "paused") one.resume();
      else if (!isPaused && one.state === "running") one.pause();
      else if (!isPaused && one.state === "waiting") one.state = "paused";
    }
    this.next();
  }

  next() {
    for (const one of this.transfers) {
      if (this.running >= AT_ONCE) break;
      if (one.state !== "waiting") continue;
      this.running += 1;
      one.run().finally(() => {
        this.running -= 1;
        this.next();
      });
    }
    this.show();
  }

  show() {
    const open = this.transfers.filter((one) => this.isOpen(one));
    const done = this.transfers.filter((one) => one.state === "done").length;
    const failed = open.filter((one) => one.state === "failed").length;
    const active = open.filter((one) => ["running", "waiting"].includes(one.state)).length;
    const count = done + open.length;
    this.toggle.textContent = !active && open.some((one) => one.state === "paused") ? "Resume all" : "Pause all";
    this.toggle.disabled = open.length === failed;
    const shown = open.filter((one) => one.row).length;
    const paused = open.filter((one) => one.state === "paused" && !one.row);
    for (const one of paused.slice(0, Math.max(0, MOST_SHOWN - shown))) one.show("Paused");
    const problem = failed ? `; ${failed} failed` : "";
    this.title.textContent = `${done} of ${count} ${count === 1 ? "file" : "files"} uploaded${problem}`;
    if (active || this.running || !count) {
      if (!count) this.close();
      return;
    }
    if (!open.length) {
      questions.forAll = null;
      refresh(`${done} ${done === 1 ? "file" : "files"} uploaded.`);
      this.close();
    } else if (done !== this.seen) {
      this.seen = done;
      refresh();
    }
  }

  close() {
    this.section?.remove();
    this.section = null;
    this.transfers = [];
  }
}

// Show the directory as it is now, without losing what goes on.
async function refresh(words) {
  try {
    const text = await (await fetch(location.href, { credentials: "same-origin" })).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const selector of ["#selection, .none", ".head .facts", "nav.pages"]) {
      const [here, there] = [find(`main ${selector}`), find(`main ${selector}`, page)];
      if (here && there) here.replaceWith(there);
    }
    for (const message of all("main > .message", page)) find(".head").before(message);
  } catch {
    return; // the connection was lost; the page stays as it is
  }
  if (words) find(".head").before(make("div", { class: "message", role: "status" }, words));
  showTimes(document);
  watchSelection();
}

const panel = new Panel();

// --- dropping and choosing --------------------------------------------------------------------------

async function* entriesIn(entry, above) {
  const name = above + entry.name;
  if (entry.isFile) {
    yield { file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name };
    return;
  }
  const reader = entry.createReader();
  let count = 0;
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    count += some.length;
    for (const one of some) yield* entriesIn(one, `${name}/`);
  }
  if (!count) yield { folder: name };
}

async function makeFolder(name) {
  const path = location.pathname.slice(`${root}/files`.length) + name.split("/").map(encodeURIComponent).join("/");
  await ask("POST", `${root}/upload/`, { "Content-Type": "application/json" }, JSON.stringify({ path, folder: true }));
}

const uploads = find("form#upload");
if (uploads) {
  const folder = make("input", { type: "file", id: "folder", webkitdirectory: "" });
  uploads.insertBefore(make("label", { for: "folder" }, "Or a folder"), find("button", uploads));
  uploads.insertBefore(folder, find("button", uploads));
  const chosen = find("#files", uploads);
  chosen.required = false;
  uploads.addEventListener("submit", (event) => {
    event.preventDefault();
    const files = [...chosen.files, ...folder.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    if (!files.length) {
      chosen.setCustomValidity("Choose files or a folder first.");
      chosen.reportValidity();
      return;
    }
    panel.add(files, find("#existing", uploads).value);
    uploads.reset();
    uploads.closest("details").open = false;
  });
  uploads.addEventListener("change", () => chosen.setCustomValidity(""));

  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = entries.length ? [] : [...event.dataTransfer.files].map((file) => ({ file, name: file.name }));
    panel.add(plain, "ask");
    let folders = 0;
    for (const entry of entries) {
      for await (const found of entriesIn(entry, "")) {
        if (found.folder) {
          await makeFolder(found.folder);
          folders += 1;
        } else panel.add([found], "ask");
      }
    }
    if (folders && !panel.section) refresh();
  });
  addEventListener("beforeunload", (event) => {
    if (panel.transfers.some((one) => ["running", "waiting"].includes(one.state))) event.preventDefault();
  });
}

showTimes(document);
watchSelection();
countDown();
