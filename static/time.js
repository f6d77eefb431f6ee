// Relative times stay true without asking the server.
const steps = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const lang = document.documentElement.lang || "en";
const words = new Intl.RelativeTimeFormat(lang, { numeric: "always", style: "narrow" });
const now = new Intl.RelativeTimeFormat(lang, { numeric: "auto" }).format(0, "second");

const refresh = () => {
  for (const element of document.querySelectorAll("time[data-ago]")) {
    const distance = (new Date(element.dateTime) - Date.now()) / 1000;
    const [unit, size] = steps.find(([, seconds]) => Math.abs(distance) >= seconds) ?? steps.at(-1);
    element.textContent = Math.abs(distance) < 1 ? now : words.format(Math.trunc(distance / size), unit);
    element.closest(".mark[data-tone='neutral']:has(use[href='#i-clock'])")?.setAttribute("data-tone", distance < 0 ? "bad" : distance < 300 ? "attention" : "neutral");
  }
  for (const element of document.querySelectorAll("[data-until]")) {
    const left = Math.max(0, Math.ceil((new Date(element.dataset.until) - Date.now()) / 1000));
    element.textContent = left;
    if (!left) element.closest("[data-gone-at-zero]")?.remove();
  }
};
refresh();
setInterval(refresh, 1000);
document.addEventListener("htmx:afterSettle", refresh);
