// Ctrl+K: go to any screen, scope, release or case.
const dialog = document.getElementById("palette");

if (dialog) {
  const input = dialog.querySelector("input"), list = dialog.querySelector("ul");
  let places = [], chosen = 0;

  const fits = (place, words) => words.every((word) => `${place.label} ${place.kind}`.toLowerCase().includes(word));
  const draw = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = places.filter((place) => fits(place, words)).slice(0, 30);
    if (words.length) found.push({ label: `Search conversations for “${input.value}”`, kind: "", url: `${list.dataset.search}?q=${encodeURIComponent(input.value)}`, icon: "search" });
    chosen = 0;
    list.replaceChildren(...found.map((place, n) => {
      const li = document.createElement("li"), a = document.createElement("a"), kind = document.createElement("small");
      li.role = "option"; li.ariaSelected = String(n === 0); a.href = place.url; a.tabIndex = -1;
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS("http://www.w3.org/2000/svg", "use");
      svg.setAttribute("class", "icon"); use.setAttribute("href", `#i-${place.icon}`); svg.append(use);
      kind.textContent = place.kind; a.append(svg, place.label, kind); li.append(a);
      return li;
    }));
  };
  const choose = (by) => {
    const items = [...list.children];
    chosen = Math.min(items.length - 1, Math.max(0, chosen + by));
    items.forEach((item, n) => { item.ariaSelected = String(n === chosen); if (n === chosen) item.scrollIntoView({ block: "nearest" }); });
  };
  const open = async () => {
    dialog.showModal();
    input.value = "";
    if (!places.length) {
      const answer = await fetch(list.dataset.from, { headers: { accept: "application/json" } });
      if (answer.ok) ({ places } = await answer.json());
    }
    draw();
  };

  input.addEventListener("input", draw);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); choose(event.key === "ArrowDown" ? 1 : -1); }
    if (event.key === "Enter") { event.preventDefault(); list.children[chosen]?.querySelector("a")?.click(); }
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); dialog.open ? dialog.close() : open(); }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-opens=palette]")) { event.stopImmediatePropagation(); if (!dialog.open) open(); }
  }, true);
}
