// The reviewer's desk: what the draft's editor allows follows what is in it, and digits choose a reason.
const wire = () => {
  const editor = document.getElementById("text"), approve = document.getElementById("approve"), edited = document.getElementById("send-edited");
  if (!editor || !approve || editor.dataset.wired) return;
  editor.dataset.wired = "yes";
  const draft = editor.defaultValue.trim();
  const follow = () => {
    const same = editor.value.trim() === draft;
    approve.disabled = !same;
    edited.disabled = same;
    approve.classList.toggle("main", same);
    edited.classList.toggle("main", !same);
  };
  editor.addEventListener("input", follow);
  follow();
};
wire();
document.addEventListener("htmx:afterSettle", wire);

document.addEventListener("keydown", (event) => {
  const reject = document.getElementById("reject");
  if (!reject?.open || event.target.closest("textarea, input:not([type=radio])") || event.ctrlKey || event.metaKey || event.altKey) return;
  const radio = reject.querySelector(`input[data-digit="${CSS.escape(event.key)}"]`);
  if (radio) { event.preventDefault(); radio.checked = true; radio.focus(); }
});

// Nothing that was written is lost by closing the page.
addEventListener("beforeunload", (event) => {
  if (document.body.dataset.sending) return;
  const changed = [...document.querySelectorAll("#decide textarea")].some((field) => field.value.trim() !== field.defaultValue.trim());
  if (changed) event.preventDefault();
});
document.addEventListener("submit", () => { document.body.dataset.sending = "yes"; });
