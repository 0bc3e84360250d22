// Follows what happens on the operators' first page; without this script, "Reload" does. The server makes all HTML.
"use strict";

const live = document.getElementById("live");
const AGAIN = 5000; // milliseconds until a stream is asked for again that was refused

function replace(id, html) {
  const section = document.getElementById(id);
  if (!section) {
    return;
  }
  const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = Array.from(section.querySelectorAll(".scrolls"), (one) => one.scrollLeft);
  section.innerHTML = html;
  section.querySelectorAll(".scrolls").forEach((one, number) => {
    one.scrollLeft = scrolled[number] || 0;
  });
  if (focused && document.getElementById(focused)) {
    document.getElementById(focused).focus({ preventScroll: true });
  }
}

function follow() {
  const source = new EventSource(document.body.dataset.stream);
  source.addEventListener("open", () => {
    live.textContent = "Live.";
  });
  source.addEventListener("sections", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) {
      replace(id, html);
    }
  });
  source.addEventListener("over", () => {
    source.close();
    location.reload();
  });
  source.addEventListener("error", () => {
    live.textContent = "Not live: ";
    const again = document.createElement("a");
    again.href = "";
    again.textContent = "reload";
    live.append(again, ".");
    if (source.readyState === EventSource.CLOSED) {
      // It was refused, because too many pages follow; otherwise the browser asks again by itself.
      setTimeout(follow, AGAIN);
    }
  });
}

follow();
