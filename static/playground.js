// Enter sends, Shift+Enter breaks the line; the newest message stays in sight; a suggestion fills the field.
document.addEventListener("keydown", (event) => {
  if (event.target.id !== "message" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (event.target.value.trim()) event.target.form.requestSubmit();
});
document.addEventListener("click", (event) => {
  const suggestion = event.target.closest("[data-suggestion]");
  if (!suggestion) return;
  const field = document.getElementById("message");
  field.value = suggestion.textContent.trim();
  field.focus();
});
document.addEventListener("change", (event) => {
  if (event.target.closest("#choice")) event.target.form.requestSubmit();
});
const last = () => { const chat = document.querySelector(".bench-chat"); if (chat) chat.scrollTop = chat.scrollHeight; };
// What is being typed while the page polls is kept.
let typed = "";
document.addEventListener("htmx:beforeSwap", (event) => {
  typed = event.detail.requestConfig?.verb === "get" ? (document.getElementById("message")?.value ?? "") : "";
});
document.addEventListener("htmx:afterSwap", () => { const field = document.getElementById("message"); if (field && typed) field.value = typed; });
document.addEventListener("htmx:afterSettle", () => { last(); if (document.activeElement === document.body) document.getElementById("message")?.focus({ preventScroll: true }); });
last();
