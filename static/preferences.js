// Theme, menu width and keys: kept in a cookie, applied at once. Without scripts the same buttons post a form.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-preference]");
  if (!button) return;
  event.preventDefault();
  const { name, value } = button, root = document.documentElement;
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax`;
  if (value && value !== "on") root.dataset[name] = value; else delete root.dataset[name];
  if (name === "theme") for (const other of document.querySelectorAll("button[name=theme]")) other.setAttribute("aria-pressed", other === button);
  if (name === "rail") button.value = value === "icons" ? "wide" : "icons";
  if (name === "keys") location.reload();
  document.dispatchEvent(new CustomEvent("pilothouse:theme"));
});
