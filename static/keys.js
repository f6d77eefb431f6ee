// One key for what is done all day. An element says its key in data-key; the help dialog lists what the page offers.
const typing = (element) => element.closest("input, textarea, select, [contenteditable]");
const off = () => document.documentElement.dataset.keys === "off";
const visible = (element) => element.checkVisibility?.() ?? element.offsetParent !== null;
const label = (element) => element.dataset.says || element.getAttribute("aria-label") || element.title || element.textContent.replace(/\s+/g, " ").trim().replace(/ \S{1,6}$/, "");

const move = (by) => {
  const rows = [...document.querySelectorAll("a.whole")].filter(visible);
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(rows.length - 1, Math.max(0, at + by))].focus();
  return true;
};

const act = (element) => (element.matches("input:not([type=radio]), textarea, select") ? element.focus() : element.click());

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && typing(event.target)) event.target.blur();
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    const form = event.target.closest("form");
    const button = form?.querySelector("[data-submit]");
    if (button) { event.preventDefault(); button.click(); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || off() || typing(event.target) || document.querySelector("dialog[open]")) return;
  const wanted = [...document.querySelectorAll(`[data-key="${CSS.escape(event.key)}"]`)].find((element) => visible(element) && !element.disabled);
  if (wanted) { event.preventDefault(); act(wanted); }
  else if (event.key === "j" || event.key === "k") { if (move(event.key === "j" ? 1 : -1)) event.preventDefault(); }
});

const help = () => {
  const list = document.querySelector("#help dl");
  const rows = [["Ctrl K", "Go to anything"], ["j / k", "Next or previous row"], ["Esc", "Leave a field"], ["Ctrl Enter", "Send what is being written"]];
  for (const element of document.querySelectorAll("[data-key]")) if (visible(element)) rows.push([element.dataset.key === "Enter" ? "↵" : element.dataset.key, label(element)]);
  list.replaceChildren(...rows.flatMap(([key, says]) => {
    const dt = document.createElement("dt"), kbd = document.createElement("kbd"), dd = document.createElement("dd");
    kbd.className = "key"; kbd.textContent = key; dt.append(kbd); dd.textContent = says;
    return [dt, dd];
  }));
};

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) {
    if (opener.dataset.opens === "help") help();
    document.getElementById(opener.dataset.opens)?.showModal();
  }
  // A control that reveals a form, e.g. the reasons of a rejection.
  const reveal = event.target.closest("[data-reveals]");
  if (reveal) {
    event.preventDefault();
    const box = document.getElementById(reveal.dataset.reveals);
    for (const other of document.querySelectorAll("[data-reveal-group]")) if (other !== box) other.removeAttribute("open");
    if (box.tagName === "DETAILS") box.open = true; else box.hidden = false;
    box.scrollIntoView({ block: "nearest" });
    box.querySelector("textarea, input:not([type=hidden]), button")?.focus();
  }
});
