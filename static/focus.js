// Keeps focus and the caret over HTMX swaps, and says when the link to the server is lost.
let kept = null;

document.addEventListener("htmx:beforeSwap", (event) => {
  const active = document.activeElement;
  kept = null;
  if (!active?.id || !event.detail.target.contains(active)) return;
  kept = { id: active.id, start: active.selectionStart ?? null, end: active.selectionEnd ?? null };
});

document.addEventListener("htmx:afterSettle", () => {
  if (!kept) return;
  const element = document.getElementById(kept.id);
  if (element && element !== document.activeElement) {
    element.focus({ preventScroll: true });
    if (kept.start !== null && element.setSelectionRange) element.setSelectionRange(kept.start, kept.end);
  }
  kept = null;
});

// 409 and 422 carry a page that explains itself: show it.
document.addEventListener("htmx:beforeSwap", (event) => {
  if ([409, 422].includes(event.detail.xhr.status)) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

// What is open under somebody's hand is not redrawn by a clock; the next round brings the news.
document.addEventListener("htmx:beforeRequest", (event) => {
  const polls = event.detail.elt.getAttribute("hx-trigger")?.startsWith("every");
  if (polls && event.detail.elt.querySelector("details.pop[open]")) event.preventDefault();
});

const lost = () => document.getElementById("link-lost");
document.addEventListener("htmx:sendError", () => {
  const badge = lost();
  if (!badge || !badge.hidden) return;
  badge.querySelector("time").textContent = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  badge.hidden = false;
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && lost()) lost().hidden = true;
});

// What only works with scripts shows itself, and what replaces it steps back.
document.documentElement.dataset.scripts = "on";
for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;

// A toast leaves when it has been read; one with an action waits for its time.
const dismiss = () => {
  for (const toast of document.querySelectorAll(".toast:not([data-leaving])")) {
    toast.dataset.leaving = "";
    setTimeout(() => toast.remove(), Number(toast.dataset.for ?? 7) * 1000);
  }
};
dismiss();
document.addEventListener("htmx:afterSettle", dismiss);
